//! The counters of spans: closed = sent + queued + dropped.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::encode::Sequence;
use crate::json::hex;
use crate::process;
use crate::propagation::random;

/// How many spans were closed, sent, queued and dropped.
///
/// `closed` is the sum of the other counts, except while a span is being sent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Spans that were created and closed while a socket was set, and spans that were open when the program
    /// ended. Spans of traces that are not sampled count when they are created.
    pub closed: u64,
    /// Spans that the socket took.
    pub sent: u64,
    /// Spans that wait to be sent.
    pub queued: u64,
    /// Spans that were not sent, by reason.
    pub dropped: Dropped,
}

/// How many spans were not sent, by reason.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Dropped {
    /// No receiver was bound to the socket.
    pub no_receiver: u64,
    /// The receiver did not keep up.
    pub queue_full: u64,
    /// The datagram was larger than the socket takes.
    pub too_large: u64,
    /// The operating system refused the datagram for another reason, which was reported as an
    /// [`Error`](crate::Error).
    pub other: u64,
    /// The spans were open when `reload` took the layer out of the subscriber, so the layer does not see them
    /// close.
    pub abandoned: u64,
    /// The spans belong to traces that are not sampled. These are not lost, and not reported as lost in the
    /// stream.
    pub sampled_out: u64,
}

impl Dropped {
    /// The sum of all reasons.
    pub fn total(&self) -> u64 {
        self.lost() + self.sampled_out
    }

    /// How many spans are missing at the receiver: all reasons except `sampled_out`.
    pub(super) fn lost(&self) -> u64 {
        self.losses().iter().map(|(_, spans)| spans).sum()
    }

    /// The lost spans by reason, each with its name in the stream.
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

/// The counters behind [`Stats`], of one layer in one process.
pub(super) struct Counters {
    /// The sender id in the [`Sequence`] of each datagram.
    sender: [u8; 16],
    closed: AtomicU64,
    /// By [`Outcome`].
    ended: [AtomicU64; 6],
    /// Spans of traces that are not sampled. Counting is nearly all that such a span costs, so threads must
    /// not contend for one cache line: each counts in its own as long as there are no more than 16 threads.
    sampled_out: [Line; 16],
}

/// A cache line, or the two that some processors fetch together.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            sender: hex(random::random()),
            closed: AtomicU64::new(0),
            ended: Default::default(),
            sampled_out: Default::default(),
        }
    }

    /// Counts closed spans, and their outcome.
    pub(super) fn close(&self, outcome: Outcome, spans: u64) {
        self.closed.fetch_add(spans, Ordering::Relaxed);
        self.end(outcome, spans);
    }

    /// Counts a span of a trace that is not sampled.
    #[inline]
    pub(super) fn count_sampled_out(&self) {
        self.sampled_out[process::thread_number() % self.sampled_out.len()].0.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the outcome of spans that are already counted as closed.
    pub(super) fn end(&self, outcome: Outcome, spans: u64) {
        // Release: a thread that reads this count sends its datagram after these spans, see `sequence`.
        self.ended[outcome as usize].fetch_add(spans, Ordering::Release);
    }

    /// The place in the sequence of the datagram that the caller sends next, with `spans` spans. All spans
    /// that the socket has taken are ahead of it in the receiver's queue, so the receiver gets them earlier
    /// or never.
    pub(super) fn sequence(&self, spans: u64, lost_before: u64) -> Sequence {
        let sent_before = self.ended[Outcome::Sent as usize].load(Ordering::Acquire);
        Sequence { sender: self.sender, sent_before, spans, lost_before }
    }

    /// The stats, with `queued` 0: only the rings know what is queued.
    pub(super) fn read(&self) -> Stats {
        // Acquire: a span that has ended has been counted as closed before, here or in its ring.
        let ended = |outcome: Outcome| self.ended[outcome as usize].load(Ordering::Acquire);
        let sampled_out = self.sampled_out.iter().map(|line| line.0.load(Ordering::Relaxed)).sum();
        let (sent, dropped) = (
            ended(Outcome::Sent),
            Dropped {
                no_receiver: ended(Outcome::NoReceiver),
                queue_full: ended(Outcome::QueueFull),
                too_large: ended(Outcome::TooLarge),
                other: ended(Outcome::Other),
                abandoned: ended(Outcome::Abandoned),
                sampled_out,
            },
        );
        // Last, because a span counts as closed first.
        Stats { closed: self.closed.load(Ordering::Relaxed) + sampled_out, sent, queued: 0, dropped }
    }
}
