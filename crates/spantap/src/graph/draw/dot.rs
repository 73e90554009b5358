//! A graph in the language of Graphviz.

use std::fmt::Write;

use super::super::call_graph::CallGraph;
use super::super::names::Node;
use super::severity::Severity;
use super::words::{calls, durations, label, lines, most_calls, weight};
use crate::text::cut;

/// The most columns of a line in a label. The tooltip has the whole text.
const COLUMNS: usize = 60;

/// The graph for `dot`.
pub fn dot(graph: &CallGraph) -> String {
    let mut out = String::from(
        "digraph calls {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n  \
         edge [fontname=\"sans-serif\", fontsize=10];\n",
    );
    for (place, node) in graph.nodes.iter().enumerate() {
        let (first, second) = lines(node);
        let text = [Some(first), second].into_iter().flatten().map(|line| escaped(&cut(&line, COLUMNS)));
        let text = text.collect::<Vec<_>>().join("\\n");
        let style = if matches!(node, Node::Named { .. }) { "" } else { ", style=\"rounded,dashed\"" };
        let tooltip = tooltip(&label(node));
        let _ = writeln!(out, "  n{place} [label=\"{text}\", tooltip=\"{tooltip}\"{style}];");
    }
    let most = most_calls(&graph.edges);
    for edge in &graph.edges {
        let (colour, _) = Severity::of(edge).colours();
        let width = 1.0 + 4.0 * weight(edge, most);
        let _ = writeln!(
            out,
            "  n{} -> n{} [label=\"{}\\n{}\", color=\"{colour}\", penwidth={width:.1}];",
            edge.from,
            edge.to,
            escaped(&calls(edge)),
            escaped(&durations(edge)),
        );
    }
    out + "}\n"
}

/// Text for a quoted string that is a label. Graphviz replaces there `\N` by the node's name, and reads characters in HTML's
/// notation.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('\\', "\\\\")
}

/// The same for a tooltip. There, Graphviz 2.43 replaces `\N` even if the backslash is doubled, and other versions do not, so
/// that a similar sign stands for the backslash.
fn tooltip(text: &str) -> String {
    escaped(&text.replace('\\', "\u{29f5}"))
}
