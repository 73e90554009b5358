//! A graph as a picture: a self-contained SVG, without scripts, fonts or links.
//!
//! It has a background of its own, dark where the viewer prefers that, so that it is readable on any page.

use std::fmt::{self, Display, Write};

use super::super::call_graph::{CallGraph, Edge};
use super::super::names::{By, Node};
use super::layout::{Link, Point, Rect, Route, Size, layout};
use super::severity::Severity;
use super::words::{calls, durations, label, lines, most_calls, weight};
use crate::text::{counted, cut, width};

/// The width of a character: 0.6 of the size of the font, as in most fonts of fixed width, and a little to spare.
const COLUMN: f64 = 0.61;
/// The sizes of the fonts of boxes and of labels.
const BOX_FONT: f64 = 13.0;
const LABEL_FONT: f64 = 11.0;
const LINE: f64 = 18.0;
/// The most columns of a line in a box. The tooltip has the whole text.
const COLUMNS: usize = 36;
/// The width of the legend.
const MIN_WIDTH: f64 = 760.0;
const MARGIN: f64 = 24.0;
const HEADING: f64 = 46.0;
const LEGEND: f64 = 62.0;
const ARROW: f64 = 9.0;

/// The graph as a document.
pub fn svg(graph: &CallGraph) -> String {
    let boxes: Vec<Size> = graph.nodes.iter().map(size_of).collect();
    let links = graph.edges.iter().map(|edge| {
        let columns = width(&calls(edge)).max(width(&durations(edge)));
        let label = Size { width: columns as f64 * LABEL_FONT * COLUMN + 8.0, height: 32.0 };
        Link { from: edge.from, to: edge.to, label }
    });
    let drawn = layout(&boxes, &links.collect::<Vec<_>>());
    let size = Size {
        width: (drawn.size.width + 2.0 * MARGIN).max(MIN_WIDTH),
        height: drawn.size.height + 2.0 * MARGIN + HEADING + LEGEND,
    };
    let mut out = String::new();
    let _ = begin(&mut out, size, graph);
    let _ = writeln!(out, "<g transform=\"translate({MARGIN},{})\">", MARGIN + HEADING);
    let most = most_calls(&graph.edges);
    for (edge, route) in graph.edges.iter().zip(&drawn.routes) {
        let _ = link(&mut out, graph, edge, route, most);
    }
    for (node, rect) in graph.nodes.iter().zip(&drawn.boxes) {
        let _ = node_box(&mut out, node, rect);
    }
    let _ = writeln!(out, "</g>");
    let _ = legend(&mut out, size.height - LEGEND, most);
    out + "</svg>\n"
}

fn size_of(node: &Node) -> Size {
    let (first, second) = lines(node);
    let columns =
        [Some(&first), second.as_ref()].into_iter().flatten().map(|line| width(line).min(COLUMNS)).max();
    let height = if second.is_some() { 2.0 * LINE + 10.0 } else { LINE + 14.0 };
    Size { width: columns.unwrap_or(0) as f64 * BOX_FONT * COLUMN + 24.0, height }
}

