//! How far each sender has come, without its spans that wait for a decision.
//!
//! A spool keeps this progress, so that after a kill the next spantap counts what is missing. Spans that wait are in memory
//! only. They are left out of the progress until their trace is decided, and so the next spantap counts them as missing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::process::Progress;

/// The most senders with progress. Beyond it, those without waiting spans are forgotten; the spool remembers no more either.
const MAX_SENDERS: usize = 2_000;

/// How many spans of a sender wait.
#[derive(Default, Debug)]
pub(super) struct Position(AtomicU64);

impl Position {
    pub(super) fn wait(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn decide(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn waiting(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The progress of all senders.
#[derive(Debug)]
pub(super) struct Positions {
    known: HashMap<u64, Known>,
    /// The number of senders at which to forget some. It grows if all of them have waiting spans.
    most: usize,
    /// The progress of forgotten senders that is not passed on yet.
    forgotten: Vec<Progress>,
}

#[derive(Default, Debug)]
struct Known {
    latest: Option<Progress>,
    position: Arc<Position>,
    /// What was last passed on.
    passed_on: Option<Progress>,
}

impl Known {
    /// The progress, if it has changed since the last call.
    fn changed(&mut self) -> Option<Progress> {
        let latest = self.latest?;
        let spans = latest.spans.saturating_sub(self.position.waiting());
        let now = Progress { spans, ..latest };
        (self.passed_on.replace(now) != Some(now)).then_some(now)
    }
}

impl Default for Positions {
    fn default() -> Self {
        Self { known: HashMap::new(), most: MAX_SENDERS, forgotten: Vec::new() }
    }
}

impl Positions {
    /// The position of a sender.
    pub(super) fn of(&mut self, sender: u64) -> Arc<Position> {
        Arc::clone(&self.known(sender).position)
    }

    fn known(&mut self, sender: u64) -> &mut Known {
        if self.known.len() >= self.most && !self.known.contains_key(&sender) {
            let forgotten = &mut self.forgotten;
            self.known.retain(|_, known| {
                let waits = Arc::strong_count(&known.position) > 1;
                if !waits {
                    forgotten.extend(known.changed());
                }
                waits
            });
            self.most = MAX_SENDERS.max(2 * self.known.len());
        }
        self.known.entry(sender).or_default()
    }

    /// Notes that a sender's spans up to here were taken.
    pub(super) fn take(&mut self, progress: Progress) {
        self.known(progress.sender).latest = Some(progress);
    }

    /// Whether so many senders were forgotten that their progress should be passed on now.
    pub(super) fn is_full(&self) -> bool {
        self.forgotten.len() >= MAX_SENDERS
    }

    /// The progress that has changed since the last call.
    pub(super) fn changed(&mut self) -> Vec<Progress> {
        let mut changed = std::mem::take(&mut self.forgotten);
        changed.extend(self.known.values_mut().filter_map(Known::changed));
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(sender: u64, spans: u64) -> Progress {
        Progress { sender, spans, missing: 0, lost: 0 }
    }

    #[test]
    fn spans_that_wait_are_not_in_the_progress() {
        let mut positions = Positions::default();
        let position = positions.of(7);
        assert_eq!(positions.changed(), []);
        (0..3).for_each(|_| position.wait());
        positions.take(progress(7, 10));
        assert_eq!(positions.changed(), [progress(7, 7)]);
        assert_eq!(positions.changed(), []);
        position.decide();
        assert_eq!(positions.changed(), [progress(7, 8)]);
        (0..2).for_each(|_| position.decide());
        assert_eq!(positions.changed(), [progress(7, 10)]);
    }

    #[test]
    fn very_many_senders_in_one_batch_are_forgotten_once_their_progress_is_passed_on() {
        let mut positions = Positions::default();
        let mut passed_on = 0;
        let first = positions.of(1);
        for sender in 2..20_000 {
            positions.take(progress(sender, 1));
            assert!(positions.known.len() <= MAX_SENDERS);
            assert!(positions.forgotten.len() < 2 * MAX_SENDERS);
            if positions.is_full() {
                passed_on += positions.changed().len();
            }
        }
        drop(first);
        assert_eq!(passed_on + positions.changed().len(), 20_000 - 2);
    }

    #[test]
    fn senders_without_waiting_spans_are_forgotten_when_there_are_many() {
        let mut positions = Positions::default();
        let waits = positions.of(1);
        waits.wait();
        positions.take(progress(1, 5));
        for sender in 2..10_000 {
            drop(positions.of(sender));
            positions.take(progress(sender, 1));
            assert!(positions.known.len() <= MAX_SENDERS);
        }
        assert!(positions.changed().contains(&progress(1, 4)));
    }
}
