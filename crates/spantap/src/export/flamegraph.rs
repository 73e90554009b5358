//! A flame graph: a self-contained SVG without scripts, fonts or links. What calls is above what it calls.
//!
//! It has a background of its own, dark where the viewer prefers that. The crate `inferno` draws such pictures, too, but its licence,
//! CDDL-1.0, asks more of those who pass a program on than attribution.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use super::stacks::{Node, Stacks, cause};
use crate::text::{counted, cut, readable, width};
use crate::trace::Part;

const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 16.0;
const HEADING: f64 = 58.0;
const ROW: f64 = 19.0;
const FONT: f64 = 11.5;
/// The width of a character in a font of fixed width, for the size 1.
const COLUMN: f64 = 0.61;
/// Narrower boxes are not drawn.
const MIN_WIDTH: f64 = 0.4;
/// The most boxes. The widest are drawn.
const MAX_BOXES: usize = 10_000;

/// A box of the picture.
struct Frame<'a> {
    name: &'a str,
    /// In the style sheet.
    class: String,
    start_ns: u64,
    total_ns: u64,
    self_ns: u64,
    spans: u64,
    row: u32,
}

/// Writes the picture. With `causes`, what threads did in the self time is a box below the span, as far as it is known.
pub(super) fn write(stacks: &Stacks, causes: bool, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(svg(stacks, causes).as_bytes())
}

fn svg(stacks: &Stacks, causes: bool) -> String {
    let totals = stacks.totals_ns();
    let all_ns = totals.first().copied().unwrap_or(0);
    let mut frames = frames(stacks, &totals, causes);
    let pixels = |ns: u64| (WIDTH - 2.0 * MARGIN) * ns as f64 / all_ns.max(1) as f64;
    let all = frames.len();
    frames.retain(|frame| pixels(frame.total_ns) >= MIN_WIDTH);
    if frames.len() > MAX_BOXES {
        frames.sort_by_key(|frame| std::cmp::Reverse(frame.total_ns));
        frames.truncate(MAX_BOXES);
    }
    let rows = frames.iter().map(|frame| frame.row + 1).max().unwrap_or(0);
    let mut picture = Picture { out: String::new(), all_ns };
    let height = HEADING + f64::from(rows) * ROW + MARGIN;
    let narrow = all - frames.len();
    // Writing to a text does not fail.
    let _ = picture.begin(height, narrow, causes);
    for frame in &frames {
        let (x, y) = (MARGIN + pixels(frame.start_ns), HEADING + f64::from(frame.row) * ROW);
        let _ = picture.frame(frame, x, y, pixels(frame.total_ns));
    }
    picture.out + "</svg>\n"
}

/// The boxes: children from the left, in the order of their names, and what is the span's own to the right of them.
fn frames<'a>(stacks: &'a Stacks, totals: &[u64], causes: bool) -> Vec<Frame<'a>> {
    let children = stacks.children();
    let mut frames = Vec::new();
    let mut next = vec![(0u32, 0u64)];
    while let Some((place, start_ns)) = next.pop() {
        let Some(node) = stacks.nodes().get(place as usize) else { continue };
        let total_ns = totals.get(place as usize).copied().unwrap_or(0);
        frames.push(Frame {
            name: stacks.name(node),
            class: class_of(stacks, node),
            start_ns,
            total_ns,
            self_ns: node.self_ns(),
            spans: node.spans,
            row: node.depth,
        });
        let mut at_ns = start_ns;
        for above in children.get(place as usize).into_iter().flatten() {
            next.push((*above, at_ns));
            at_ns = at_ns.saturating_add(totals.get(*above as usize).copied().unwrap_or(0));
        }
        for (part, ns) in node.parts().filter(|(_, ns)| causes && *ns > 0) {
            if let Some(name) = cause(part) {
                let (class, row) = (class_of_cause(part).to_owned(), node.depth + 1);
                frames.push(Frame { name, class, start_ns: at_ns, total_ns: ns, self_ns: ns, spans: 0, row });
            }
            at_ns = at_ns.saturating_add(ns);
        }
    }
    frames
}

/// The number of colours for services.
const COLOURS: usize = 8;

/// The spans of a service have one colour; those of the first eight services have different ones.
pub(super) fn class_of(stacks: &Stacks, node: &Node) -> String {
    match node.depth {
        0 => "top".to_owned(),
        _ => format!("s{}", stacks.service(node) % COLOURS),
    }
}

