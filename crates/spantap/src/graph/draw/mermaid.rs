//! A graph as a flowchart of Mermaid, which many viewers of Markdown draw.

use std::fmt::Write;

use super::super::call_graph::CallGraph;
use super::super::names::Node;
use super::severity::Severity;
use super::words::{calls, durations, lines, most_calls, weight};
use crate::text::cut;

/// The most columns of a line in a label. Mermaid refuses a text of more than 50,000 characters.
const COLUMNS: usize = 60;

/// The graph as a flowchart.
pub fn mermaid(graph: &CallGraph) -> String {
    let mut out = String::from("flowchart LR\n");
    for (place, node) in graph.nodes.iter().enumerate() {
        let (first, second) = lines(node);
        let text = [Some(first), second].into_iter().flatten().map(|line| escaped(&cut(&line, COLUMNS)));
        let text = text.collect::<Vec<_>>().join("<br/>");
        let (open, close) = if matches!(node, Node::Named { .. }) { ("[", "]") } else { ("([", "])") };
        let _ = writeln!(out, "  n{place}{open}\"{text}\"{close}");
    }
    for edge in &graph.edges {
        let text = format!("{}<br/>{}", escaped(&calls(edge)), escaped(&durations(edge)));
        let _ = writeln!(out, "  n{} -->|\"{text}\"| n{}", edge.from, edge.to);
    }
    let most = most_calls(&graph.edges);
    for (place, edge) in graph.edges.iter().enumerate() {
        let (colour, _) = Severity::of(edge).colours();
        let width = 1.0 + 4.0 * weight(edge, most);
        let _ = writeln!(out, "  linkStyle {place} stroke:{colour},stroke-width:{width:.1}px");
    }
    out
}

/// Text for a quoted label. Mermaid writes a character as `#` with its number and a semicolon. It reads HTML in labels, draws
/// icons for words such as `fa:fa-car`, and takes a label that begins like an item of a list for Markdown.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // `1.` and `-` at the beginning are those of a list.
    let mut is_beginning = true;
    for c in text.chars() {
        let is_plain = match c {
            '.' | ')' | '-' => !is_beginning,
            ' ' | ',' | '/' | '_' | '(' | '%' => true,
            c => !c.is_ascii_punctuation(),
        };
        is_beginning &= c.is_ascii_digit();
        match is_plain {
            true => out.push(c),
            false => {
                let _ = write!(out, "#{};", u32::from(c));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_label_has_a_meaning() {
        let all = [
            ("GET /cart (all)", "GET /cart (all)"),
            ("fa:fa-car", "fa#58;fa-car"),
            ("\"]; x", "#34;#93;#59; x"),
            ("<b>&#", "#60;b#62;#38;#35;"),
            ("`x`", "#96;x#96;"),
            ("1. x", "1#46; x"),
            ("- x-1", "#45; x-1"),
            ("größer", "größer"),
        ];
        for (text, expected) in all {
            assert_eq!(escaped(text), expected);
        }
    }
}
