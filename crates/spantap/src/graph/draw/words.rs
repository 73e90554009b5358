//! What is said about nodes and edges.

use super::super::call_graph::Edge;
use super::super::names::Node;
use crate::text::{counted, grouped, on_one_line, readable, safe};

/// The lines of a node's label, escaped: its service, and the name of its spans.
pub(super) fn lines(node: &Node) -> (String, Option<String>) {
    let or = |text: &str, empty: &str| match text {
        "" => empty.to_owned(),
        // Characters that XML does not have, and that `safe` does not escape.
        text => safe(&on_one_line(text)).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}"),
    };
    match node {
        Node::Outside => ("(outside)".into(), None),
        Node::Unknown => ("(unknown)".into(), None),
        Node::Other => ("(other)".into(), None),
        Node::Named { service, name } => {
            (or(service, "(no service)"), name.as_ref().map(|name| or(name, "(no name)")))
        }
    }
}

/// The label of a node, escaped, on one line.
pub(super) fn label(node: &Node) -> String {
    match lines(node) {
        (service, None) => service,
        (service, Some(name)) => format!("{service}: {name}"),
    }
}

/// `1,234 calls, 3 errors (0.2%)`.
pub(super) fn calls(edge: &Edge) -> String {
    let calls = counted(edge.calls, "call", "calls");
    match edge.errors {
        0 => calls,
        errors => format!("{calls}, {} ({})", counted(errors, "error", "errors"), share(edge)),
    }
}

/// `avg 3.00 ms, p95 9.10 ms`.
pub(super) fn durations(edge: &Edge) -> String {
    format!("avg {}, p95 {}", readable(edge.average_ns), readable(edge.p95_ns))
}

/// The share of errors: `2.5%`, `33%`, `<0.1%`; it is never rounded to 0 % or 100 %.
pub(super) fn share(edge: &Edge) -> String {
    let percent = 100.0 * edge.errors as f64 / edge.calls.max(1) as f64;
    match percent {
        _ if edge.errors == 0 => "0%".into(),
        _ if edge.errors >= edge.calls => "100%".into(),
        percent if percent < 0.1 => "<0.1%".into(),
        percent if percent < 9.95 => format!("{percent:.1}%"),
        percent if percent >= 99.5 => ">99%".into(),
        percent => format!("{percent:.0}%"),
    }
}

/// `3 errors (0.2%)`, or nothing.
pub(super) fn errors(edge: &Edge) -> String {
    match edge.errors {
        0 => "0".into(),
        errors => format!("{} ({})", grouped(errors), share(edge)),
    }
}

/// How wide an edge is drawn, from 0 to 1, by the logarithm of its calls.
pub(super) fn weight(edge: &Edge, most: u64) -> f64 {
    let calls = edge.calls.max(1) as f64;
    if most > 1 { calls.ln() / (most as f64).ln() } else { 0.0 }
}

/// The number of calls of the edge with the most.
pub(super) fn most_calls(edges: &[Edge]) -> u64 {
    edges.iter().map(|edge| edge.calls).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_never_rounded_to_none_or_all() {
        let share = |errors, calls| {
            share(&Edge { from: 0, to: 0, calls, errors, total_ns: 0, average_ns: 0, p95_ns: 0 })
        };
        let all = [(0, 5), (1, 10_000), (1, 100), (1, 3), (9_999, 10_000), (5, 5)];
        assert_eq!(
            all.map(|(errors, calls)| share(errors, calls)),
            ["0%", "<0.1%", "1.0%", "33%", ">99%", "100%"]
        );
    }
}
