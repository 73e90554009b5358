//! What senders number: how many spans each has sent before a datagram, so that spans which never came can be counted.
//!
//! A collector that is killed takes along what lay in its socket's queue, and what it had read and not spooled. To the
//! sender these spans are sent. The next collector sees that the first datagram it gets begins at a higher number than
//! the one up to which the spool has them. Without a spool it can tell only how many were sent before it came.
//! Senders other than tracing-usdt don't number their spans: of those nobody can tell.

use std::collections::HashMap;

/// Where a datagram stands, by its sender's word: the member `tracingUsdt`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sequence {
    /// A number that each layer of each process draws at random.
    pub sender: u64,
    /// How many spans its socket had taken before.
    pub sent_before: u64,
    /// How many spans the datagram holds, without the one that reports losses.
    pub spans: u64,
    /// How many spans it had reported as lost before.
    pub lost_before: u64,
}

/// What is known of the spans that a sender has sent so far. A spool keeps it beside the spans, so that collectors which
/// use it one after the other count each missing span once.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// As in [`Sequence`].
    pub sender: u64,
    /// How many have come or are missing.
    pub spans: u64,
    /// How many of them are missing.
    pub missing: u64,
    /// How many others it has lost itself, by reports that have come or are missing.
    pub lost: u64,
}

/// How many senders are remembered; of more, those that were silent longest are forgotten.
const MOST: usize = 1000;

/// The progress of many senders.
#[derive(Clone, Default, Debug)]
pub struct Senders {
    known: HashMap<u64, Known>,
    changes: u64,
    /// A sender that is not known may be one that was forgotten.
    has_forgotten: bool,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    progress: Progress,
    last_change: u64,
    /// Loaded from the spool; not yet seen by this run.
    is_left: bool,
}

/// What a datagram reveals of those before it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Before {
    /// So many spans were sent and never came. With the first datagram that a collector gets from a sender, also those
    /// that collectors before it have counted.
    pub missing: u64,
    /// So many spans were sent before the first that came here: whether anybody got them is not known.
    pub unknown: u64,
    /// So many spans the sender has lost, and no report of them came.
    pub unreported: u64,
    /// So many spans it has lost by reports that collectors before this one got. With the first datagram alone.
    pub lost_before: u64,
    /// It is the first that this collector gets from the sender.
    pub is_first: bool,
}

