//! What came from whom: the figures of the receiving side.
//!
//! Those of the sending side are in [`crate::sink`].

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::decode::{Fault, Found};
use crate::process::Sender;

/// Of more senders than this, those that were silent longest are counted together: a stranger that forks
/// may not fill our memory.
pub const MAX_SENDERS: usize = 1000;

/// A sender invents its own reasons for losses.
const MAX_REASONS: usize = 32;

/// Names that senders give to themselves and to reasons, in characters.
const MAX_NAME: usize = 100;

/// What could not be told of a traced program, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missed {
    /// For Prometheus.
    pub label: &'static str,
    /// Behind their number.
    pub words: &'static str,
}

const NO_PROCESS: Missed =
    Missed { label: "no_process", words: "spans that were made for the program: none of its own has ended" };

/// From one sender.
#[derive(Clone, Default, Debug, PartialEq)]
pub struct FromSender {
    /// As it called itself last; empty if it never did.
    pub service: String,
    /// Datagrams, also those with faults.
    pub datagrams: u64,
    /// Their size.
    pub bytes: u64,
    /// Spans that were taken.
    pub spans: u64,
    /// Datagrams of users that may not send.
    pub refused: u64,
    /// How often each [`Fault`] was found, in the order of [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// Spans that it lost before they reached us, by its own word, for each reason.
    pub lost: BTreeMap<String, u64>,
    /// Spans that it sent and that never came: see [`crate::sequence`].
    pub missing: u64,
    /// Spans that it had sent before the first that came.
    pub sent_before: u64,
    /// Which of all that came was its last.
    last: u64,
}

impl FromSender {
    /// Spans, or datagrams of which nothing could be read, that were refused for a fault.
    pub fn malformed(&self) -> u64 {
        let faults = Fault::ALL.iter().zip(self.faults);
        faults.filter(|(fault, _)| fault.refuses()).map(|(_, count)| count).sum()
    }

    /// Spans lost by the sender's own word.
    pub fn lost_by_sender(&self) -> u64 {
        // Its own word may be any number.
        self.lost.values().fold(0, |sum, spans| sum.saturating_add(*spans))
    }

    /// Whether not all is as it should be. Each by itself: what it says it lost may be any number.
    pub fn is_in_trouble(&self) -> bool {
        self.malformed() > 0 || self.refused > 0 || self.missing > 0 || self.lost_by_sender() > 0
    }

    /// Anything came from it.
    pub(crate) fn came_at_all(&self) -> bool {
        self.datagrams > 0 || self.spans > 0
    }

    /// Adds what came from another.
    pub fn add(&mut self, other: &Self) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
        self.spans += other.spans;
        self.refused += other.refused;
        // By its own word, as well.
        self.missing = self.missing.saturating_add(other.missing);
        self.sent_before = self.sent_before.saturating_add(other.sent_before);
        for (sum, count) in self.faults.iter_mut().zip(other.faults) {
            *sum += count;
        }
        for (reason, spans) in &other.lost {
            self.lose(reason, *spans);
        }
    }

    fn lose(&mut self, reason: &str, spans: u64) {
        let many = self.lost.len() >= MAX_REASONS && !self.lost.contains_key(reason);
        let lost = self.lost.entry(if many { "other".to_owned() } else { reason.to_owned() }).or_default();
        *lost = lost.saturating_add(spans);
    }
}

/// Of all senders, from any thread.
#[derive(Debug, Default)]
pub struct Figures {
    senders: Mutex<Senders>,
    /// Traces whose tree was printed.
    pub traces_shown: AtomicU64,
    /// Traces for which there was no room on the screen.
    pub traces_not_shown: AtomicU64,
    /// Spans that the view could not keep up with.
    pub spans_not_shown: AtomicU64,
    /// Spans of what the kernel did.
    pub kernel_spans: AtomicU64,
    /// Such of processes none of whose own spans ended, so that nobody knew whose they were.
    pub spans_without_process: AtomicU64,
    /// What the programs in the kernel could not tell, with the reasons.
    missed: Mutex<Vec<(Missed, u64)>>,
}

fn shortened(name: &str) -> &str {
    name.char_indices().nth(MAX_NAME).map_or(name, |(end, _)| &name[..end])
}

#[derive(Debug, Default)]
struct Senders {
    known: HashMap<Sender, FromSender>,
    others: FromSender,
    /// Datagrams, or what a probe had to say, so far.
    came: u64,
}

impl Senders {
    fn of(&mut self, sender: Sender) -> &mut FromSender {
        if self.known.len() >= MAX_SENDERS && !self.known.contains_key(&sender) {
            let silent = self.known.iter().min_by_key(|(_, from)| from.last).map(|(sender, _)| *sender);
            if let Some(from) = silent.and_then(|silent| self.known.remove(&silent)) {
                self.others.add(&from);
            }
        }
        self.known.entry(sender).or_default()
    }
}

impl Figures {
    fn senders(&self) -> MutexGuard<'_, Senders> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A datagram came.
    pub fn datagram(&self, sender: Sender, bytes: usize) {
        self.came(sender, bytes, 1);
    }

    /// A probe had something to say.
    #[cfg(feature = "ebpf")]
    pub(crate) fn probed(&self, sender: Sender, bytes: usize) {
        self.came(sender, bytes, 0);
    }

