//! The stats of the receiving side: what came from each sender, what was shown, and what the kernel did not report.
//!
//! `from_sender` has the stats of a sender, `refusal` names why OTLP requests were refused, `missed` names what the kernel did
//! not report, and `wait` says which spans waited for which.
//!
//! The stats of the sending side are in [`crate::sink`].

mod from_sender;
mod missed;
mod refusal;
mod wait;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use from_sender::FromSender;
pub use missed::Missed;
pub use refusal::Refusal;
pub use wait::Wait;

use crate::decode::Found;
use crate::process::{MAX_SENDERS, Sender, SentBy};
use crate::sampling;
use missed::NO_PROCESS;
use refusal::Refusals;

/// The most characters of a name or a reason.
const MAX_NAME: usize = 100;

/// The stats of all senders, updated from any thread.
#[derive(Debug, Default)]
pub struct Stats {
    senders: Mutex<Senders>,
    refusals: Refusals,
    /// Traces whose tree was printed.
    pub traces_shown: AtomicU64,
    /// Traces not shown for lack of room on the screen.
    pub traces_not_shown: AtomicU64,
    /// Spans that came too fast for the view.
    pub spans_not_shown: AtomicU64,
    /// Kernel spans.
    pub kernel_spans: AtomicU64,
    /// Kernel and partial spans that were dropped, because their process is unknown, or too many waited for theirs.
    pub spans_without_process: AtomicU64,
    /// What the probes and tracepoints could not report.
    missed: Mutex<Vec<(Missed, u64)>>,
    waits: Mutex<Vec<Wait>>,
    /// Which traces were kept by `--keep`.
    pub sampling: Arc<sampling::Counters>,
}

/// The beginning of a name that a sender has chosen.
pub(crate) fn shortened(name: &str) -> &str {
    name.char_indices().nth(MAX_NAME).map_or(name, |(end, _)| &name[..end])
}

#[derive(Debug, Default)]
struct Senders {
    known: HashMap<SentBy, FromSender>,
    others: FromSender,
    /// The number of datagrams, requests and probed spans so far.
    arrivals: u64,
}

impl Senders {
    fn of(&mut self, sender: SentBy) -> &mut FromSender {
        if self.known.len() >= MAX_SENDERS && !self.known.contains_key(&sender) {
            let silent = self.known.iter().min_by_key(|(_, from)| from.last).map(|(sender, _)| *sender);
            if let Some(from) = silent.and_then(|silent| self.known.remove(&silent)) {
                self.others.add(&from);
            }
        }
        self.known.entry(sender).or_default()
    }
}

impl Stats {
    fn senders(&self) -> MutexGuard<'_, Senders> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a datagram.
    pub fn datagram(&self, sender: Sender, bytes: usize) {
        self.arrived(sender.into(), bytes, |from| from.datagrams += 1);
    }

    /// Counts an OTLP request.
    pub(crate) fn request(&self, sender: SentBy, bytes: usize) {
        self.arrived(sender, bytes, |from| from.requests += 1);
    }

    /// Counts an OTLP request that was refused as a whole, or a connection. Returns whether it is the first for this reason.
    pub(crate) fn refused_request(&self, refusal: Refusal) -> bool {
        self.refusals.add(refusal)
    }

    /// How many OTLP requests were refused as a whole, for each reason that occurred.
    pub fn refused_requests(&self) -> Vec<(Refusal, u64)> {
        self.refusals.counts()
    }

    /// Counts a span from a probe.
    #[cfg(feature = "ebpf")]
    pub(crate) fn probed(&self, sender: Sender, bytes: usize) {
        self.arrived(sender.into(), bytes, |_| ());
    }

    fn arrived(&self, sender: SentBy, bytes: usize, count: impl FnOnce(&mut FromSender)) {
        let mut senders = self.senders();
        senders.arrivals += 1;
        let last = senders.arrivals;
        let from = senders.of(sender);
        from.last = last;
        count(from);
        from.bytes += bytes as u64;
    }

    /// Counts a datagram of a user that may not send. Returns whether it is the sender's first.
    pub fn refused(&self, sender: impl Into<SentBy>) -> bool {
        let mut senders = self.senders();
        let from = senders.of(sender.into());
        from.refused += 1;
        from.refused == 1
    }

    /// Counts accepted spans.
    pub fn spans(&self, sender: impl Into<SentBy>, service: &str, spans: u64) {
        let mut senders = self.senders();
        let from = senders.of(sender.into());
        from.spans += spans;
        let service = shortened(service);
        if from.service != service {
            from.service = service.to_owned();
        }
    }

    /// Counts a fault that was found `count` times. Returns whether it is the sender's first of this kind.
    pub fn fault(&self, sender: impl Into<SentBy>, found: &Found, count: u64) -> bool {
        let mut senders = self.senders();
        let known = &mut senders.of(sender.into()).faults[found.fault as usize];
        *known += count;
        *known == count
    }

