//! Who calls whom, compared with a search through all spans.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::batch::{Batch, Called, Seen, SpanKey};
use super::call_graph::CallGraph;
use super::calls::{Calls, Limits};
use super::names::{By, Node};

/// A span of a small world: three services with two names each.
#[derive(Clone, Debug)]
struct Span {
    trace: u8,
    id: u8,
    parent: Option<u8>,
    service: u8,
    name: u8,
    duration_ns: u64,
    is_error: bool,
    is_request: bool,
    is_chosen: bool,
}

fn node(span: &Span, by: By) -> Node {
    let name = format!("name {}", span.name);
    Node::named(&format!("service {}", span.service), (by == By::Span).then_some(&name))
}

fn batch(span: &Span, by: By) -> Batch {
    let key = |id: u8| SpanKey::new(span.trace.into(), id.into());
    let Span { duration_ns, is_error, is_request, is_chosen, .. } = *span;
    let called = Called { duration_ns, is_error, is_request };
    let seen = Seen { key: key(span.id), parent: span.parent.map(key), node: 0, called, is_chosen };
    Batch { nodes: vec![node(span, by)], spans: vec![seen] }
}

fn graph(spans: &[Span], by: By, limits: Limits) -> CallGraph {
    let mut calls = Calls::new(by, limits);
    spans.iter().for_each(|span| calls.add(&batch(span, by)));
    calls.so_far()
}

type Naive = BTreeMap<(Node, Node), (u64, u64, u128)>;

/// The edges, and how many spans have no parent in `spans`.
fn naive(spans: &[Span], by: By) -> (Naive, u64) {
    let (mut edges, mut missing) = (Naive::new(), 0);
    let nodes: HashMap<(u8, u8), Node> =
        spans.iter().map(|span| ((span.trace, span.id), node(span, by))).collect();
    for span in spans.iter().filter(|span| span.is_chosen) {
        let to = node(span, by);
        let parent = span.parent.map(|id| nodes.get(&(span.trace, id)));
        let from = match parent {
            None => Node::Outside,
            Some(None) if span.is_request => Node::Unknown,
            Some(None) => {
                missing += 1;
                continue;
            }
            Some(Some(node)) if by == By::Service && *node == to => continue,
            Some(Some(node)) => node.clone(),
        };
        let edge = edges.entry((from, to)).or_default();
        *edge = (edge.0 + 1, edge.1 + u64::from(span.is_error), edge.2 + u128::from(span.duration_ns));
    }
    (edges, missing)
}

fn edges(graph: &CallGraph) -> Naive {
    let name = |place: usize| graph.nodes[place].clone();
    let edges = graph.edges.iter();
    edges.map(|edge| ((name(edge.from), name(edge.to)), (edge.calls, edge.errors, edge.total_ns))).collect()
}

fn any_span() -> impl Strategy<Value = Span> {
    let ids = (0..4_u8, 0..12_u8, prop::option::weighted(0.8, 0..14_u8), 0..3_u8, 0..2_u8);
    let more = (0..1000_u64, prop::bool::ANY, prop::bool::ANY, prop::bool::weighted(0.8));
    (ids, more).prop_map(
        |((trace, id, parent, service, name), (duration_ns, is_error, is_request, is_chosen))| Span {
            trace,
            id,
            parent,
            service,
            name,
            duration_ns,
            is_error,
            is_request,
            is_chosen,
        },
    )
}

/// Spans in any order, each id once. Some are their own parent, and some are in a circle.
fn any_spans() -> impl Strategy<Value = Vec<Span>> {
    let distinct = |spans: Vec<Span>| {
        let by_id: BTreeMap<(u8, u8), Span> =
            spans.into_iter().map(|span| ((span.trace, span.id), span)).collect();
        by_id.into_values().collect::<Vec<_>>()
    };
    prop::collection::vec(any_span(), 0..40).prop_map(distinct).prop_shuffle()
}

fn any_by() -> impl Strategy<Value = By> {
    prop_oneof![Just(By::Service), Just(By::Span)]
}

proptest! {
    #[test]
    fn agrees_with_a_search_through_all_spans(spans in any_spans(), by in any_by()) {
        let graph = graph(&spans, by, Limits::default());
        let (expected, missing) = naive(&spans, by);
        prop_assert_eq!(edges(&graph), expected);
        prop_assert_eq!(graph.uncounted.parent_missing, missing);
        prop_assert_eq!(graph.spans, spans.len() as u64);
    }

    #[test]
    fn the_order_of_spans_does_not_matter((one, other) in any_spans().prop_flat_map(|spans| (Just(spans.clone()), Just(spans).prop_shuffle())), by in any_by()) {
        prop_assert_eq!(graph(&one, by, Limits::default()), graph(&other, by, Limits::default()));
    }

    #[test]
    fn a_repeated_span_is_counted_once(spans in any_spans(), by in any_by()) {
        let twice = [&spans[..], &spans[..]].concat();
        let (mut once, twice) = (graph(&spans, by, Limits::default()), graph(&twice, by, Limits::default()));
        prop_assert_eq!(twice.uncounted.repeated, spans.len() as u64);
        once.uncounted.repeated = twice.uncounted.repeated;
        once.spans = twice.spans;
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn every_span_is_somewhere_in_the_counts_whatever_the_limits(spans in any_spans(), by in any_by(), room in (0..5_usize, 0..5_usize, 0..4_usize, 0..4_usize)) {
        let limits = Limits { spans: room.0, waiting: room.1, nodes: room.2, edges: room.3 };
        let graph = graph(&spans, by, limits);
        prop_assert!(graph.edges.len() <= limits.edges);
        prop_assert!(graph.nodes.len() <= limits.nodes + 3);
        let calls: u64 = graph.edges.iter().map(|edge| edge.calls).sum();
        let uncounted = graph.uncounted;
        let all = calls + uncounted.within + uncounted.parent_missing + uncounted.repeated + uncounted.beyond_limit;
        let not_chosen = spans.iter().filter(|span| !span.is_chosen).count() as u64;
        prop_assert_eq!(all + not_chosen, spans.len() as u64);
    }

    #[test]
    fn a_limit_counts_what_it_leaves_out(spans in any_spans(), most in 0..6_usize) {
        let all = graph(&spans, By::Span, Limits::default());
        let mut limited = all.clone();
        limited.limit(most);
        prop_assert_eq!(limited.edges.len(), all.edges.len().min(most));
        let calls = |graph: &CallGraph| graph.edges.iter().map(|edge| edge.calls).sum::<u64>();
        prop_assert_eq!(calls(&limited) + limited.uncounted.left_out_calls, calls(&all));
        prop_assert!(limited.edges.iter().all(|edge| edge.from.max(edge.to) < limited.nodes.len()));
        let least = limited.edges.last().map_or(u128::MAX, |edge| edge.total_ns);
        prop_assert!(all.edges[limited.edges.len()..].iter().all(|edge| edge.total_ns <= least));
    }
}

#[test]
fn long_traces_keep_their_last_spans() {
    let span = |id: u8| Span {
        trace: 1,
        id,
        parent: id.checked_sub(1),
        service: id % 2,
        name: 0,
        duration_ns: 1,
        is_error: false,
        is_request: false,
        is_chosen: true,
    };
    let spans: Vec<Span> = (0..200).map(span).collect();
    let small = Limits { spans: 2, waiting: 2, ..Limits::default() };
    assert_eq!(graph(&spans, By::Service, small), graph(&spans, By::Service, Limits::default()));
}
