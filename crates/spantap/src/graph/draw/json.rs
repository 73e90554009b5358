//! A graph as JSON, for scripts. `docs/json.md` defines it; a change that could break a script gets a new [`VERSION`].

use serde_json::{Value, json};

use super::super::call_graph::{CallGraph, Edge};
use super::super::names::{By, Node};
use crate::text::write_json;

/// The version of the schema.
const VERSION: u32 = 1;

/// The graph as an object, in a line.
pub fn json(graph: &CallGraph) -> String {
    let mut line = Vec::new();
    // Writing to a list doesn't fail.
    let _ = write_json(&object(graph), &mut line);
    String::from_utf8(line).unwrap_or_default()
}

fn object(graph: &CallGraph) -> Value {
    let uncounted = &graph.uncounted;
    json!({
        "version": VERSION,
        "by": match graph.by {
            By::Service => "service",
            By::Span => "span",
        },
        "nodes": graph.nodes.iter().map(node).collect::<Vec<_>>(),
        "edges": graph.edges.iter().map(edge).collect::<Vec<_>>(),
        "spans": graph.spans,
        "within_services": uncounted.within,
        "missing_parents": uncounted.parent_missing,
        "repeated_spans": uncounted.repeated,
        "left_out_edges": uncounted.left_out_edges,
        "left_out_calls": uncounted.left_out_calls + uncounted.beyond_limit,
    })
}

fn node(node: &Node) -> Value {
    let (kind, service, name) = match node {
        Node::Outside => ("outside", None, None),
        Node::Unknown => ("unknown", None, None),
        Node::Other => ("other", None, None),
        Node::Named { service, name: None } => ("service", Some(service), None),
        Node::Named { service, name } => ("span", Some(service), name.as_ref()),
    };
    json!({ "node": kind, "service": service, "name": name })
}

fn edge(edge: &Edge) -> Value {
    json!({
        "from": edge.from,
        "to": edge.to,
        "calls": edge.calls,
        "errors": edge.errors,
        "total_ns": u64::try_from(edge.total_ns).unwrap_or(u64::MAX),
        "average_ns": edge.average_ns,
        "p95_ns": edge.p95_ns,
    })
}