    /// Counts spans that a sender reported as lost.
    pub fn lost(&self, sender: impl Into<SentBy>, reason: &str, spans: u64) {
        self.senders().of(sender.into()).lose(shortened(reason), spans);
    }

    /// Counts spans that never arrived. Returns whether they are the sender's first.
    pub fn missing(&self, sender: impl Into<SentBy>, spans: u64) -> bool {
        let mut senders = self.senders();
        let from = senders.of(sender.into());
        let is_first = from.missing == 0;
        from.missing = from.missing.saturating_add(spans);
        is_first
    }

    /// Counts spans that were sent before the first one that arrived.
    pub fn sent_before(&self, sender: impl Into<SentBy>, spans: u64) {
        let mut senders = self.senders();
        let from = senders.of(sender.into());
        from.sent_before = from.sent_before.saturating_add(spans);
    }

    /// The senders that are counted one by one, in order; and all others together, if there are any.
    pub fn by_sender(&self) -> (Vec<(SentBy, FromSender)>, Option<FromSender>) {
        let senders = self.senders();
        let mut known: Vec<_> =
            senders.known.iter().map(|(sender, stats)| (*sender, stats.clone())).collect();
        known.sort_by_key(|(sender, _)| *sender);
        let others = senders.others.has_sent().then(|| senders.others.clone());
        (known, others)
    }

    /// The stats of all senders together.
    pub fn total(&self) -> FromSender {
        let senders = self.senders();
        let mut total = senders.others.clone();
        senders.known.values().for_each(|stats| total.add(stats));
        total
    }

    /// Sets what the probes and tracepoints could not report so far.
    pub fn set_missed(&self, missed: Vec<(Missed, u64)>) {
        *self.missed.lock().unwrap_or_else(PoisonError::into_inner) = missed;
    }

    /// What the probes and tracepoints could not report, including spans without a process.
    pub fn missed(&self) -> Vec<(Missed, u64)> {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unknown = self.spans_without_process.load(Ordering::Relaxed);
        if unknown > 0 {
            missed.push((NO_PROCESS, unknown));
        }
        missed
    }

    /// Sets which spans waited for which so far.
    pub fn set_waits(&self, waits: Vec<Wait>) {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = waits;
    }

    /// Which spans waited for which, those with the most time first.
    pub fn waits(&self) -> Vec<Wait> {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        waits.sort_by(|a, b| {
            b.time_ns.cmp(&a.time_ns).then_with(|| (&a.span, &a.waker).cmp(&(&b.span, &b.waker)))
        });
        waits
    }

    /// Traces shown and not shown, and spans that came too fast for the view.
    pub fn view(&self) -> (u64, u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.traces_shown), of(&self.traces_not_shown), of(&self.spans_not_shown))
    }
}

#[cfg(test)]
mod tests {
    use super::from_sender::MAX_REASONS;
    use super::*;

    fn sender(pid: u32) -> Sender {
        Sender { pid, uid: 0, gid: 0 }
    }

    #[test]
    fn senders_may_report_any_number_as_lost() {
        let stats = Stats::default();
        for reason in ["a", "a", "b"] {
            stats.lost(sender(1), reason, u64::MAX);
        }
        assert_eq!(stats.total().lost_by_sender(), u64::MAX);
        stats.refused(sender(1));
        assert!(stats.total().is_in_trouble());
    }

    #[test]
    fn reasons_and_names_are_bounded() {
        let stats = Stats::default();
        (0..1000).for_each(|n| stats.lost(sender(1), &format!("{n}{}", "é".repeat(1000)), 1));
        stats.spans(sender(1), &"é".repeat(1000), 1);
        let total = stats.total();
        assert_eq!((total.lost.len(), total.lost["other"]), (MAX_REASONS + 1, 1000 - MAX_REASONS as u64));
        assert!(total.lost.keys().all(|reason| reason.chars().count() <= MAX_NAME));
        assert_eq!(stats.by_sender().0[0].1.service.chars().count(), MAX_NAME);
    }

    #[test]
    fn silent_senders_beyond_the_limit_are_counted_together() {
        let stats = Stats::default();
        for pid in 1..=1500 {
            stats.datagram(sender(pid), 10);
            // The first one sends all the time.
            stats.datagram(sender(1), 10);
        }
        let (known, others) = stats.by_sender();
        assert_eq!(known.len(), MAX_SENDERS);
        let of = |pid| known.iter().find(|(known, _)| *known == sender(pid).into());
        assert_eq!(of(1).map(|(_, from)| from.datagrams), Some(1501));
        assert!(of(1500).is_some());
        assert_eq!(others.map(|others| others.datagrams), Some(500));
        assert_eq!(stats.total().datagrams, 3000);
    }
}