impl Senders {
    /// Takes note of a datagram that came and reports so many spans as lost.
    pub fn came(&mut self, sequence: Sequence, lost: u64) -> (Before, Progress) {
        let Sequence { sender, sent_before, spans, lost_before } = sequence;
        let mut before = Before::default();
        let mut progress = Progress { sender, spans: sent_before, missing: 0, lost: lost_before };
        match self.known.get(&sender) {
            Some(known) => {
                // Threads that send at the same time may number their datagrams alike: then the sum is right.
                let missing = sent_before.saturating_sub(known.progress.spans);
                progress.spans = known.progress.spans + missing;
                progress.missing = known.progress.missing.saturating_add(missing);
                before.unreported = lost_before.saturating_sub(known.progress.lost);
                progress.lost = lost_before.max(known.progress.lost);
                before.is_first = known.is_left;
                before.lost_before = if known.is_left { known.progress.lost } else { 0 };
                before.missing = if known.is_left { progress.missing } else { missing };
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

    /// Remembers what a store has kept, in the order of [`iter`](Self::iter).
    pub fn restore(&mut self, newest_first: Vec<Progress>) {
        // There may have been more than were kept.
        self.has_forgotten |= newest_first.len() >= MOST;
        newest_first.into_iter().rev().for_each(|progress| self.put(progress, true));
    }

    /// Remembers what a collector before this one has left, or what a store keeps for the next. A sender never goes back:
    /// an older record says less than what is known.
    pub fn set(&mut self, progress: Progress) {
        let known = self.known.get(&progress.sender).map(|known| known.progress);
        self.put(known.filter(|known| known.spans > progress.spans).unwrap_or(progress), true);
    }

    fn put(&mut self, progress: Progress, is_left: bool) {
        self.changes += 1;
        let known = Known { progress, last_change: self.changes, is_left };
        self.known.insert(progress.sender, known);
        if self.known.len() > 2 * MOST {
            let oldest = self.changes - MOST as u64;
            self.known.retain(|_, known| known.last_change > oldest);
            self.has_forgotten = true;
        }
    }

    /// The progress of each that is known, the one that was heard of last first, and no more than are remembered.
    pub fn iter(&self) -> impl Iterator<Item = Progress> {
        let mut known: Vec<&Known> = self.known.values().collect();
        known.sort_by_key(|known| std::cmp::Reverse(known.last_change));
        known.into_iter().take(MOST).map(|known| known.progress)
    }

    /// What has come to all of `stores`, each of which remembers for itself: of a sender the least, since what one
    /// of them lacks is lost to it.
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

    fn missing(missing: u64) -> Before {
        Before { missing, ..Before::default() }
    }

    #[test]
    fn what_is_missing_between_datagrams_is_counted_once() {
        let mut senders = Senders::default();
        for (sequence, before, spans, in_all) in [
            (datagram(1, 0, 10), missing(0), 10, 0),
            (datagram(1, 10, 5), missing(0), 15, 0),
            (datagram(1, 22, 3), missing(7), 25, 7),
            (datagram(1, 25, 0), missing(0), 25, 7),
            (datagram(1, 26, 1), missing(1), 27, 8),
            (datagram(2, 40, 2), Before { unknown: 40, ..Before::default() }, 42, 0),
            (datagram(2, 42, 1), missing(0), 43, 0),
            (datagram(1, u64::MAX, 9), missing(u64::MAX - 27), u64::MAX, u64::MAX - 19),
        ] {
            let progress = Progress { sender: sequence.sender, spans, missing: in_all, lost: 0 };
            let found = senders.came(sequence, 0);
            assert_eq!(
                (found.0.missing, found.0.unknown, found.1),
                (before.missing, before.unknown, progress)
            );
        }
    }

    #[test]
    fn what_a_collector_before_has_counted_is_said_again_once() {
        let mut senders = Senders::default();
        senders.set(Progress { sender: 1, spans: 10, missing: 3, lost: 0 });
        assert_eq!(senders.came(datagram(1, 12, 1), 0).0, Before { is_first: true, ..missing(5) });
        assert_eq!(senders.came(datagram(1, 14, 1), 0).0, missing(1));
        let left: Vec<_> = senders.iter().collect();
        assert_eq!(left, [Progress { sender: 1, spans: 15, missing: 6, lost: 0 }]);
    }

    #[test]
    fn a_report_of_losses_that_never_came_is_counted_once() {
        let mut senders = Senders::default();
        let datagram = |sent_before, lost_before| Sequence { sender: 1, sent_before, spans: 1, lost_before };
        assert_eq!(senders.came(datagram(0, 0), 20).1.lost, 20);
        assert_eq!(senders.came(datagram(1, 20), 0).0.unreported, 0);
        let (before, progress) = senders.came(datagram(2, 50), 5);
        assert_eq!((before.unreported, progress.lost), (30, 55));
        // By the next collector.
        let mut next = Senders::default();
        next.set(progress);
        let (before, progress) = next.came(datagram(3, 60), 0);
        assert_eq!((before.lost_before, before.unreported, progress.lost), (55, 5, 60));
        assert_eq!(next.came(datagram(4, 60), 0).0, Before::default());
    }

    /// Each reads the number before it sends, and the number grows after that.
    #[test]
    fn threads_that_send_at_the_same_time_miss_nothing() {
        let mut senders = Senders::default();
        for sent_before in [0, 0, 1, 1, 4] {
            assert_eq!(senders.came(datagram(1, sent_before, 1), 0).0.missing, 0, "{sent_before}");
        }
    }

    #[test]
    fn the_memory_of_senders_is_bounded_and_no_excuse_for_wrong_figures() {
        let mut senders = Senders::default();
        for sender in 0..10_000 {
            senders.came(datagram(sender, 0, 1), 0);
            assert!(senders.known.len() <= 2 * MOST);
        }
        assert_eq!(senders.iter().count(), MOST);
        assert_eq!(senders.came(datagram(9_999, 2, 1), 0).0, missing(1));
        assert_eq!(senders.came(datagram(0, 1, 1), 0).0.unknown, 0, "it is one that was forgotten");
    }

    #[test]
    fn what_one_store_lacks_has_not_come() {
        let store = |spans: &[(u64, u64)]| {
            let mut store = Senders::default();
            let progress = |(sender, spans): &(u64, u64)| Progress {
                sender: *sender,
                spans: *spans,
                ..Progress::default()
            };
            spans.iter().for_each(|of| store.set(progress(of)));
            store
        };
        let common = Senders::common([store(&[(1, 10), (2, 5)]), store(&[(1, 8)])]);
        let mut found: Vec<_> = common.iter().map(|progress| (progress.sender, progress.spans)).collect();
        found.sort_unstable();
        assert_eq!(found, [(1, 8), (2, 5)]);
    }

    #[test]
    fn senders_that_were_kept_are_as_old_as_before() {
        let progress = |sender| Progress { sender, spans: 1, ..Progress::default() };
        let few: Vec<Progress> = [3, 1, 2].map(progress).into();
        let many: Vec<Progress> = (0..MOST as u64).map(progress).collect();
        for (kept, is_full) in [(few, false), (many, true)] {
            let mut senders = Senders::default();
            senders.restore(kept.clone());
            assert_eq!(senders.iter().collect::<Vec<_>>(), kept);
            let mut common = Senders::common([senders.clone()]);
            assert_eq!(common.iter().collect::<Vec<_>>(), kept);
            for senders in [&mut senders, &mut common] {
                // Of a full store it may be one that was forgotten.
                let unknown = if is_full { 0 } else { 9 };
                assert_eq!(senders.came(datagram(u64::MAX, 9, 1), 0).0.unknown, unknown);
            }
        }
    }
}
