//! Who calls whom.

use std::collections::HashMap;

use super::measure::Measure;
use super::names::{By, Node, NodeId};

/// Who calls whom. The edges with the most time come first.
#[derive(Clone, PartialEq, Debug)]
pub struct CallGraph {
    /// What a node is.
    pub by: By,
    /// The nodes that have an edge.
    pub nodes: Vec<Node>,
    /// The edges.
    pub edges: Vec<Edge>,
    /// How many spans were read.
    pub spans: u64,
    /// Spans that are on no edge.
    pub uncounted: Uncounted,
}

/// Calls from one node to another.
#[derive(Clone, PartialEq, Debug)]
pub struct Edge {
    /// The place of the caller among the nodes.
    pub from: usize,
    /// The place of the called node among the nodes.
    pub to: usize,
    /// How many calls.
    pub calls: u64,
    /// How many of the called spans have an error.
    pub errors: u64,
    /// The durations of the called spans, added up, in nanoseconds.
    pub total_ns: u128,
    /// Their average.
    pub average_ns: u64,
    /// Their 95th percentile, to within 1 %.
    pub p95_ns: u64,
}

/// Spans that are on no edge of the graph.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Uncounted {
    /// The parent is in the same service, so that the span is no call between services.
    pub within: u64,
    /// The parent is in none of the files, or too far away in them.
    pub parent_missing: u64,
    /// The same span was read before.
    pub repeated: u64,
    /// There was no room for another edge.
    pub beyond_limit: u64,
    /// Edges that [`CallGraph::limit`] left out.
    pub left_out_edges: u64,
    /// The calls of these edges.
    pub left_out_calls: u64,
}

impl CallGraph {
    pub(super) fn new<'a>(
        by: By,
        nodes: &[Node],
        edges: impl Iterator<Item = ((NodeId, NodeId), &'a Measure)>,
        spans: u64,
        uncounted: Uncounted,
    ) -> Self {
        let edge = |((from, to), measure): ((NodeId, NodeId), &Measure)| Edge {
            from: from as usize,
            to: to as usize,
            calls: measure.calls,
            errors: measure.errors,
            total_ns: measure.total_ns,
            average_ns: measure.average_ns(),
            p95_ns: measure.p95_ns(),
        };
        let mut edges: Vec<Edge> = edges.map(edge).collect();
        let name = |place: usize| nodes.get(place);
        edges.sort_by(|one, other| {
            let names = (name(one.from), name(one.to)).cmp(&(name(other.from), name(other.to)));
            other.total_ns.cmp(&one.total_ns).then(names)
        });
        let mut graph = Self { by, nodes: Vec::new(), edges, spans, uncounted };
        graph.keep_nodes(nodes);
        graph
    }

    /// Keeps only the first `most` edges.
    pub fn limit(&mut self, most: usize) {
        let left_out = self.edges.split_off(most.min(self.edges.len()));
        self.uncounted.left_out_edges += left_out.len() as u64;
        self.uncounted.left_out_calls += left_out.iter().map(|edge| edge.calls).sum::<u64>();
        let nodes = std::mem::take(&mut self.nodes);
        self.keep_nodes(&nodes);
    }

    /// Keeps those of `all` that have an edge. They come in the order of the edges, so that the result does not depend on the
    /// order in which spans were read.
    fn keep_nodes(&mut self, all: &[Node]) {
        let mut nodes = Vec::new();
        let mut places = HashMap::new();
        for edge in &mut self.edges {
            for end in [&mut edge.from, &mut edge.to] {
                let old = *end;
                *end = *places.entry(old).or_insert_with(|| {
                    nodes.extend(all.get(old).cloned());
                    nodes.len() - 1
                });
            }
        }
        self.nodes = nodes;
    }
}
