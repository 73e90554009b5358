//! Remembers what was decided about traces, for spans that come later, in bounded memory.

use std::collections::HashMap;

use super::rules::Decision;

/// A decision, as it is remembered.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Decided {
    pub(super) decision: Decision,
    /// No span of the trace could have changed it, so spans that come later are not late.
    pub(super) is_settled: bool,
}

/// The decisions about the traces that were seen last.
///
/// They are in two halves. Whatever is asked for moves to the new half. When that is full, it becomes the old one, which is
/// forgotten: so a trace that still gets spans is remembered for as long as it lasts.
#[derive(Debug)]
pub(super) struct Memory {
    /// The most decisions in a half.
    half: usize,
    new: HashMap<u128, Decided>,
    old: HashMap<u128, Decided>,
}

impl Memory {
    /// Remembers at least `half` decisions, and at most twice as many.
    pub(super) fn new(half: usize) -> Self {
        Self { half: half.max(1), new: HashMap::new(), old: HashMap::new() }
    }

    pub(super) fn get(&mut self, trace_id: u128) -> Option<Decided> {
        if let Some(found) = self.new.get(&trace_id) {
            return Some(*found);
        }
        let found = self.old.remove(&trace_id)?;
        self.put(trace_id, found);
        Some(found)
    }

    pub(super) fn put(&mut self, trace_id: u128, decided: Decided) {
        if self.new.len() >= self.half && !self.new.contains_key(&trace_id) {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(trace_id, decided);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROPPED: Decided = Decided { decision: Decision::Dropped, is_settled: false };

    #[test]
    fn traces_that_are_asked_for_are_remembered() {
        let mut memory = Memory::new(100);
        memory.put(0, DROPPED);
        for trace in 1..10_000 {
            memory.put(trace, DROPPED);
            assert!(memory.new.len() + memory.old.len() <= 200);
            if trace % 50 == 0 {
                assert_eq!(memory.get(0), Some(DROPPED), "{trace}");
            }
            assert_eq!(memory.get(trace.saturating_sub(40)), Some(DROPPED), "{trace}");
        }
        assert_eq!(memory.get(5_000), None);
    }
}
