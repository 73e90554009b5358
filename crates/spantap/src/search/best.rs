//! Keeps the traces with the greatest values, of any number of traces.

use std::collections::{BTreeSet, HashMap};

/// The traces with the greatest values, each with the greatest value that was offered for it.
///
/// A trace that falls out comes back with a greater value. The smallest kept value never decreases, so those that are
/// kept at the end are right, whatever the order in which the values came.
#[derive(Debug)]
pub(super) struct Best {
    values: HashMap<u128, u64>,
    /// How many are kept, and the same traces by value. Without a limit, none falls out, and they are sorted at the end.
    limited: Option<(usize, BTreeSet<(u64, u128)>)>,
}

impl Best {
    /// Keeps at most `limit` traces.
    pub(super) fn new(limit: Option<usize>) -> Self {
        Self { values: HashMap::new(), limited: limit.map(|limit| (limit, BTreeSet::new())) }
    }

    pub(super) fn offer(&mut self, trace_id: u128, value: u64) {
        let Some((limit, ascending)) = &mut self.limited else {
            let known = self.values.entry(trace_id).or_default();
            *known = value.max(*known);
            return;
        };
        if let Some(known) = self.values.get_mut(&trace_id) {
            if value > *known {
                ascending.remove(&(*known, trace_id));
                ascending.insert((value, trace_id));
                *known = value;
            }
            return;
        }
        if self.values.len() >= *limit {
            match ascending.first() {
                Some(&(smallest, out)) if smallest < value => {
                    ascending.pop_first();
                    self.values.remove(&out);
                }
                _ => return,
            }
        }
        self.values.insert(trace_id, value);
        ascending.insert((value, trace_id));
    }

    /// The traces, the one with the smallest value first.
    pub(super) fn ascending(self) -> Vec<u128> {
        let mut by_value: Vec<(u64, u128)> = self.values.into_iter().map(|(id, value)| (value, id)).collect();
        by_value.sort_unstable();
        by_value.into_iter().map(|(_, id)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_greatest_are_kept_in_any_order(
            offers in prop::collection::vec((0..20_u128, 0..1000_u64), 0..200),
            limit in prop::option::of(0..8_usize),
        ) {
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
            let first = expected.len().saturating_sub(limit.unwrap_or(usize::MAX));
            let expected: Vec<u128> = expected[first..].iter().map(|(_, id)| *id).collect();
            prop_assert_eq!(best.ascending(), expected);
        }
    }
}
