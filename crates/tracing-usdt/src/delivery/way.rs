//! Where datagrams go: to the socket, or to the consumers of the probe `batch_emit`.

use std::path::Path;
use std::time::Duration;

use super::socket::Socket;
use super::stats::{Dropped, Outcome};
use crate::error::Reporter;
use crate::probes::{self, Probe};

pub(super) enum Way {
    Socket(Socket),
    /// The probe `batch_emit`. Its consumer reads the datagram in the memory of this process while the probe is hit,
    /// so there is no queue that could be full.
    Probe,
}

impl Way {
    /// Sends a datagram that tells of `spans` spans. Waits up to `max_wait` while the receiver's queue is full.
    pub(super) fn send(
        &self,
        datagram: &[u8],
        spans: u64,
        max_wait: Duration,
        reporter: &Reporter,
    ) -> Outcome {
        match self {
            Self::Socket(socket) => socket.send(datagram, max_wait, reporter),
            Self::Probe if probes::attached(Probe::BatchEmit) => {
                probes::batch_emit(&probes::BatchEmit { batch: datagram, spans });
                Outcome::Sent
            }
            Self::Probe => Outcome::NoReceiver,
        }
    }

    pub(super) fn has_receiver(&self, reporter: &Reporter) -> bool {
        match self {
            Self::Socket(socket) => socket.is_connected(reporter),
            Self::Probe => probes::attached(Probe::BatchEmit),
        }
    }

    /// Whether there is a receiver, as far as is known without an attempt to connect.
    pub(super) fn has_known_receiver(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.was_connected(),
            Self::Probe => probes::attached(Probe::BatchEmit),
        }
    }

    /// Whether a receiver may come without anything that wakes the sender thread: a new span does so for a consumer of the
    /// probe.
    pub(super) fn may_be_asked(&self) -> bool {
        self.keeps_for_later() || self.has_known_receiver()
    }

    /// Whether spans may wait for a receiver that comes later. A socket's receiver may be restarting. A consumer of
    /// the probe that comes later has not asked for spans from before.
    pub(super) fn keeps_for_later(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// The least time between two reports of losses. A consumer of the probe may wait for a last report before it detaches.
    pub(super) fn report_interval_ns(&self) -> u64 {
        match self {
            Self::Socket(_) => 1_000_000_000,
            Self::Probe => 50_000_000,
        }
    }

    /// The losses of which a receiver has to know. Nobody misses what was closed while the probe had no consumer.
    pub(super) fn missed_by_receiver(&self, losses: Dropped) -> Dropped {
        match self {
            Self::Socket(_) => losses,
            Self::Probe => Dropped { no_receiver: 0, ..losses },
        }
    }

    /// Tries to connect at the next datagram, even if the last attempt was recent.
    pub(super) fn retry_at_once(&self) {
        if let Self::Socket(socket) = self {
            socket.retry_at_once();
        }
    }

    /// Reports that the socket takes no datagram of this size.
    pub(super) fn report_too_large(&self, bytes: usize, reporter: &Reporter) {
        if let Self::Socket(socket) = self {
            socket.report_too_large(bytes, reporter);
        }
    }

    /// The path of the socket.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Socket(socket) => Some(socket.path()),
            Self::Probe => None,
        }
    }
}
