//! The account: closed = sent + queued + dropped.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many spans were closed, and what became of them.
///
/// At rest, that is while no span is just being sent, `closed` is the sum of all others.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Spans begun and closed while a socket was set.
    pub closed: u64,
    /// Spans that the socket took.
    pub sent: u64,
    /// Spans waiting to be sent.
    pub queued: u64,
    /// Spans that never left.
    pub dropped: Dropped,
}

/// Spans that never left, by reason.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Dropped {
    /// Nobody was listening at the socket.
    pub no_receiver: u64,
    /// The receiver did not keep up.
    pub queue_full: u64,
    /// The datagram was larger than the socket takes.
    pub too_large: u64,
    /// The operating system gave another reason, which was reported.
    pub other: u64,
    /// The sampler left the trace out. No loss, and not reported as one in the stream.
    pub sampled_out: u64,
}

impl Dropped {
    /// All reasons together.
    pub fn total(&self) -> u64 {
        self.lost() + self.sampled_out
    }

    /// What the receiver should have got.
    pub(super) fn lost(&self) -> u64 {
        self.losses().iter().map(|(_, spans)| spans).sum()
    }

    /// The same by reason, each under its name in the stream.
    pub(super) fn losses(&self) -> [(&'static str, u64); 4] {
        [
            ("no_receiver", self.no_receiver),
            ("queue_full", self.queue_full),
            ("too_large", self.too_large),
            ("other", self.other),
        ]
    }
}

/// What became of a closed span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Sent,
    NoReceiver,
    QueueFull,
    TooLarge,
    Other,
    SampledOut,
}

/// [`Stats`] as they are being counted.
#[derive(Default)]
pub(super) struct Counters {
    closed: AtomicU64,
    sent: AtomicU64,
    no_receiver: AtomicU64,
    queue_full: AtomicU64,
    too_large: AtomicU64,
    other: AtomicU64,
    sampled_out: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Sent => &self.sent,
            Outcome::NoReceiver => &self.no_receiver,
            Outcome::QueueFull => &self.queue_full,
            Outcome::TooLarge => &self.too_large,
            Outcome::Other => &self.other,
            Outcome::SampledOut => &self.sampled_out,
        };
        self.closed.fetch_add(1, Ordering::Relaxed);
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            closed: get(&self.closed),
            sent: get(&self.sent),
            queued: 0,
            dropped: Dropped {
                no_receiver: get(&self.no_receiver),
                queue_full: get(&self.queue_full),
                too_large: get(&self.too_large),
                other: get(&self.other),
                sampled_out: get(&self.sampled_out),
            },
        }
    }

    /// A forked child has closed nothing yet.
    pub(super) fn reset(&self) {
        for counter in [
            &self.closed,
            &self.sent,
            &self.no_receiver,
            &self.queue_full,
            &self.too_large,
            &self.other,
            &self.sampled_out,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}
