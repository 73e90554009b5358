//! Sums up which spans waited for which, by their names.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::records::{NameAt, Program, TimeRecord};
use crate::stats::Wait;

/// The most names that are kept. Beyond them, spans are unnamed.
const MAX_NAMES: usize = 16_384;

/// The most pairs that are told apart. The waits of the rest are summed up as those of [`OTHERS`].
const MAX_PAIRS: usize = 1_000;

const OTHERS: &str = "(others)";

/// A span that is not recorded, or whose name could not be read or reported.
const UNNAMED: &str = "(unnamed)";

/// The names of spans, by their addresses. The name of a callsite never moves.
#[derive(Default)]
pub(super) struct Names(HashMap<NameAt, Arc<str>>);

impl Names {
    pub(super) fn add(&mut self, at: NameAt, name: &[u8]) {
        if self.0.len() < MAX_NAMES {
            self.0.entry(at).or_insert_with(|| String::from_utf8_lossy(name).into());
        }
    }

    pub(super) fn of(&self, at: NameAt) -> Option<Arc<str>> {
        self.0.get(&at).cloned()
    }

    pub(super) fn forget(&mut self, programs: &HashSet<Program>) {
        self.0.retain(|at, _| !programs.contains(&at.program));
    }
}

/// How often and how long spans waited until a thread in another span woke them.
pub(super) struct Waits {
    by_names: HashMap<Pair, (u64, u64)>,
    unnamed: Arc<str>,
}

/// The name of the span that waited, and of the one in which it was woken.
type Pair = (Arc<str>, Arc<str>);

impl Default for Waits {
    fn default() -> Self {
        Self { by_names: HashMap::new(), unnamed: UNNAMED.into() }
    }
}

impl Waits {
    pub(super) fn add(&mut self, record: &TimeRecord, names: &Names) {
        // Without a time, it was woken before it slept.
        let Some(waker) = record.waker.filter(|_| record.waited_ns > 0) else { return };
        let name = |at| names.of(at).unwrap_or_else(|| Arc::clone(&self.unnamed));
        let mut pair: Pair = (name(record.name), name(waker));
        if self.by_names.len() >= MAX_PAIRS && !self.by_names.contains_key(&pair) {
            pair = (OTHERS.into(), OTHERS.into());
        }
        let (count, time_ns) = self.by_names.entry(pair).or_default();
        *count += 1;
        *time_ns = time_ns.saturating_add(record.waited_ns);
    }

    pub(super) fn all(&self) -> Vec<Wait> {
        let waits = self.by_names.iter().map(|((span, waker), (count, time_ns))| Wait {
            span: Arc::clone(span),
            waker: Arc::clone(waker),
            count: *count,
            time_ns: *time_ns,
        });
        waits.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::account::Account;

    fn at(address: u64) -> NameAt {
        NameAt { program: Program { pid: 7, image: 1 }, address }
    }

    fn record(name: NameAt, waker: Option<NameAt>) -> TimeRecord {
        let program = name.program;
        TimeRecord { program, span_ids: vec![1], account: Account::default(), name, waker, waited_ns: 10 }
    }

    #[test]
    fn waits_are_summed_up_by_names() {
        let (mut waits, mut names) = (Waits::default(), Names::default());
        for (address, name) in [(1, "a"), (2, "b"), (3, "b"), (2, "another, which can't be")] {
            names.add(at(address), name.as_bytes());
        }
        for waker in [Some(at(2)), None, Some(at(3)), Some(at(4)), Some(at(0))] {
            waits.add(&record(at(1), waker), &names);
        }
        waits.add(&TimeRecord { waited_ns: 0, ..record(at(1), Some(at(2))) }, &names);
        let mut all: Vec<_> =
            waits.all().into_iter().map(|wait| (wait.span, wait.waker, wait.count, wait.time_ns)).collect();
        all.sort();
        assert_eq!(all, [("a".into(), UNNAMED.into(), 2, 20), ("a".into(), "b".into(), 2, 20)]);
        names.forget(&HashSet::from([at(1).program]));
        assert_eq!(names.of(at(1)), None);
    }

    #[test]
    fn waits_beyond_the_limits_are_counted_together() {
        let (mut waits, mut names) = (Waits::default(), Names::default());
        for address in 1..=2 * MAX_NAMES as u64 {
            names.add(at(address), address.to_string().as_bytes());
            waits.add(&record(at(1), Some(at(address))), &names);
        }
        assert_eq!(names.0.len(), MAX_NAMES);
        let all = waits.all();
        let others = all.iter().find(|wait| &*wait.span == OTHERS).expect("there are others");
        assert_eq!((all.len(), others.count), (MAX_PAIRS + 1, (2 * MAX_NAMES - MAX_PAIRS) as u64));
    }
}
