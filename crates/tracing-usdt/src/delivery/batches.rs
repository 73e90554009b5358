//! The delivery to consumers of the probe `batch_emit`: background delivery of its own, beside the one to the socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use once_cell::race::OnceBox;

use super::background::Background;
use super::long_open::LongOpenSpans;
use super::outlet::Outlet;
use super::stats::Stats;
use super::way::Way;
use super::{at_exec, at_exit, in_use};
use crate::encode::Encoder;
use crate::error::{FlushError, Reporter};
use crate::span::{ClosedSpan, OpenSpansView};

/// The batches of one layer. They take no memory and no thread before the first span that a consumer gets.
pub(crate) struct Batches {
    /// Of any format: the one for batches is made of it.
    encoder: Arc<Encoder>,
    reporter: Arc<Reporter>,
    /// How long a closing thread may wait for room.
    max_wait: Duration,
    open_spans: OpenSpansView,
    /// A span that is open for so long is reported.
    threshold: Duration,
    /// Not a `OnceLock`, on which a forked child could wait for ever; see `PerProcess`.
    background: OnceBox<Arc<Background>>,
    /// A thread makes the rings, which may have 16 MiB.
    is_beginning: AtomicBool,
}

impl Batches {
    pub(crate) fn new(
        encoder: Arc<Encoder>,
        reporter: Arc<Reporter>,
        max_wait: Duration,
        open_spans: OpenSpansView,
        threshold: Duration,
    ) -> Self {
        // Now, because the first span of a consumer may be that of a forked child, in which neither is safe.
        at_exec::watch();
        at_exit::prepare();
        let (background, is_beginning) = (OnceBox::new(), AtomicBool::new(false));
        Self { encoder, reporter, max_wait, open_spans, threshold, background, is_beginning }
    }

    /// Takes a closed span. Not inlined, so that the path to the socket stays short.
    #[inline(never)]
    pub(crate) fn send(&self, span: &ClosedSpan<'_>) {
        match self.background.get() {
            Some(background) => background.send(span),
            None => self.begin().send(span),
        }
    }

    /// Looks at the open spans from now on. To be called for each new span while the probe has a consumer.
    #[inline]
    pub(crate) fn watch(&self) {
        let background = self.background.get();
        if background.is_none_or(|background| background.is_idle()) {
            self.begin_to_watch();
        }
    }

    #[cold]
    fn begin_to_watch(&self) {
        self.begin().wake();
    }

    #[cold]
    fn begin(&self) -> &Arc<Background> {
        if self.is_beginning.swap(true, Ordering::Relaxed) {
            // Another thread is making the rings. In a forked child it may not exist, so this waits for a moment only.
            for _ in 0..1000 {
                if let Some(background) = self.background.get() {
                    return background;
                }
                std::thread::yield_now();
            }
        }
        let outlet = Outlet {
            way: Way::Probe,
            encoder: Arc::new(self.encoder.for_batches()),
            reporter: Arc::clone(&self.reporter),
            max_wait: self.max_wait,
            unfinished: None,
            long_open: Some(LongOpenSpans {
                spans: self.open_spans.clone(),
                threshold: self.threshold,
                with_unsampled: true,
            }),
        };
        let background = Arc::new(Background::new(outlet));
        // If another thread was faster, this one is dropped unused, and from the list, too.
        in_use::add(&background);
        let _ = self.background.set(Box::new(background));
        self.background.get().unwrap_or_else(|| unreachable!("it was set above"))
    }

    pub(crate) fn stats(&self) -> Stats {
        self.background.get().map(|background| background.stats()).unwrap_or_default()
    }

    /// Returns when every span that was closed before the call has been sent or dropped, or after `timeout`.
    pub(crate) fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        self.background.get().map_or(Ok(()), |background| background.flush(timeout))
    }

    /// Sends what is queued; no more spans come.
    pub(crate) fn close(&self) {
        if let Some(background) = self.background.get() {
            background.close();
        }
    }
}