fn begin(out: &mut String, size: Size, graph: &CallGraph) -> fmt::Result {
    let title = match graph.by {
        By::Service => "Calls between services",
        By::Span => "Calls between spans, by name",
    };
    let Size { width, height } = size;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\">\n<title>{title}</title>\n<style>"
    )?;
    writeln!(
        out,
        "text{{font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#1f2630}}"
    )?;
    writeln!(out, ".page{{fill:#ffffff}}.box{{fill:#eef2f6;stroke:#8796a8}}.muted{{fill:#55606e}}")?;
    for (place, severity) in Severity::ALL.into_iter().enumerate() {
        let colour = severity.colours().0;
        writeln!(out, ".e{place}{{stroke:{colour};fill:none}}.a{place}{{fill:{colour}}}")?;
    }
    writeln!(out, "@media (prefers-color-scheme:dark){{")?;
    writeln!(out, "text{{fill:#e3e8ee}}")?;
    writeln!(out, ".page{{fill:#14181d}}.box{{fill:#232a33;stroke:#5d6b7b}}.muted{{fill:#a3afbc}}")?;
    for (place, severity) in Severity::ALL.into_iter().enumerate() {
        let colour = severity.colours().1;
        writeln!(out, ".e{place}{{stroke:{colour}}}.a{place}{{fill:{colour}}}")?;
    }
    writeln!(out, "}}\n</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>")?;
    let (x, y) = (MARGIN, MARGIN + 8.0);
    writeln!(out, "<text x=\"{x}\" y=\"{y}\" font-size=\"16\" font-weight=\"bold\">{title}</text>")?;
    let mut facts = format!("{} read", counted(graph.spans, "span", "spans"));
    let left_out = &graph.uncounted;
    if left_out.left_out_edges > 0 {
        let edges = counted(left_out.left_out_edges, "edge", "edges");
        let calls = counted(left_out.left_out_calls, "call", "calls");
        facts += &format!(", {edges} with {calls} not drawn");
    }
    let y = y + 20.0;
    writeln!(out, "<text class=\"muted\" x=\"{x}\" y=\"{y}\" font-size=\"12\">{facts}</text>")
}

fn node_box(out: &mut String, node: &Node, rect: &Rect) -> fmt::Result {
    let Rect { x, y, width, height } = rect;
    let dashes = if matches!(node, Node::Named { .. }) { "" } else { " stroke-dasharray=\"5 4\"" };
    let (first, second) = lines(node);
    let middle = x + width / 2.0;
    let centre = y + height / 2.0;
    writeln!(out, "<g><title>{}</title>", Escaped(&label(node)))?;
    writeln!(
        out,
        "<rect class=\"box\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"7\"{dashes}/>"
    )?;
    let mut line = |text: &str, y: f64, look: &str| {
        let text = cut(text, COLUMNS);
        let text = Escaped(&text);
        writeln!(out, "<text{look} x=\"{middle:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{text}</text>")
    };
    match second {
        None => line(&first, centre + 4.5, " font-size=\"13\" font-weight=\"bold\"")?,
        Some(second) => {
            line(&first, centre - 5.0, " class=\"muted\" font-size=\"11\"")?;
            line(&second, centre + 12.0, " font-size=\"13\" font-weight=\"bold\"")?;
        }
    }
    writeln!(out, "</g>")
}

fn link(out: &mut String, graph: &CallGraph, edge: &Edge, route: &Route, most: u64) -> fmt::Result {
    let class = class_of(edge);
    let [from, to] = [edge.from, edge.to].map(|place| graph.nodes.get(place).map(label).unwrap_or_default());
    let (calls, durations) = (calls(edge), durations(edge));
    writeln!(out, "<g><title>{} to {}: {calls}, {durations}</title>", Escaped(&from), Escaped(&to))?;
    let thickness = thickness(weight(edge, most));
    writeln!(out, "<path class=\"e{class}\" stroke-width=\"{thickness:.1}\" d=\"{}\"/>", Curve(route))?;
    if let Some(end) = route.points.last() {
        arrow(out, class, *end, route.arrives, thickness)?;
    }
    let Rect { x, y, width, height } = route.label;
    // The link passes between the lines of its label. That of a box to itself is to the left of its label.
    let (x, anchor) = match edge.from == edge.to {
        true => (x, "start"),
        false => (x + width / 2.0, "middle"),
    };
    let middle = y + height / 2.0;
    let gap = thickness / 2.0 + 3.0;
    for (text, y) in [(calls, middle - gap), (durations, middle + gap + 8.0)] {
        writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"11\" text-anchor=\"{anchor}\">{text}</text>"
        )?;
    }
    writeln!(out, "</g>")
}