    fn came(&self, sender: Sender, bytes: usize, datagrams: u64) {
        let mut senders = self.senders();
        senders.came += 1;
        let last = senders.came;
        let from = senders.of(sender);
        from.last = last;
        from.datagrams += datagrams;
        from.bytes += bytes as u64;
    }

    /// A datagram came of a user that may not send. Whether it is the sender's first.
    pub fn refused(&self, sender: Sender) -> bool {
        let mut senders = self.senders();
        let from = senders.of(sender);
        from.refused += 1;
        from.refused == 1
    }

    /// Spans were taken.
    pub fn spans(&self, sender: Sender, service: &str, spans: u64) {
        let mut senders = self.senders();
        let from = senders.of(sender);
        from.spans += spans;
        let service = shortened(service);
        if from.service != service {
            from.service = service.to_owned();
        }
    }

    /// Something was wrong or odd, `count` times. Whether it is the sender's first of its kind.
    pub fn fault(&self, sender: Sender, found: &Found, count: u64) -> bool {
        let mut senders = self.senders();
        let known = &mut senders.of(sender).faults[found.fault as usize];
        *known += count;
        *known == count
    }

    /// A sender says that it lost spans.
    pub fn lost(&self, sender: Sender, reason: &str, spans: u64) {
        self.senders().of(sender).lose(shortened(reason), spans);
    }

    /// Spans of a sender never came. Whether these are the first.
    pub fn missing(&self, sender: Sender, spans: u64) -> bool {
        let mut senders = self.senders();
        let from = senders.of(sender);
        let is_first = from.missing == 0;
        from.missing = from.missing.saturating_add(spans);
        is_first
    }

    /// A sender had sent so many spans when the first of them came.
    pub fn sent_before(&self, sender: Sender, spans: u64) {
        let mut senders = self.senders();
        let from = senders.of(sender);
        from.sent_before = from.sent_before.saturating_add(spans);
    }

    /// The senders that are known one by one, in order, and all others together, if there are any.
    pub fn by_sender(&self) -> (Vec<(Sender, FromSender)>, Option<FromSender>) {
        let senders = self.senders();
        let mut known: Vec<_> =
            senders.known.iter().map(|(sender, figures)| (*sender, figures.clone())).collect();
        known.sort_by_key(|(sender, _)| *sender);
        let others = (senders.others.came_at_all()).then(|| senders.others.clone());
        (known, others)
    }

    /// Of all senders together.
    pub fn total(&self) -> FromSender {
        let senders = self.senders();
        let mut total = senders.others.clone();
        senders.known.values().for_each(|figures| total.add(figures));
        total
    }

    /// What the programs in the kernel could not tell so far, and why.
    pub fn set_missed(&self, missed: Vec<(Missed, u64)>) {
        *self.missed.lock().unwrap_or_else(PoisonError::into_inner) = missed;
    }

    /// The same, with what was not known whose it was.
    pub fn missed(&self) -> Vec<(Missed, u64)> {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unknown = self.spans_without_process.load(Ordering::Relaxed);
        if unknown > 0 {
            missed.push((NO_PROCESS, unknown));
        }
        missed
    }

    /// Traces shown and not shown, and spans that the view could not keep up with.
    pub fn view(&self) -> (u64, u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.traces_shown), of(&self.traces_not_shown), of(&self.spans_not_shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(pid: u32) -> Sender {
        Sender { pid, uid: 0, gid: 0 }
    }

    #[test]
    fn what_a_sender_says_it_lost_may_be_any_number() {
        let figures = Figures::default();
        for reason in ["a", "a", "b"] {
            figures.lost(sender(1), reason, u64::MAX);
        }
        assert_eq!(figures.total().lost_by_sender(), u64::MAX);
        figures.refused(sender(1));
        assert!(figures.total().is_in_trouble());
    }

    #[test]
    fn reasons_and_names_are_bounded() {
        let figures = Figures::default();
        (0..1000).for_each(|n| figures.lost(sender(1), &format!("{n}{}", "é".repeat(1000)), 1));
        figures.spans(sender(1), &"é".repeat(1000), 1);
        let total = figures.total();
        assert_eq!((total.lost.len(), total.lost["other"]), (MAX_REASONS + 1, 1000 - MAX_REASONS as u64));
        assert!(total.lost.keys().all(|reason| reason.chars().count() <= MAX_NAME));
        assert_eq!(figures.by_sender().0[0].1.service.chars().count(), MAX_NAME);
    }

    #[test]
    fn of_many_senders_the_silent_ones_are_counted_together() {
        let figures = Figures::default();
        for pid in 1..=1500 {
            figures.datagram(sender(pid), 10);
            // The first one speaks all the time.
            figures.datagram(sender(1), 10);
        }
        let (known, others) = figures.by_sender();
        assert_eq!(known.len(), MAX_SENDERS);
        assert!(known.iter().any(|(known, from)| known.pid == 1 && from.datagrams == 1501));
        assert!(known.iter().any(|(known, _)| known.pid == 1500));
        assert_eq!(others.map(|others| others.datagrams), Some(500));
        assert_eq!(figures.total().datagrams, 3000);
    }
}
