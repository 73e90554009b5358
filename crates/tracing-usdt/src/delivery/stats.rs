//! The account: closed = sent + queued + dropped.

use std::sync::atomic::{AtomicU64, Ordering};

use super::outlet::Told;
use crate::encode::{Sequence, hex};
use crate::thread;

/// How many spans were closed, and what became of them.
///
/// At rest, that is while no span is just being sent, `closed` is the sum of all others.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Spans begun and closed while a socket was set, or open at the end of the program. Of a trace that is not sampled,
    /// those that began.
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
    /// Open when the layer was taken out of the subscriber, by `reload`: nobody hears of their end.
    pub abandoned: u64,
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
    pub(super) fn losses(&self) -> [(&'static str, u64); 5] {
        [
            ("no_receiver", self.no_receiver),
            ("queue_full", self.queue_full),
            ("too_large", self.too_large),
            ("other", self.other),
            ("abandoned", self.abandoned),
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
    Abandoned,
}

/// [`Stats`] as they are being counted, by one layer in one process.
pub(super) struct Counters {
    /// The layer's name in each datagram's [`Sequence`].
    sender: [u8; 16],
    closed: AtomicU64,
    /// By [`Outcome`].
    ended: [AtomicU64; 6],
    /// Spans of traces that are not sampled. All threads count them, and do little else for them, so they
    /// must not wait for each other: each has a place of its own, as far as these go.
    left_out: [Line; 16],
}

/// A cache line, or the two that some processors fetch together.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            sender: hex(thread::random()),
            closed: AtomicU64::new(0),
            ended: Default::default(),
            left_out: Default::default(),
        }
    }

    /// Counts spans that were closed and have ended so.
    pub(super) fn close(&self, outcome: Outcome, spans: u64) {
        self.closed.fetch_add(spans, Ordering::Relaxed);
        self.end(outcome, spans);
    }

    /// Counts a span of a trace that is not sampled.
    #[inline]
    pub(super) fn leave_out(&self) {
        self.left_out[thread::number() % self.left_out.len()].0.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts spans that have ended so.
    pub(super) fn end(&self, outcome: Outcome, spans: u64) {
        // After the socket took them: see `sequence`.
        self.ended[outcome as usize].fetch_add(spans, Ordering::Release);
    }

    /// Where a datagram of so many spans stands that the caller sends next. What the socket has taken is ahead of it in
    /// the receiver's queue: so the receiver gets that before, or never.
    pub(super) fn sequence(&self, spans: u64, told: &Told) -> Sequence {
        let sent_before = self.ended[Outcome::Sent as usize].load(Ordering::Acquire);
        Sequence { sender: self.sender, sent_before, spans, lost_before: told.total() }
    }

    /// Without those that are queued.
    pub(super) fn read(&self) -> Stats {
        let ended = |outcome: Outcome| self.ended[outcome as usize].load(Ordering::Relaxed);
        let sampled_out = self.left_out.iter().map(|line| line.0.load(Ordering::Relaxed)).sum();
        Stats {
            closed: self.closed.load(Ordering::Relaxed) + sampled_out,
            sent: ended(Outcome::Sent),
            queued: 0,
            dropped: Dropped {
                no_receiver: ended(Outcome::NoReceiver),
                queue_full: ended(Outcome::QueueFull),
                too_large: ended(Outcome::TooLarge),
                other: ended(Outcome::Other),
                abandoned: ended(Outcome::Abandoned),
                sampled_out,
            },
        }
    }
}