fn class_of(edge: &Edge) -> usize {
    let severity = Severity::of(edge);
    Severity::ALL.iter().position(|one| *one == severity).unwrap_or_default()
}

/// The width of a line, for a weight from 0 to 1.
fn thickness(weight: f64) -> f64 {
    1.2 + 4.8 * weight
}

fn arrow(out: &mut String, class: usize, end: Point, direction: f64, thickness: f64) -> fmt::Result {
    let Point { x, y } = end;
    let (back, half) = (x - direction * ARROW, 3.5 + thickness / 2.0);
    writeln!(
        out,
        "<path class=\"a{class}\" d=\"M{x:.1} {y:.1}L{back:.1} {:.1}L{back:.1} {:.1}Z\"/>",
        y - half,
        y + half
    )
}

/// The data of a path along a route. It ends inside the arrow.
struct Curve<'a>(&'a Route);

impl Display for Curve<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Route { points, arrives, label } = self.0;
        if let [from, to] = points[..] {
            // The curve goes three quarters of the way to its control points.
            let (turn, end) = (from.x + 1.2 * (label.x - from.x), to.x - arrives * (ARROW - 2.0));
            return write!(
                f,
                "M{:.1} {:.1}C{turn:.1} {:.1} {turn:.1} {:.1} {end:.1} {:.1}",
                from.x, from.y, from.y, to.y, to.y
            );
        }
        let mut points = points.iter().copied();
        let Some(mut from) = points.next() else { return Ok(()) };
        write!(f, "M{:.1} {:.1}", from.x, from.y)?;
        let mut is_curve = true;
        let mut points = points.peekable();
        while let Some(mut to) = points.next() {
            if points.peek().is_none() {
                to.x -= arrives * (ARROW - 2.0);
            }
            match is_curve {
                true => {
                    let middle = (from.x + to.x) / 2.0;
                    write!(f, "C{middle:.1} {:.1} {middle:.1} {:.1} {:.1} {:.1}", from.y, to.y, to.x, to.y)?;
                }
                false => write!(f, "L{:.1} {:.1}", to.x, to.y)?,
            }
            is_curve = !is_curve;
            from = to;
        }
        Ok(())
    }
}

fn legend(out: &mut String, y: f64, most: u64) -> fmt::Result {
    let mut x = MARGIN;
    let text = |out: &mut String, x: &mut f64, y: f64, text: &str| -> fmt::Result {
        writeln!(
            out,
            "<text class=\"muted\" x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"11\">{text}</text>",
            x = *x
        )?;
        *x += width(text) as f64 * LABEL_FONT * COLUMN + 18.0;
        Ok(())
    };
    let line = |out: &mut String, x: &mut f64, y: f64, class: usize, thickness: f64| -> fmt::Result {
        let (from, to) = (*x, *x + 30.0);
        writeln!(
            out,
            "<path class=\"e{class}\" stroke-width=\"{thickness:.1}\" d=\"M{from:.1} {y:.1}L{to:.1} {y:.1}\"/>"
        )?;
        *x += 36.0;
        Ok(())
    };
    writeln!(out, "<g>")?;
    text(out, &mut x, y + 12.0, "Colour: errors of the called span")?;
    for (class, severity) in Severity::ALL.into_iter().enumerate() {
        line(out, &mut x, y + 8.0, class, 3.0)?;
        text(out, &mut x, y + 12.0, severity.meaning())?;
    }
    let mut x = MARGIN;
    text(out, &mut x, y + 34.0, "Width: calls")?;
    for (calls, weight) in [(1, 0.0), (most, 1.0)] {
        line(out, &mut x, y + 30.0, 0, thickness(weight))?;
        text(out, &mut x, y + 34.0, &counted(calls, "call", "calls"))?;
        if most <= 1 {
            break;
        }
    }
    text(out, &mut x, y + 34.0, "avg, p95: duration of the called span")?;
    writeln!(out, "</g>")
}

/// Text for an element.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
