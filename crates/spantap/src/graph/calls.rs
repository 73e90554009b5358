//! Joins spans with their parents, which come before or after them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::batch::{Batch, Called, Seen, SpanKey};
use super::call_graph::{CallGraph, Uncounted};
use super::measure::Measure;
use super::names::{By, Names, NodeId, OUTSIDE, UNKNOWN};
use super::recent::Recent;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Spans that may be parents: at least this many of the last ones, and at most twice as many. An entry has 32 bytes,
    /// and 40 to 75 with the empty places of the map.
    pub(super) spans: usize,
    /// Spans whose parent has not come, likewise. An entry takes up to 150 bytes, less if siblings wait together.
    pub(super) waiting: usize,
    pub(super) nodes: usize,
    /// An edge takes at most 16 KiB, and typically 2.
    pub(super) edges: usize,
}

impl Default for Limits {
    /// Takes at most 280 MB for spans, which the full maps of this size need, 300 MB for those that wait, and 160 MB for
    /// edges.
    ///
    /// The number of spans is the limit, and not their age: that would bound no memory, and the files of two
    /// services have the same times one after the other.
    fn default() -> Self {
        Self { spans: (7 << 22) / 8, waiting: 1_000_000, nodes: 5_000, edges: 10_000 }
    }
}

/// The calls in the spans so far.
pub(super) struct Calls {
    names: Names,
    known: Recent<SpanKey, NodeId>,
    /// By the parent.
    waiting: Recent<SpanKey, Vec<(NodeId, Called)>>,
    counted: Counted,
    spans: u64,
}

/// The calls whose two ends are known.
struct Counted {
    by: By,
    most_edges: usize,
    edges: HashMap<(NodeId, NodeId), Measure>,
    rest: Rest,
}

/// The calls that are not from a known node. A graph that grows has others each time it is shown.
#[derive(Clone, Default)]
struct Rest {
    /// The calls from [`UNKNOWN`], by the called node.
    unknown: HashMap<NodeId, Measure>,
    uncounted: Uncounted,
}

impl Calls {
    pub(super) fn new(by: By, limits: Limits) -> Self {
        let most_edges = limits.edges;
        Self {
            names: Names::new(limits.nodes),
            known: Recent::new(limits.spans),
            waiting: Recent::new(limits.waiting),
            counted: Counted { by, most_edges, edges: HashMap::new(), rest: Rest::default() },
            spans: 0,
        }
    }

    pub(super) fn add(&mut self, batch: &Batch) {
        let ids: Vec<NodeId> = batch.nodes.iter().map(|node| self.names.id(node)).collect();
        for seen in &batch.spans {
            if let Some(id) = ids.get(seen.node) {
                self.add_span(seen, *id);
            }
        }
    }

    fn add_span(&mut self, seen: &Seen, node: NodeId) {
        self.spans += 1;
        // Exporters repeat spans, and two recordings may have the same ones.
        if self.known.get(&seen.key).is_some() {
            self.counted.rest.uncounted.repeated += 1;
            return;
        }
        *self.known.entry(seen.key).0 = node;
        for (child, called) in self.waiting.remove(&seen.key, Vec::len).into_iter().flatten().flatten() {
            self.counted.call(node, child, called);
        }
        match seen.parent {
            _ if !seen.is_chosen => {}
            None => self.counted.call(OUTSIDE, node, seen.called),
            Some(parent) => match self.known.get(&parent).copied() {
                Some(parent) => self.counted.call(parent, node, seen.called),
                None => {
                    let (waiting, forgotten) = self.waiting.entry(parent);
                    waiting.push((node, seen.called));
                    let room = self.counted.most_edges - self.counted.edges.len();
                    self.counted.rest.parents_are_missing(forgotten.values(), room);
                }
            },
        }
    }

    /// The graph so far. The parents of those that wait have not come.
    pub(super) fn so_far(&self) -> CallGraph {
        let Counted { by, most_edges, edges, rest } = &self.counted;
        let mut rest = rest.clone();
        rest.parents_are_missing(self.waiting.values(), most_edges - edges.len());
        let known = edges.iter().map(|(ends, measure)| (*ends, measure));
        let unknown = rest.unknown.iter().map(|(to, measure)| ((UNKNOWN, *to), measure));
        CallGraph::new(*by, self.names.nodes(), known.chain(unknown), self.spans, rest.uncounted)
    }
}

impl Counted {
    fn call(&mut self, from: NodeId, to: NodeId, called: Called) {
        if self.by == By::Service && from == to {
            self.rest.uncounted.within += 1;
            return;
        }
        let is_full = self.edges.len() + self.rest.unknown.len() >= self.most_edges;
        match self.edges.entry((from, to)) {
            Entry::Vacant(_) if is_full => self.rest.uncounted.beyond_limit += 1,
            edge => edge.or_default().add(called.duration_ns, called.is_error),
        }
    }
}

impl Rest {
    /// Nobody knows which span called these. There is room for so many edges.
    fn parents_are_missing<'a>(
        &mut self,
        children: impl Iterator<Item = &'a Vec<(NodeId, Called)>>,
        room: usize,
    ) {
        for &(node, called) in children.flatten() {
            let is_full = self.unknown.len() >= room;
            match self.unknown.entry(node) {
                _ if !called.is_request => self.uncounted.parent_missing += 1,
                Entry::Vacant(_) if is_full => self.uncounted.beyond_limit += 1,
                edge => edge.or_default().add(called.duration_ns, called.is_error),
            }
        }
    }
}
