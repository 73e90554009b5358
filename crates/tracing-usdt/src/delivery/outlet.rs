//! Where both deliveries send, and where losses are told in the stream.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::socket::Socket;
use super::stats::{Counters, Dropped, Outcome, Stats};
use crate::clock::{Monotonic, wall_offset};
use crate::context::{Ids, TraceId};
use crate::encode::{Encoder, Losses};
use crate::error::Reporter;
use crate::spans::Unfinished;

/// Losses are told at most this often.
const TELL_NS: u64 = 1_000_000_000;

pub(super) struct Outlet {
    pub(super) socket: Socket,
    pub(super) encoder: Arc<Encoder>,
    pub(super) reporter: Arc<Reporter>,
    /// How long a closing thread may wait for room.
    pub(super) max_wait: Duration,
    /// What is still open.
    pub(super) unfinished: Unfinished,
}

impl Outlet {
    pub(super) fn send(&self, datagram: &[u8], max_wait: Duration) -> Outcome {
        self.socket.send(datagram, max_wait, &self.reporter)
    }

    /// The same; where the receiver's queue is full, `patience` says how long to wait, again and again until it says
    /// `None`.
    pub(super) fn send_patiently(&self, datagram: &[u8], patience: &dyn Fn() -> Option<Duration>) -> Outcome {
        let mut outcome = self.send(datagram, Duration::ZERO);
        while outcome == Outcome::QueueFull {
            let Some(wait) = patience() else { break };
            outcome = self.send(datagram, wait);
        }
        outcome
    }

    /// The socket takes no datagram of so many bytes.
    pub(super) fn report_too_large(&self, bytes: usize) {
        self.socket.report_too_large(bytes, &self.reporter);
    }

    pub(super) fn has_receiver(&self) -> bool {
        self.socket.is_connected(&self.reporter)
    }

    /// How many spans were lost, if nobody knows: the receiver could not be told of all of them, or there never was one,
    /// and that has not been reported.
    pub(super) fn undelivered(&self, stats: Stats, told: &Told) -> Undelivered<'_> {
        let is_all_without_receiver = stats.dropped.no_receiver == stats.dropped.lost();
        let is_reported =
            stats.sent == 0 && is_all_without_receiver && self.reporter.has_reported_connect_here();
        let is_known = is_reported || self.knows(stats.dropped, told);
        let spans = if is_known { 0 } else { stats.dropped.lost() };
        Undelivered { spans, path: self.socket.path(), reporter: &self.reporter }
    }

    /// Whether the receiver knows of all losses.
    pub(super) fn knows(&self, losses: Dropped, told: &Told) -> bool {
        losses.lost() == told.total.load(Ordering::Relaxed)
    }

    /// Sends the losses that the receiver doesn't know of, unless it was told a moment ago and this
    /// is not the `last` time. What became of it, if there was something to tell.
    pub(super) fn tell(&self, counters: &Counters, told: &Told, last: bool) -> Option<Outcome> {
        let losses = counters.read().dropped;
        if self.knows(losses, told) {
            return None;
        }
        // A thread that is telling tells for all.
        let mut known = told.known.try_lock().ok()?;
        let now = Monotonic::of_kernel();
        if now.since(known.until) < TELL_NS && !last {
            return None;
        }
        let new: Vec<(&'static str, u64)> = losses
            .losses()
            .into_iter()
            .zip(known.losses.losses())
            .map(|((reason, all), (_, known))| (reason, all.saturating_sub(known)))
            .filter(|(_, spans)| *spans > 0)
            .collect();
        if new.is_empty() {
            return None;
        }
        let wall = wall_offset(now);
        let (trace_id, span_id) = TraceId::begin();
        let untold = Losses {
            context: Ids { trace_id, span_id, sampled: true, random: true },
            start_ns: wall.nanos(known.until),
            end_ns: wall.nanos(now),
            reasons: &new,
        };
        let mut datagram = Vec::new();
        self.encoder.open(&mut datagram);
        self.encoder.losses(&mut datagram, &untold);
        self.encoder.close(&mut datagram, Some(&counters.sequence(0, told)));
        // Without waiting: where there is no room it is told later, with what is lost until then.
        let outcome = self.send(&datagram, Duration::ZERO);
        if outcome == Outcome::Sent {
            *known = Known { losses, until: now };
            told.total.store(losses.lost(), Ordering::Release);
        }
        Some(outcome)
    }
}

/// What the end of the program left over.
pub(super) struct Undelivered<'a> {
    pub(super) spans: u64,
    pub(super) path: &'a Path,
    pub(super) reporter: &'a Reporter,
}

/// What the receiver knows of the losses of one process.
pub(super) struct Told {
    known: Mutex<Known>,
    /// Their sum: the one thing to look at while nothing is lost.
    total: AtomicU64,
}

struct Known {
    losses: Dropped,
    until: Monotonic,
}

impl Told {
    /// How many lost spans the receiver was told of, if it got all of that.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    pub(super) fn nothing() -> Self {
        let known = Known { losses: Dropped::default(), until: Monotonic::of_kernel() };
        Self { known: Mutex::new(known), total: AtomicU64::new(0) }
    }
}