pub(super) fn class_of_cause(part: Part) -> &'static str {
    match part {
        Part::Cpu => "cpu",
        Part::RunQueue => "queue",
        Part::Disk | Part::Blocked => "disk",
        Part::Network => "network",
        Part::Lock => "lock",
        Part::Sleep => "sleep",
        Part::Idle | Part::Own | Part::Called => "idle",
    }
}

/// For a light and a dark background. The hues of services are apart for people who see few colours, too: those of Okabe and Ito,
/// lighter or darker.
const SHEET: &str = "\
text{font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#1f2630}
.page{fill:#ffffff}.muted{fill:#55606e}g rect{stroke:#ffffff;stroke-width:.6}
.top{fill:#e3e8ee}.s0{fill:#9ecbec}.s1{fill:#f6cf8a}.s2{fill:#8fd8bf}.s3{fill:#f0b9d6}
.s4{fill:#f3e58c}.s5{fill:#c3bdf0}.s6{fill:#f3b79a}.s7{fill:#bcd79a}
.cpu{fill:#6aa9dc}.queue{fill:#e6a93a}.disk{fill:#e2744a}.network{fill:#58b59b}.lock{fill:#d78bb4}.sleep{fill:#b49ad8}.idle{fill:#d3d9df}
@media (prefers-color-scheme:dark){
text{fill:#e3e8ee}.page{fill:#14181d}.muted{fill:#a3afbc}g rect{stroke:#14181d}
.top{fill:#2c343e}.s0{fill:#1f5c85}.s1{fill:#85601c}.s2{fill:#17694f}.s3{fill:#7d3f62}
.s4{fill:#6b611a}.s5{fill:#4d4790}.s6{fill:#86482a}.s7{fill:#4b6b28}
.cpu{fill:#2b79b8}.queue{fill:#a8741a}.disk{fill:#ad4419}.network{fill:#1f7a61}.lock{fill:#94517a}.sleep{fill:#70529b}.idle{fill:#3a434d}
}";

struct Picture {
    out: String,
    all_ns: u64,
}

impl Picture {
    fn begin(&mut self, height: f64, narrow: usize, causes: bool) -> fmt::Result {
        let out = &mut self.out;
        let title = match causes {
            false => "Self time of spans",
            true => "Self time of spans, and what threads did in it",
        };
        writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
             width=\"{WIDTH:.0}\" height=\"{height:.0}\" role=\"img\">\n<title>{title}</title>"
        )?;
        writeln!(out, "<style>\n{SHEET}\n</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>")?;
        writeln!(out, "<text x=\"{MARGIN}\" y=\"24\" font-size=\"16\" font-weight=\"bold\">{title}</text>")?;
        let mut facts = format!("{} in all; a box is as wide as its share of that", readable(self.all_ns));
        if narrow > 0 {
            let boxes = counted(narrow as u64, "box is", "boxes are");
            facts += &format!("; {boxes} too narrow to be drawn");
        }
        writeln!(out, "<text class=\"muted\" x=\"{MARGIN}\" y=\"44\" font-size=\"12\">{facts}</text>")
    }

    fn frame(&mut self, frame: &Frame<'_>, x: f64, y: f64, pixels: f64) -> fmt::Result {
        let Frame { name, class, total_ns, self_ns, spans, .. } = frame;
        let share = 100.0 * *total_ns as f64 / self.all_ns.max(1) as f64;
        let name = xml(name);
        let mut facts = format!("{}, {share:.1}%", readable(*total_ns));
        if *spans > 0 {
            facts += &format!("; self {}; {}", readable(*self_ns), counted(*spans, "span", "spans"));
        }
        let out = &mut self.out;
        writeln!(out, "<g><title>{name}: {facts}</title>")?;
        writeln!(
            out,
            "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{y:.1}\" width=\"{pixels:.2}\" height=\"{:.1}\" rx=\"1.5\"/>",
            ROW - 1.0
        )?;
        let columns = ((pixels - 6.0) / (FONT * COLUMN)).floor().max(0.0) as usize;
        if columns >= 3 || (columns > 0 && width(frame.name) <= columns) {
            let (text, x, y) = (xml(&cut(frame.name, columns)), x + 3.0, y + ROW - 6.0);
            writeln!(out, "<text x=\"{x:.2}\" y=\"{y:.1}\" font-size=\"{FONT}\">{text}</text>")?;
        }
        writeln!(out, "</g>")
    }
}

/// Text for an element, already safe for a terminal. XML does not have the last two characters.
fn xml(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}
