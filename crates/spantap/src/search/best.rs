//! Keeps the traces with the greatest values, of any number of traces.

use std::collections::{BTreeSet, HashMap};

/// The traces with the greatest values, each with the greatest value that was offered for it.
///
/// A trace that falls out comes back with a greater value. The smallest kept value never decreases, so those that are
/// kept at the end are right, whatever the order in which the values came.
#[derive(Debug)]
pub(super) struct Best {
    limit: usize,
    values: HashMap<u128, u64>,
    ascending: BTreeSet<(u64, u128)>,
}

impl Best {
    /// Keeps at most `limit` traces.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, values: HashMap::new(), ascending: BTreeSet::new() }
    }

    pub(super) fn offer(&mut self, trace_id: u128, value: u64) {
        if let Some(old) = self.values.get_mut(&trace_id) {
            if value > *old {
                self.ascending.remove(&(*old, trace_id));
                self.ascending.insert((value, trace_id));
                *old = value;
            }
            return;
        }
        if self.values.len() >= self.limit {
            match self.ascending.first() {
                Some(&(smallest, out)) if smallest < value => {
                    self.ascending.pop_first();
                    self.values.remove(&out);
                }
                _ => return,
            }
        }
        self.values.insert(trace_id, value);
        self.ascending.insert((value, trace_id));
    }

    /// The traces, the one with the smallest value first.
    pub(super) fn ascending(&self) -> Vec<u128> {
        self.ascending.iter().map(|(_, id)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_greatest_are_kept_in_any_order(offers in prop::collection::vec((0..20_u128, 0..1000_u64), 0..200), limit in 0..8_usize) {
            // Each value only once, so that the result is unique.
            let offers: Vec<(u128, u64)> =
                offers.into_iter().enumerate().map(|(place, (id, value))| (id, value * 1000 + place as u64)).collect();
            let mut best = Best::new(limit);
            let mut greatest: HashMap<u128, u64> = HashMap::new();
            for &(id, value) in &offers {
                best.offer(id, value);
                let old = greatest.entry(id).or_default();
                *old = value.max(*old);
            }
            let mut expected: Vec<(u64, u128)> = greatest.into_iter().map(|(id, value)| (value, id)).collect();
            expected.sort_unstable();
            let first = expected.len().saturating_sub(limit);
            let expected: Vec<u128> = expected[first..].iter().map(|(_, id)| *id).collect();
            prop_assert_eq!(best.ascending(), expected);
        }
    }
}
