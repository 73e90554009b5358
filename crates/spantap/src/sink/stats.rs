//! The stats of one sink: what happened to its spans.
//!
//! Each change moves spans from one counter to another under one lock, so a snapshot always adds up: what came in is
//! what was sent, what was lost, and what waits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::tally::{OTHERS, Tally};
use crate::process::{MAX_SENDERS, Sender};

/// The stats of one sink. Counts are in spans unless noted.
///
/// `recovered + pushed == forwarded + rejected + dropped.total() + queued`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SinkStats {
    /// The target's name, as in notices.
    pub target: String,
    /// Found in the spool at the start, left by an earlier run.
    pub recovered: u64,
    /// Pushed since the start.
    pub pushed: u64,
    /// Accepted by the backend.
    pub forwarded: u64,
    /// Rejected by the backend for good.
    pub rejected: u64,
    /// Lost by spantap.
    pub dropped: Dropped,
    /// Waiting in memory or in the spool, including those of the current request.
    pub queued: u64,
    /// Requests sent; each attempt counts.
    pub requests: u64,
    /// Failed attempts that are repeated.
    pub retries: u64,
    /// Whether the queue is in the spool, and survives the program.
    pub is_spooled: bool,
    /// The bytes written to a capture since the start; `None` for other targets.
    pub recorded_bytes: Option<u64>,
    /// Whether the spans stay in memory, in the flight recorder.
    pub is_flight_recorder: bool,
    /// The state of the backend.
    pub state: State,
    /// The same by sender, for up to 1,000 senders; [`OTHERS`](super::OTHERS) has the rest.
    pub senders: BTreeMap<Sender, SenderStats>,
}

/// What happened to one sender's spans.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SenderStats {
    /// Pushed, or found in the spool at the start.
    pub taken: u64,
    /// Accepted by the backend. If a backend rejects a part of a batch, it doesn't report which spans. So in a
    /// batch with several senders, the rejected spans count here.
    pub forwarded: u64,
    /// Rejected by the backend for good.
    pub rejected: u64,
    /// Lost by spantap.
    pub dropped: u64,
    /// Spans in failed attempts that are repeated; a span counts once per attempt.
    pub retried: u64,
}

impl SenderStats {
    /// The spans that wait.
    pub fn queued(&self) -> u64 {
        self.taken.saturating_sub(self.forwarded + self.rejected + self.dropped)
    }
}

impl SinkStats {
    fn of(&mut self, sender: Sender) -> &mut SenderStats {
        let known = self.senders.len() < MAX_SENDERS || self.senders.contains_key(&sender);
        self.senders.entry(if known { sender } else { OTHERS }).or_default()
    }
}

/// Spans that spantap lost, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Dropped {
    /// The oldest spans, when the queue in memory was full.
    pub queue_full: u64,
    /// The oldest spans, when the spool was full.
    pub spool_full: u64,
    /// Spans that could not be written to the spool.
    pub spool_write: u64,
    /// Spans in damaged records of the spool, if their number is known.
    pub unreadable: u64,
    /// Spans that waited in memory at the end.
    pub shutdown: u64,
}

impl Dropped {
    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.queue_full + self.spool_full + self.spool_write + self.unreadable + self.shutdown
    }
}

/// The state of a sink's backend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// The last request was answered, or there was none yet.
    Ok,
    /// Requests fail and are repeated.
    Failing {
        /// The time of the first of the consecutive failures.
        since: SystemTime,
        /// The latest reason.
        why: String,
    },
}

/// Why spans leave the queue without being sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    QueueFull,
    SpoolFull,
    Unreadable,
    Shutdown,
}

/// The counters of a sink, shared between its queue and its worker.
pub(super) struct Counters(Mutex<SinkStats>);

impl Counters {
    pub(super) fn new(target: &impl fmt::Display) -> Self {
        Self(Mutex::new(SinkStats {
            target: target.to_string(),
            recovered: 0,
            pushed: 0,
            forwarded: 0,
            rejected: 0,
            dropped: Dropped::default(),
            queued: 0,
            requests: 0,
            retries: 0,
            is_spooled: false,
            recorded_bytes: None,
            is_flight_recorder: false,
            state: State::Ok,
            senders: BTreeMap::new(),
        }))
    }

