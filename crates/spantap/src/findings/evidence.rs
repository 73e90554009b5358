//! How often something was seen, what it cost, and in which traces.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// The most different things of a kind that are counted.
const MAX_GROUPS: usize = 1_000;

/// The traces that are named.
const EXAMPLES: usize = 3;

/// So many traces are told apart from a new one.
const LATEST: usize = 16;

/// What is known of something that was seen.
#[derive(Clone, Default, Debug)]
pub(super) struct Evidence {
    pub(super) times: u64,
    pub(super) traces: u64,
    pub(super) cost_ns: u64,
    pub(super) most_ns: u64,
    /// The latest traces in which it was seen.
    latest: VecDeque<u128>,
    /// The cost in the traces in which it cost most, the most first.
    worst: Vec<(u64, u128)>,
}

impl Evidence {
    /// It was seen in a trace. What is known of a trace comes at about the same time.
    pub(super) fn add(&mut self, trace_id: u128, cost_ns: u64) {
        self.times += 1;
        self.cost_ns = self.cost_ns.saturating_add(cost_ns);
        self.most_ns = self.most_ns.max(cost_ns);
        if !self.latest.contains(&trace_id) {
            self.traces += 1;
            self.latest.push_back(trace_id);
            self.latest.drain(..self.latest.len().saturating_sub(LATEST));
        }
        match self.worst.iter_mut().find(|(_, id)| *id == trace_id) {
            Some((ns, _)) => *ns = (*ns).max(cost_ns),
            None => self.worst.push((cost_ns, trace_id)),
        }
        self.worst.sort_by_key(|(ns, _)| Reverse(*ns));
        self.worst.truncate(EXAMPLES);
    }

    pub(super) fn average_ns(&self) -> u64 {
        self.cost_ns.checked_div(self.times).unwrap_or(0)
    }

    pub(super) fn trace_ids(&self) -> Vec<u128> {
        self.worst.iter().map(|(_, id)| *id).collect()
    }

    /// The trace in which it cost most.
    pub(super) fn example(&self, each: &mut dyn FnMut(u128)) {
        self.worst.first().into_iter().for_each(|(_, id)| each(*id));
    }
}

/// Things of a kind, up to a limit.
#[derive(Clone, Debug)]
pub(super) struct Groups<K, V> {
    of: HashMap<K, V>,
    left_out: u64,
}

impl<K, V> Default for Groups<K, V> {
    fn default() -> Self {
        Self { of: HashMap::new(), left_out: 0 }
    }
}

impl<K: Eq + Hash, V: Default> Groups<K, V> {
    /// What is known of this one. `None`, and counted, if there is no room for it.
    pub(super) fn of(&mut self, key: K) -> Option<&mut V> {
        if self.of.len() >= MAX_GROUPS && !self.of.contains_key(&key) {
            self.left_out += 1;
            return None;
        }
        Some(self.of.entry(key).or_default())
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.of.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.of.iter()
    }

    /// How often there was no room.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traces_in_which_it_costs_most_are_named_once_each() {
        let mut evidence = Evidence::default();
        for (trace, ns) in [(1, 5), (2, 7), (1, 9), (3, 1), (4, 8), (5, 2)] {
            evidence.add(trace, ns);
        }
        assert_eq!(evidence.trace_ids(), [1, 4, 2]);
        assert_eq!((evidence.times, evidence.traces, evidence.cost_ns, evidence.most_ns), (6, 5, 32, 9));
    }

    #[test]
    fn groups_beyond_the_limit_are_counted() {
        let mut groups = Groups::<usize, u64>::default();
        for key in 0..2 * MAX_GROUPS {
            groups.of(key).into_iter().for_each(|count| *count += 1);
            groups.of(0).into_iter().for_each(|count| *count += 1);
        }
        assert_eq!((groups.iter().count(), groups.left_out()), (MAX_GROUPS, MAX_GROUPS as u64));
        assert_eq!(groups.get(&0), Some(&(2 * MAX_GROUPS as u64 + 1)));
    }
}
