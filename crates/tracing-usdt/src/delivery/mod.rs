//! From closed spans to the socket, and the account of what got there.
//!
//! `inline` sends each span before its close returns; `background` puts it into a `ring`, out of which
//! a thread sends many at a time. `outlet` is where both send, and where losses are told; `socket`
//! connects and reconnects, `waiting` has the threads that wait for room, `stats` counts, `at_exit` sends the
//! last when the program ends, and with it what is `unfinished`; `at_exec` waits where it becomes another program.

mod at_exec;
mod at_exit;
mod background;
mod inline;
mod outlet;
mod ring;
#[cfg_attr(not(unix), path = "socket_none.rs")]
mod socket;
mod stats;
mod sync;
mod unfinished;
mod waiting;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use stats::{Dropped, Stats};

use crate::encode::Encoder;
use crate::error::{Error, Reporter};
use crate::span::ClosedSpan;
use crate::spans::Unfinished;
use background::Background;
use inline::Inline;
use outlet::{Outlet, Undelivered};
use ring::Rung;
use socket::Socket;

/// A datagram holds as many spans as fit, or a single greater one.
const DATAGRAM_BYTES: usize = 32 * 1024;

/// How a closed span gets to the socket.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// It goes to bounded memory, and a thread sends what has gathered there, many spans to a
    /// datagram, within 100 ms. The thread starts with the first span.
    #[default]
    Background,
    /// It is sent before its close returns, in a datagram of its own: what is closed has left the
    /// process, even if the next instruction is `abort()`.
    Inline,
}

/// A delivery at work.
pub(crate) enum Carrier {
    Background(Background),
    Inline(Inline),
}

impl Carrier {
    /// To the socket at `path`; `None` on a platform that has none, which is reported.
    pub(crate) fn open(
        delivery: Delivery,
        path: PathBuf,
        max_wait: Duration,
        encoder: Arc<Encoder>,
        reporter: Arc<Reporter>,
        unfinished: Unfinished,
    ) -> Option<Arc<Self>> {
        let socket = Socket::open(path, &reporter)?;
        let outlet = Outlet { socket, encoder, reporter, max_wait, unfinished };
        let carrier = Arc::new(match delivery {
            Delivery::Background => Self::Background(Background::new(outlet)),
            Delivery::Inline => Self::Inline(Inline::new(outlet)),
        });
        at_exit::register(&carrier);
        Some(carrier)
    }

    /// Takes a closed span. A background delivery needs its `Arc`, to hand it to its thread.
    #[inline]
    pub(crate) fn send(self: &Arc<Self>, span: &ClosedSpan<'_>) {
        match &**self {
            Self::Background(background) => {
                if background.send(span) == Rung::NeedsThread {
                    background::start(self);
                }
            }
            Self::Inline(inline) => inline.send(span),
        }
    }

    /// Counts a span of a trace that is not sampled.
    #[inline]
    pub(crate) fn leave_out(&self) {
        match self {
            Self::Background(background) => background.leave_out(),
            Self::Inline(inline) => inline.leave_out(),
        }
    }

    /// Counts spans that will never close, as far as this layer can tell.
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

    /// Returns when all that was closed before has been sent or dropped, or after `timeout`.
    pub(crate) fn flush(&self, timeout: Duration) -> Result<(), Error> {
        match self {
            Self::Background(background) => background.flush(timeout),
            Self::Inline(_) => Ok(()),
        }
    }

    /// No more spans will come.
    pub(crate) fn close(&self) {
        match self {
            Self::Background(background) => background.close(),
            Self::Inline(inline) => inline.finish(),
        }
    }

    /// The one that has a thread, to which `exec` would come too early.
    fn background(&self) -> Option<&Background> {
        match self {
            Self::Background(background) => Some(background),
            Self::Inline(_) => None,
        }
    }

    /// The time that the end may take begins.
    fn begin_to_finish(&self) {
        if let Self::Background(background) = self {
            background.begin_to_finish();
        }
    }

    /// The program ends, and no callback may be called any more to hear of problems. `None` if this process has used no
    /// part of the carrier.
    fn finish_at_exit(&self) -> Option<Undelivered<'_>> {
        match self {
            Self::Background(background) => background.finish_at_exit(),
            Self::Inline(inline) => inline.finish_at_exit(),
        }
    }
}

/// `span` as it comes out of a ring.
#[cfg(test)]
pub(crate) fn through_a_ring<T>(span: &ClosedSpan<'_>, read: impl FnOnce(&ClosedSpan<'_>) -> T) -> T {
    let (ring, bell) = (ring::Ring::<{ 1 << 15 }>::new(), ring::Bell::new());
    wire::write(span, |header, parts| ring.write(header, parts, true, &bell))
        .expect("an empty ring has room");
    let (reading, mut record) = (ring.try_read().expect("nobody else reads"), Vec::new());
    let end = reading.copy(reading.start(), &mut record);
    assert_eq!(end, reading.end());
    wire::read(&record, read).expect("what was written")
}