    fn get(&self) -> MutexGuard<'_, SinkStats> {
        // Nothing that holds the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn snapshot(&self) -> SinkStats {
        self.get().clone()
    }

    pub(super) fn target(&self) -> String {
        self.get().target.clone()
    }

    pub(super) fn queued(&self) -> u64 {
        self.get().queued
    }

    /// Marks the queue as being on disk.
    pub(super) fn is_spooled(&self) {
        self.get().is_spooled = true;
    }

    /// Marks the target as a capture.
    pub(super) fn is_capture(&self) {
        self.get().recorded_bytes = Some(0);
    }

    /// Marks the target as the flight recorder.
    pub(super) fn is_flight_recorder(&self) {
        self.get().is_flight_recorder = true;
    }

    /// Adds the bytes of a request that was accepted, if the target is a capture.
    pub(super) fn wrote(&self, bytes: u64) {
        if let Some(recorded) = &mut self.get().recorded_bytes {
            *recorded += bytes;
        }
    }

    /// Adds the spans of an earlier run: `spans` wait in the spool, `unreadable` are damaged.
    pub(super) fn recover(&self, spans: &Tally, unreadable: &Tally) {
        let mut stats = self.get();
        stats.recovered += spans.total() + unreadable.total();
        stats.queued += spans.total();
        stats.dropped.unreadable += unreadable.total();
        spans.iter().for_each(|(sender, spans)| stats.of(sender).taken += spans);
        for (sender, spans) in unreadable.iter() {
            stats.of(sender).taken += spans;
            stats.of(sender).dropped += spans;
        }
    }

    /// Adds spans that wait now.
    pub(super) fn push(&self, sender: Sender, spans: u64) {
        let mut stats = self.get();
        stats.pushed += spans;
        stats.queued += spans;
        stats.of(sender).taken += spans;
    }

    /// Adds spans that could not be written.
    pub(super) fn push_unwritten(&self, sender: Sender, spans: u64) {
        let mut stats = self.get();
        stats.pushed += spans;
        stats.dropped.spool_write += spans;
        stats.of(sender).taken += spans;
        stats.of(sender).dropped += spans;
    }

    /// Moves waiting spans to the dropped ones.
    pub(super) fn lose(&self, tally: &Tally, loss: Loss) {
        let spans = tally.total();
        let mut stats = self.get();
        stats.queued = stats.queued.saturating_sub(spans);
        tally.iter().for_each(|(sender, spans)| stats.of(sender).dropped += spans);
        let dropped = &mut stats.dropped;
        *match loss {
            Loss::QueueFull => &mut dropped.queue_full,
            Loss::SpoolFull => &mut dropped.spool_full,
            Loss::Unreadable => &mut dropped.unreadable,
            Loss::Shutdown => &mut dropped.shutdown,
        } += spans;
    }

    /// Records the backend's answer for the spans in `tally`. A server may report any number as rejected; at most
    /// all of them count.
    pub(super) fn answer(&self, tally: &Tally, rejected: u64) {
        let spans = tally.total();
        let rejected = rejected.min(spans);
        let mut stats = self.get();
        for (sender, of_sender) in tally.iter() {
            // Rejected spans are only attributed where the sender is certain.
            let rejected = if rejected == spans || of_sender == spans { rejected.min(of_sender) } else { 0 };
            stats.of(sender).rejected += rejected;
            stats.of(sender).forwarded += of_sender - rejected;
        }
        stats.queued = stats.queued.saturating_sub(spans);
        stats.rejected += rejected;
        stats.forwarded += spans - rejected;
        stats.state = State::Ok;
    }

    pub(super) fn request(&self) {
        self.get().requests += 1;
    }

    /// Records an attempt with these spans that failed and is repeated.
    pub(super) fn retry(&self, tally: &Tally, why: &str) {
        let mut stats = self.get();
        stats.retries += 1;
        tally.iter().for_each(|(sender, spans)| stats.of(sender).retried += spans);
        let since = match &stats.state {
            State::Failing { since, .. } => *since,
            State::Ok => SystemTime::now(),
        };
        stats.state = State::Failing { since, why: why.to_owned() };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
impl SinkStats {
    /// Checks the equation of this module.
    pub(super) fn check(&self) {
        let out = self.forwarded + self.rejected + self.dropped.total() + self.queued;
        assert_eq!(self.recovered + self.pushed, out, "{self:?}");
        let sum = |of: fn(&SenderStats) -> u64| self.senders.values().map(of).sum::<u64>();
        assert_eq!(sum(|of| of.taken), self.recovered + self.pushed, "{self:?}");
        assert_eq!(sum(|of| of.dropped), self.dropped.total(), "{self:?}");
        assert_eq!(sum(|of| of.forwarded + of.rejected), self.forwarded + self.rejected, "{self:?}");
        assert_eq!(sum(SenderStats::queued), self.queued, "{self:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_no_more_than_was_sent() {
        let counters = Counters::new(&"test");
        counters.push(OTHERS, 3);
        counters.answer(&Tally::of(OTHERS, 3), 1_000);
        counters.snapshot().check();
        assert_eq!((counters.snapshot().rejected, counters.snapshot().forwarded), (3, 0));
    }

    #[test]
    fn counts_what_happened_to_spans_by_sender() {
        let counters = Counters::new(&"test");
        let sender = |pid| Sender { pid, uid: 0, gid: 0 };
        let both = || {
            let mut tally = Tally::of(sender(1), 4);
            tally.add(sender(2), 6);
            tally
        };
        for _ in 0..3 {
            counters.push(sender(1), 4);
            counters.push(sender(2), 6);
        }
        counters.answer(&both(), 0);
        counters.answer(&both(), 10);
        counters.answer(&Tally::of(sender(1), 4), 3);
        counters.lose(&Tally::of(sender(2), 1), Loss::QueueFull);
        let snapshot = counters.snapshot();
        snapshot.check();
        let of = |pid| snapshot.senders[&sender(pid)];
        assert_eq!(of(1), SenderStats { taken: 12, forwarded: 5, rejected: 7, ..SenderStats::default() });
        assert_eq!(of(2), SenderStats { taken: 18, forwarded: 6, rejected: 6, dropped: 1, retried: 0 });
        assert_eq!(of(2).queued(), 5);
    }

    #[test]
    fn failing_since_stays_at_the_first_failure() {
        let counters = Counters::new(&"test");
        counters.retry(&Tally::of(OTHERS, 3), "one");
        let State::Failing { since: first, .. } = counters.snapshot().state else { unreachable!() };
        counters.retry(&Tally::of(OTHERS, 3), "two");
        assert_eq!(counters.snapshot().state, State::Failing { since: first, why: "two".into() });
        counters.answer(&Tally::default(), 0);
        assert_eq!((counters.snapshot().state, counters.snapshot().senders[&OTHERS].retried), (State::Ok, 6));
    }
}
