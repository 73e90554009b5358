//! What became of the spans of one sink.
//!
//! Every change moves spans from one counter to another under one lock, so the sum of a snapshot is
//! right at any time: what came in is what went out, what was lost, and what waits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::tally::{OTHERS, Tally};
use crate::figures::MAX_SENDERS;
use crate::process::Sender;

/// Of one sink, in spans where nothing else is said.
///
/// `recovered + pushed == forwarded + rejected + dropped.total() + queued`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SinkFigures {
    /// The target, as it is named in notices.
    pub target: String,
    /// Found in the spool at the start: what an earlier run left.
    pub recovered: u64,
    /// Given to this sink since the start.
    pub pushed: u64,
    /// Taken by the backend.
    pub forwarded: u64,
    /// Refused by the backend, for good.
    pub rejected: u64,
    /// Lost by us.
    pub dropped: Dropped,
    /// Waiting in memory or in the spool, those of the request under way included.
    pub queued: u64,
    /// Requests that were sent, each attempt one.
    pub requests: u64,
    /// Attempts that failed in a way that is worth another one.
    pub retries: u64,
    /// What is queued is in the spool, and outlives the program.
    pub is_spooled: bool,
    /// How it is with the backend.
    pub state: State,
    /// The same by who sent the spans, up to 1,000 senders; [`OTHERS`](super::OTHERS) are the rest.
    pub senders: BTreeMap<Sender, OfSender>,
}

/// What became of one sender's spans.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OfSender {
    /// Given to the sink, or found in its spool at the start.
    pub taken: u64,
    /// Taken by the backend. A backend that refuses a part of a batch doesn't say whose, so what it refused
    /// of a batch with several senders is among these.
    pub forwarded: u64,
    /// Refused by the backend, for good.
    pub rejected: u64,
    /// Lost by us.
    pub dropped: u64,
    /// In attempts that failed in a way that is worth another one: a span as often as it was in one.
    pub retried: u64,
}

impl OfSender {
    /// Waiting.
    pub fn queued(&self) -> u64 {
        self.taken.saturating_sub(self.forwarded + self.rejected + self.dropped)
    }
}

impl SinkFigures {
    fn of(&mut self, sender: Sender) -> &mut OfSender {
        let known = self.senders.len() < MAX_SENDERS || self.senders.contains_key(&sender);
        self.senders.entry(if known { sender } else { OTHERS }).or_default()
    }
}

/// Spans that we lost, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Dropped {
    /// The oldest, for which the queue in memory had no more room.
    pub queue_full: u64,
    /// The oldest, for which the spool had no more room.
    pub spool_full: u64,
    /// Those that could not be written to the spool.
    pub spool_write: u64,
    /// Those whose record in the spool is damaged, as far as their number is known.
    pub unreadable: u64,
    /// Those that waited in memory at the end.
    pub shutdown: u64,
}

impl Dropped {
    /// For whatever reason.
    pub fn total(&self) -> u64 {
        self.queue_full + self.spool_full + self.spool_write + self.unreadable + self.shutdown
    }
}

/// How it is with the backend of a sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// The last request was answered, or there was none.
    Ok,
    /// Requests fail and are tried again.
    Failing {
        /// The first of the failures in a row.
        since: SystemTime,
        /// The latest reason.
        why: String,
    },
}

/// Why spans leave the queue without having been sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    QueueFull,
    SpoolFull,
    Unreadable,
    Shutdown,
}

/// The counters of a sink, shared between its queue and its worker.
pub(super) struct Figures(Mutex<SinkFigures>);

impl Figures {
    pub(super) fn new(target: &impl fmt::Display) -> Self {
        Self(Mutex::new(SinkFigures {
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
            state: State::Ok,
            senders: BTreeMap::new(),
        }))
    }

