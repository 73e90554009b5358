//! Counts spans that were sent and never received, by the numbers that senders put into their datagrams.
//!
//! When a collector is killed, the spans in its socket's queue are lost, and so are those that it had read and not yet
//! spooled. For the sender these spans are sent. The next collector finds that its first datagram begins at a higher
//! number than the spool has recorded. Without a spool, it only knows how many spans were sent before it started.
//! Senders other than tracing-usdt do not number their spans, so their losses can't be counted.

use std::collections::HashMap;

/// The position of a datagram among all that its sender has sent: the member `tracingUsdt`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sequence {
    /// A random number that identifies one layer in one process.
    pub sender: u64,
    /// How many spans the sender had sent before.
    pub sent_before: u64,
    /// How many spans the datagram holds, without the span that reports losses.
    pub spans: u64,
    /// How many lost spans the sender had reported before.
    pub lost_before: u64,
}

/// How many spans of a sender were received or lost so far. A spool keeps it beside the spans, so that successive
/// collectors count each missing span once.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// As in [`Sequence`].
    pub sender: u64,
    /// How many spans the sender has sent: those received and those missing.
    pub spans: u64,
    /// How many of them are missing.
    pub missing: u64,
    /// How many further spans the sender lost itself, by its reports, whether these were received or not.
    pub lost: u64,
}

/// The most senders that are remembered. Beyond it, those that were silent longest are forgotten.
const MAX_REMEMBERED: usize = 1000;

/// The progress of many senders.
#[derive(Clone, Default, Debug)]
pub struct Senders {
    known: HashMap<u64, Known>,
    changes: u64,
    /// Whether a sender was forgotten: then an unknown sender may not be new.
    has_forgotten: bool,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    progress: Progress,
    last_change: u64,
    /// Whether the progress comes from the spool, and this collector has not received from the sender yet.
    is_from_spool: bool,
}

/// What a datagram's numbers show about the spans before it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Before {
    /// How many spans were sent and never received. With the first datagram from a sender, this includes what earlier
    /// collectors have counted.
    pub missing: u64,
    /// How many spans were sent before this collector started, where no spool shows whether they were received.
    pub unknown: u64,
    /// How many spans the sender lost in reports that were not received.
    pub unreported: u64,
    /// How many spans the sender lost in reports that earlier collectors received. Only with the first datagram.
    pub lost_before: u64,
    /// Whether this is the first datagram that this collector received from the sender.
    pub is_first: bool,
}

impl Senders {
    /// Records a datagram that was received, and that reports `lost` spans as lost.
    pub fn record(&mut self, sequence: Sequence, lost: u64) -> (Before, Progress) {
        let Sequence { sender, sent_before, spans, lost_before } = sequence;
        let mut before = Before::default();
        let mut progress = Progress { sender, spans: sent_before, missing: 0, lost: lost_before };
        match self.known.get(&sender) {
            Some(known) => {
                // Threads that send at the same time may give their datagrams the same number. Adding the spans up
                // makes up for it: the next datagram's number includes them all.
                let missing = sent_before.saturating_sub(known.progress.spans);
                progress.spans = known.progress.spans + missing;
                progress.missing = known.progress.missing.saturating_add(missing);
                before.unreported = lost_before.saturating_sub(known.progress.lost);
                progress.lost = lost_before.max(known.progress.lost);
                before.is_first = known.is_from_spool;
                before.lost_before = if known.is_from_spool { known.progress.lost } else { 0 };
                before.missing = if known.is_from_spool { progress.missing } else { missing };
            }
            None => {
                before.is_first = true;
                before.unknown = if self.has_forgotten { 0 } else { sent_before };
            }
        }
        progress.spans = progress.spans.saturating_add(spans);
        progress.lost = progress.lost.saturating_add(lost);
        self.put(progress, false);
        (before, progress)
    }

    /// Loads the progress that a spool has kept, in the order of [`iter`](Self::iter).
    pub fn restore(&mut self, newest_first: Vec<Progress>) {
        // A full list may have been cut.
        self.has_forgotten |= newest_first.len() >= MAX_REMEMBERED;
        newest_first.into_iter().rev().for_each(|progress| self.put(progress, true));
    }

    /// Loads the progress of one sender from a record. Ignores a record that is older than what is known: a sender's
    /// numbers only grow.
    pub fn set(&mut self, progress: Progress) {
        let known = self.known.get(&progress.sender).map(|known| known.progress);
        self.put(known.filter(|known| known.spans > progress.spans).unwrap_or(progress), true);
    }

    fn put(&mut self, progress: Progress, is_from_spool: bool) {
        self.changes += 1;
        let known = Known { progress, last_change: self.changes, is_from_spool };
        self.known.insert(progress.sender, known);
        if self.known.len() > 2 * MAX_REMEMBERED {
            let oldest = self.changes - MAX_REMEMBERED as u64;
            self.known.retain(|_, known| known.last_change > oldest);
            self.has_forgotten = true;
        }
    }

    /// The progress of each remembered sender, the most recent first.
    pub fn iter(&self) -> impl Iterator<Item = Progress> {
        let mut known: Vec<&Known> = self.known.values().collect();
        known.sort_by_key(|known| std::cmp::Reverse(known.last_change));
        known.into_iter().take(MAX_REMEMBERED).map(|known| known.progress)
    }

