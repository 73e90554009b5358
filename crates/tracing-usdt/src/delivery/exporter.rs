//! The two deliveries behind one type.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::background::{Background, NeedsWake};
use super::inline::Inline;
use super::long_open::LongOpenSpans;
use super::outlet::Outlet;
use super::socket::Socket;
use super::stats::Stats;
use super::way::Way;
use super::{at_exit, in_use};
use crate::encode::{Encoder, Format};
use crate::error::{Error, FlushError, Reporter};
use crate::span::{ClosedSpan, OpenSpansView};

/// How a closed span gets to the socket.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// The span goes to bounded memory. A thread sends what has gathered there, within about 20 ms and many
    /// spans in one datagram. The thread starts with the first span.
    #[default]
    Background,
    /// The span is sent before its close returns, in a datagram of its own. It has then left the process,
    /// even if the next instruction is `abort()`.
    Inline,
}

/// Whether the delivery has reports of open spans. Reports an error if it has not.
fn can_report_open_spans(delivery: Delivery, encoder: &Encoder, reporter: &Reporter) -> bool {
    let reason = match (delivery, encoder.format()) {
        (Delivery::Inline, _) => "inline delivery has no thread that could look at them",
        (_, Format::Zipkin) => "Zipkin's format can't tell an open span from one that has ended",
        (Delivery::Background, Format::OtlpJson | Format::OtlpProtobuf) => return true,
    };
    reporter.report(Error::OpenSpans { reason });
    false
}

/// The delivery of one layer.
#[derive(Clone)]
pub(crate) enum Exporter {
    Background(Arc<Background>),
    Inline(Arc<Inline>),
}

impl Exporter {
    /// Opens a delivery to the socket at `path`. On a platform without Unix sockets, reports an error and
    /// returns `None`.
    pub(crate) fn open(
        delivery: Delivery,
        path: PathBuf,
        max_wait: Duration,
        encoder: Arc<Encoder>,
        reporter: Arc<Reporter>,
        open_spans: OpenSpansView,
        threshold: Option<Duration>,
    ) -> Option<Self> {
        let way = Way::Socket(Socket::open(path, &reporter)?);
        let long_open = threshold.filter(|_| can_report_open_spans(delivery, &encoder, &reporter));
        let spans = open_spans.clone();
        let long_open = long_open.map(|threshold| LongOpenSpans { spans, threshold, with_unsampled: false });
        let outlet = Outlet { way, encoder, reporter, max_wait, unfinished: Some(open_spans), long_open };
        let exporter = match delivery {
            Delivery::Background => Self::Background(Arc::new(Background::new(outlet))),
            Delivery::Inline => Self::Inline(Arc::new(Inline::new(outlet))),
        };
        match &exporter {
            Self::Background(background) => in_use::add(background),
            Self::Inline(inline) => in_use::add(inline),
        }
        at_exit::prepare();
        Some(exporter)
    }

    /// Looks at the open spans of this process from now on, if they are to be reported. That takes the sender thread.
    pub(crate) fn watch(&self) {
        match self {
            Self::Background(background) if background.outlet.long_open.is_some() && background.is_idle() => {
                background.wake();
            }
            Self::Background(_) | Self::Inline(_) => {}
        }
    }

    /// The format of datagrams.
    #[cfg(test)]
    pub(crate) fn format(&self) -> crate::encode::Format {
        match self {
            Self::Background(background) => background.outlet.encoder.format(),
            Self::Inline(inline) => inline.outlet.encoder.format(),
        }
    }

    /// Takes a closed span if that takes some instructions only: no system call, and no memory. Then the caller must pass
    /// the result to [`finish_send`](Self::finish_send).
    #[inline(always)]
    pub(crate) fn try_send(&self, span: &ClosedSpan<'_>) -> Option<NeedsWake> {
        match self {
            Self::Background(background) => background.try_send(span),
            Self::Inline(_) => None,
        }
    }

    #[inline]
    pub(crate) fn finish_send(&self, NeedsWake(needs_wake): NeedsWake) {
        if let (true, Self::Background(background)) = (needs_wake, self) {
            background.wake();
        }
    }

    /// Takes a closed span.
    #[inline]
    pub(crate) fn send(&self, span: &ClosedSpan<'_>) {
        match self {
            Self::Background(background) => background.send(span),
            Self::Inline(inline) => inline.send(span),
        }
    }

    /// Counts a span of a trace that is not sampled.
    #[inline]
    pub(crate) fn count_sampled_out(&self) {
        match self {
            Self::Background(background) => background.count_sampled_out(),
            Self::Inline(inline) => inline.count_sampled_out(),
        }
    }

    /// Counts open spans that the layer will not see close.
    pub(crate) fn abandon(&self, spans: u64) {
        match self {
            Self::Background(background) => background.abandon(spans),
            Self::Inline(inline) => inline.abandon(spans),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        match self {
            Self::Background(background) => background.stats(),
            Self::Inline(inline) => inline.stats(),
        }
    }

    /// Returns when every span that was closed before the call has been sent or dropped, or after `timeout`.
    pub(crate) fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        match self {
            Self::Background(background) => background.flush(timeout),
            Self::Inline(_) => Ok(()),
        }
    }

    /// Sends what is queued; no more spans come.
    pub(crate) fn close(&self) {
        match self {
            Self::Background(background) => background.close(),
            Self::Inline(inline) => inline.finish(),
        }
    }
}