    fn get(&self) -> MutexGuard<'_, SinkFigures> {
        // Nothing that holds the lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn snapshot(&self) -> SinkFigures {
        self.get().clone()
    }

    pub(super) fn target(&self) -> String {
        self.get().target.clone()
    }

    pub(super) fn queued(&self) -> u64 {
        self.get().queued
    }

    /// The queue is on disk.
    pub(super) fn is_spooled(&self) {
        self.get().is_spooled = true;
    }

    /// The spool had spans of an earlier run; `unreadable` more are known of, but damaged.
    pub(super) fn recover(&self, spans: &Tally, unreadable: &Tally) {
        let mut figures = self.get();
        figures.recovered += spans.total() + unreadable.total();
        figures.queued += spans.total();
        figures.dropped.unreadable += unreadable.total();
        spans.iter().for_each(|(sender, spans)| figures.of(sender).taken += spans);
        for (sender, spans) in unreadable.iter() {
            figures.of(sender).taken += spans;
            figures.of(sender).dropped += spans;
        }
    }

    /// Spans came and wait.
    pub(super) fn push(&self, sender: Sender, spans: u64) {
        let mut figures = self.get();
        figures.pushed += spans;
        figures.queued += spans;
        figures.of(sender).taken += spans;
    }

    /// Spans came and could not be written.
    pub(super) fn push_unwritten(&self, sender: Sender, spans: u64) {
        let mut figures = self.get();
        figures.pushed += spans;
        figures.dropped.spool_write += spans;
        figures.of(sender).taken += spans;
        figures.of(sender).dropped += spans;
    }

    /// Spans that waited are lost.
    pub(super) fn lose(&self, tally: &Tally, loss: Loss) {
        let spans = tally.total();
        let mut figures = self.get();
        figures.queued = figures.queued.saturating_sub(spans);
        tally.iter().for_each(|(sender, spans)| figures.of(sender).dropped += spans);
        let dropped = &mut figures.dropped;
        *match loss {
            Loss::QueueFull => &mut dropped.queue_full,
            Loss::SpoolFull => &mut dropped.spool_full,
            Loss::Unreadable => &mut dropped.unreadable,
            Loss::Shutdown => &mut dropped.shutdown,
        } += spans;
    }

    /// The backend has answered for `spans`, and refused `rejected` of them. A server may say any
    /// number: no more can be refused than were sent.
    pub(super) fn answer(&self, tally: &Tally, rejected: u64) {
        let spans = tally.total();
        let rejected = rejected.min(spans);
        let mut figures = self.get();
        for (sender, of_sender) in tally.iter() {
            // Where it is known whose they are.
            let rejected = if rejected == spans || of_sender == spans { rejected.min(of_sender) } else { 0 };
            figures.of(sender).rejected += rejected;
            figures.of(sender).forwarded += of_sender - rejected;
        }
        figures.queued = figures.queued.saturating_sub(spans);
        figures.rejected += rejected;
        figures.forwarded += spans - rejected;
        figures.state = State::Ok;
    }

    pub(super) fn request(&self) {
        self.get().requests += 1;
    }

    /// An attempt failed and is made again, with these spans.
    pub(super) fn retry(&self, tally: &Tally, why: &str) {
        let mut figures = self.get();
        figures.retries += 1;
        tally.iter().for_each(|(sender, spans)| figures.of(sender).retried += spans);
        let since = match &figures.state {
            State::Failing { since, .. } => *since,
            State::Ok => SystemTime::now(),
        };
        figures.state = State::Failing { since, why: why.to_owned() };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
impl SinkFigures {
    /// The promise of this module.
    pub(super) fn check(&self) {
        let out = self.forwarded + self.rejected + self.dropped.total() + self.queued;
        assert_eq!(self.recovered + self.pushed, out, "{self:?}");
        let sum = |of: fn(&OfSender) -> u64| self.senders.values().map(of).sum::<u64>();
        assert_eq!(sum(|of| of.taken), self.recovered + self.pushed, "{self:?}");
        assert_eq!(sum(|of| of.dropped), self.dropped.total(), "{self:?}");
        assert_eq!(sum(|of| of.forwarded + of.rejected), self.forwarded + self.rejected, "{self:?}");
        assert_eq!(sum(OfSender::queued), self.queued, "{self:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_can_not_reject_more_than_was_sent() {
        let figures = Figures::new(&"test");
        figures.push(OTHERS, 3);
        figures.answer(&Tally::of(OTHERS, 3), 1_000);
        figures.snapshot().check();
        assert_eq!((figures.snapshot().rejected, figures.snapshot().forwarded), (3, 0));
    }

    /// As far as a backend's answer tells whose spans it refused.
    #[test]
    fn what_became_of_spans_is_known_by_sender() {
        let figures = Figures::new(&"test");
        let sender = |pid| Sender { pid, uid: 0, gid: 0 };
        let both = || {
            let mut tally = Tally::of(sender(1), 4);
            tally.add(sender(2), 6);
            tally
        };
        for _ in 0..3 {
            figures.push(sender(1), 4);
            figures.push(sender(2), 6);
        }
        figures.answer(&both(), 0);
        figures.answer(&both(), 10);
        figures.answer(&Tally::of(sender(1), 4), 3);
        figures.lose(&Tally::of(sender(2), 1), Loss::QueueFull);
        let snapshot = figures.snapshot();
        snapshot.check();
        let of = |pid| snapshot.senders[&sender(pid)];
        assert_eq!(of(1), OfSender { taken: 12, forwarded: 5, rejected: 7, ..OfSender::default() });
        assert_eq!(of(2), OfSender { taken: 18, forwarded: 6, rejected: 6, dropped: 1, retried: 0 });
        assert_eq!(of(2).queued(), 5);
    }

    #[test]
    fn a_failing_backend_has_failed_since_its_first_failure() {
        let figures = Figures::new(&"test");
        figures.retry(&Tally::of(OTHERS, 3), "one");
        let State::Failing { since: first, .. } = figures.snapshot().state else { unreachable!() };
        figures.retry(&Tally::of(OTHERS, 3), "two");
        assert_eq!(figures.snapshot().state, State::Failing { since: first, why: "two".into() });
        figures.answer(&Tally::default(), 0);
        assert_eq!((figures.snapshot().state, figures.snapshot().senders[&OTHERS].retried), (State::Ok, 6));
    }
}