    /// What all of `stores` have received. For each sender this is the least progress: spans that one store lacks are
    /// lost for its target.
    pub fn common(stores: impl IntoIterator<Item = Self>) -> Self {
        let mut common = Self::default();
        for store in stores {
            common.has_forgotten |= store.has_forgotten;
            let mut kept: Vec<Progress> = store.iter().collect();
            for progress in &mut kept {
                let known = common.known.get(&progress.sender).map(|known| known.progress);
                *progress = known.filter(|known| known.spans <= progress.spans).unwrap_or(*progress);
            }
            common.restore(kept);
        }
        common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(sender: u64, sent_before: u64, spans: u64) -> Sequence {
        Sequence { sender, sent_before, spans, lost_before: 0 }
    }

    fn before(missing: u64) -> Before {
        Before { missing, ..Before::default() }
    }

    #[test]
    fn spans_missing_between_datagrams_are_counted_once() {
        let mut senders = Senders::default();
        for (sequence, expected, spans, missing) in [
            (datagram(1, 0, 10), before(0), 10, 0),
            (datagram(1, 10, 5), before(0), 15, 0),
            (datagram(1, 22, 3), before(7), 25, 7),
            (datagram(1, 25, 0), before(0), 25, 7),
            (datagram(1, 26, 1), before(1), 27, 8),
            (datagram(2, 40, 2), Before { unknown: 40, ..Before::default() }, 42, 0),
            (datagram(2, 42, 1), before(0), 43, 0),
            (datagram(1, u64::MAX, 9), before(u64::MAX - 27), u64::MAX, u64::MAX - 19),
        ] {
            let progress = Progress { sender: sequence.sender, spans, missing, lost: 0 };
            let found = senders.record(sequence, 0);
            assert_eq!(
                (found.0.missing, found.0.unknown, found.1),
                (expected.missing, expected.unknown, progress)
            );
        }
    }

    #[test]
    fn the_first_datagram_repeats_what_an_earlier_collector_counted() {
        let mut senders = Senders::default();
        senders.set(Progress { sender: 1, spans: 10, missing: 3, lost: 0 });
        assert_eq!(senders.record(datagram(1, 12, 1), 0).0, Before { is_first: true, ..before(5) });
        assert_eq!(senders.record(datagram(1, 14, 1), 0).0, before(1));
        let progress: Vec<_> = senders.iter().collect();
        assert_eq!(progress, [Progress { sender: 1, spans: 15, missing: 6, lost: 0 }]);
    }

    #[test]
    fn losses_in_a_report_that_was_not_received_are_counted_once() {
        let mut senders = Senders::default();
        let datagram = |sent_before, lost_before| Sequence { sender: 1, sent_before, spans: 1, lost_before };
        assert_eq!(senders.record(datagram(0, 0), 20).1.lost, 20);
        assert_eq!(senders.record(datagram(1, 20), 0).0.unreported, 0);
        let (before, progress) = senders.record(datagram(2, 50), 5);
        assert_eq!((before.unreported, progress.lost), (30, 55));
        // The next collector continues from there.
        let mut next = Senders::default();
        next.set(progress);
        let (before, progress) = next.record(datagram(3, 60), 0);
        assert_eq!((before.lost_before, before.unreported, progress.lost), (55, 5, 60));
        assert_eq!(next.record(datagram(4, 60), 0).0, Before::default());
    }

    /// A thread reads the count before it sends, and adds to it afterwards.
    #[test]
    fn concurrent_datagrams_with_one_number_count_no_loss() {
        let mut senders = Senders::default();
        for sent_before in [0, 0, 1, 1, 4] {
            assert_eq!(senders.record(datagram(1, sent_before, 1), 0).0.missing, 0, "{sent_before}");
        }
    }

    #[test]
    fn memory_is_bounded_and_a_forgotten_sender_adds_no_unknown_spans() {
        let mut senders = Senders::default();
        for sender in 0..10_000 {
            senders.record(datagram(sender, 0, 1), 0);
            assert!(senders.known.len() <= 2 * MAX_REMEMBERED);
        }
        assert_eq!(senders.iter().count(), MAX_REMEMBERED);
        assert_eq!(senders.record(datagram(9_999, 2, 1), 0).0, before(1));
        assert_eq!(senders.record(datagram(0, 1, 1), 0).0.unknown, 0, "the sender was forgotten");
    }

    #[test]
    fn common_progress_is_the_least_of_all_stores() {
        let store = |spans: &[(u64, u64)]| {
            let mut store = Senders::default();
            let progress = |(sender, spans): &(u64, u64)| Progress {
                sender: *sender,
                spans: *spans,
                ..Progress::default()
            };
            spans.iter().for_each(|pair| store.set(progress(pair)));
            store
        };
        let common = Senders::common([store(&[(1, 10), (2, 5)]), store(&[(1, 8)])]);
        let mut found: Vec<_> = common.iter().map(|progress| (progress.sender, progress.spans)).collect();
        found.sort_unstable();
        assert_eq!(found, [(1, 8), (2, 5)]);
    }

    #[test]
    fn restored_senders_keep_their_order() {
        let progress = |sender| Progress { sender, spans: 1, ..Progress::default() };
        let few: Vec<Progress> = [3, 1, 2].map(progress).into();
        let many: Vec<Progress> = (0..MAX_REMEMBERED as u64).map(progress).collect();
        for (kept, is_full) in [(few, false), (many, true)] {
            let mut senders = Senders::default();
            senders.restore(kept.clone());
            assert_eq!(senders.iter().collect::<Vec<_>>(), kept);
            let mut common = Senders::common([senders.clone()]);
            assert_eq!(common.iter().collect::<Vec<_>>(), kept);
            for senders in [&mut senders, &mut common] {
                // A full store may have forgotten this sender.
                let unknown = if is_full { 0 } else { 9 };
                assert_eq!(senders.record(datagram(u64::MAX, 9, 1), 0).0.unknown, unknown);
            }
        }
    }
}
