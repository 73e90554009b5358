//! A trace as a tree: one line a span, with a bar that shows when in the trace it was.

use super::spans::{Span, Trace};
use crate::terminal::{Colour, Terminal, cut, took};

/// Where the columns are, the same for all trees that are shown together.
pub(crate) struct Columns {
    terminal: Terminal,
    name: usize,
    bar: usize,
    tags: usize,
}

const INDENT: &str = "  ";
const TOOK: usize = 7;
const BUSY: usize = 4;
const GAP: &str = "  ";

/// Tags that a column tells already, or that are much the same on every span. One that ends in a
/// dot stands for all that begin so.
const UNINTERESTING: [&str; 15] = [
    "busy_ns",
    "code.",
    "db.system.name",
    "error",
    "exception.",
    "follows_from",
    "http.request.method",
    "http.route",
    "idle_ns",
    "level",
    "otel.",
    "target",
    "thread.",
    "tracing_usdt.",
    "url.path",
];

fn is_uninteresting(key: &str) -> bool {
    UNINTERESTING.iter().any(|known| key == *known || (known.ends_with('.') && key.starts_with(known)))
}

impl Columns {
    pub(crate) fn for_traces(terminal: Terminal, traces: &[&Trace<'_>]) -> Self {
        let name = traces.iter().map(|trace| deepest_name(trace, trace.root, 0)).max().unwrap_or(0);
        let name = name.clamp(10, terminal.columns / 3);
        let bar = terminal.columns / 4;
        let others = INDENT.len() + name + TOOK + bar + BUSY + 4 * GAP.len();
        Self { terminal, name, bar, tags: terminal.columns.saturating_sub(others) }
    }

    pub(crate) fn header(&self) -> String {
        let Self { name, bar, .. } = *self;
        let header = format!(
            "{INDENT}{:<name$}{GAP}{:>TOOK$}{GAP}{:<bar$}{GAP}{:>BUSY$}{GAP}tags",
            "span", "took", "when", "busy"
        );
        self.terminal.paint(Colour::Dim, &header)
    }

    /// Its lines, each with its end.
    pub(crate) fn tree(&self, trace: &Trace<'_>) -> String {
        let mut out = String::new();
        self.subtree(&mut out, trace, trace.root, "", "");
        out
    }

    /// `above` leads to the span itself, `below` to its children.
    fn subtree(&self, out: &mut String, trace: &Trace<'_>, span: &Span, above: &str, below: &str) {
        let children = trace.children(span);
        self.span_line(out, trace, span, above);
        if span.is_error() {
            let stem = if children.is_empty() { "  " } else { "│ " };
            self.error_line(out, span, &format!("{below}{stem}"));
        }
        for (index, child) in children.iter().enumerate() {
            let last = index + 1 == children.len();
            let (branch, stem) = if last { ("└ ", "  ") } else { ("├ ", "│ ") };
            self.subtree(out, trace, child, &format!("{below}{branch}"), &format!("{below}{stem}"));
        }
    }

    fn span_line(&self, out: &mut String, trace: &Trace<'_>, span: &Span, guide: &str) {
        let paint = |colour, text: &str| self.terminal.paint(colour, text);
        let (name_colour, bar_colour) = match span {
            _ if span.is_error() => (Colour::Red, Colour::Red),
            _ if span.parent.is_none() => (Colour::Bold, Colour::Cyan),
            _ => (Colour::Plain, Colour::Cyan),
        };
        let room = self.name.saturating_sub(guide.chars().count());
        let name = format!("{:<room$}", cut(&span.name, room));
        let busy = span.busy_percent().map_or(String::new(), |percent| format!("{percent:.0}%"));
        let line = [
            format!("{INDENT}{}{}", paint(Colour::Dim, guide), paint(name_colour, &name)),
            took(span.duration_us),
            paint(bar_colour, &bar(span, trace.interval_us(), self.bar)),
            format!("{busy:>BUSY$}"),
            paint(Colour::Dim, &cut(&tags(span), self.tags)),
        ];
        out.push_str(line.join(GAP).trim_end());
        out.push('\n');
    }

    fn error_line(&self, out: &mut String, span: &Span, guide: &str) {
        let text = span.tag("error").filter(|text| !text.is_empty()).unwrap_or("failed");
        let room = self.terminal.columns.saturating_sub(INDENT.len() + guide.chars().count() + 2);
        let error = self.terminal.paint(Colour::Red, &format!("✗ {}", cut(text, room)));
        out.push_str(&format!("{INDENT}{}{error}\n", self.terminal.paint(Colour::Dim, guide)));
    }
}

fn deepest_name(trace: &Trace<'_>, span: &Span, depth: usize) -> usize {
    let below = trace.children(span).iter().map(|child| deepest_name(trace, child, depth + 1));
    below.max().unwrap_or(0).max(2 * depth + span.name.chars().count())
}

/// A line over the part of `interval_us` in which the span was, to the half column. Something is
/// always drawn, however short the span.
fn bar(span: &Span, (from, to): (u64, u64), columns: usize) -> String {
    let halves = 2 * columns;
    let scale = halves as f64 / to.saturating_sub(from).max(1) as f64;
    let start = span.start_us.saturating_sub(from) as f64 * scale;
    let end = start + span.duration_us as f64 * scale;
    let start = (start.round() as usize).min(halves - 1);
    let end = (end.round() as usize).clamp(start + 1, halves);
    let drawn = |half| (start..end).contains(&half);
    let columns = (0..columns).map(|column| match (drawn(2 * column), drawn(2 * column + 1)) {
        (true, true) => '━',
        (true, false) => '╸',
        (false, true) => '╺',
        (false, false) => ' ',
    });
    columns.collect()
}

/// What the program itself said of the span, the telling parts first.
fn tags(span: &Span) -> String {
    let mut first = Vec::new();
    let mut others = Vec::new();
    for (key, value) in &span.tags {
        match key.as_str() {
            "http.response.status_code" => first.push(value.clone()),
            "db.query.text" => first.push(value.clone()),
            "server.address" => first.push(format!("→ {value}")),
            key if is_uninteresting(key) => {}
            key => others.push(format!("{key}={value}")),
        }
    }
    [first, others].concat().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::spans::Spans;

    /// id, parent, name, start, duration, tags.
    type Row<'a> = (&'a str, Option<&'a str>, &'a str, u64, u64, &'a [(&'a str, &'a str)]);

    fn spans(rows: &[Row<'_>]) -> Spans {
        let spans = rows.iter().map(|&(id, parent, name, start_us, duration_us, tags)| Span {
            trace: "t".to_owned(),
            id: id.to_owned(),
            parent: parent.map(str::to_owned),
            name: name.to_owned(),
            start_us,
            duration_us,
            tags: tags.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        });
        Spans { spans: spans.collect(), ..Spans::default() }
    }

    #[test]
    fn a_failed_request_is_drawn_as_a_tree_of_80_columns() {
        let failed = [("otel.status_code", "ERROR"), ("error", "out of stock")];
        let request = [("http.response.status_code", "409"), ("busy_ns", "1"), ("idle_ns", "3")];
        let order = [failed[0], failed[1], ("product", "7"), ("level", "INFO")];
        let query = [failed[0], ("error", ""), ("db.query.text", "UPDATE products SET stock = stock - ?2")];
        // In the order of closing, as they arrive.
        let spans = spans(&[
            ("a1", Some("a"), "pool.acquire", 1_000_100, 250, &[("busy_ns", "1"), ("idle_ns", "0")]),
            ("a2", Some("a"), "sqlite", 1_000_500, 1_000, &query),
            ("a", Some("r"), "place_order", 1_000_100, 1_400, &order),
            ("b", Some("r"), "a name of no particular meaning, but long", 1_001_990, 9, &[]),
            ("r", None, "POST /orders", 1_000_000, 2_000, &request),
        ]);
        let traces = spans.traces();
        let columns = Columns::for_traces(Terminal::plain(80), &[&traces[0]]);
        let text = format!("{}\n{}", columns.header(), columns.tree(&traces[0]));
        let expected = "  \
  span                           took  when                  busy  tags
  POST /orders                2.00 ms  ━━━━━━━━━━━━━━━━━━━━   25%  409
  ├ place_order               1.40 ms   ━━━━━━━━━━━━━━             product=7
  │ │ ✗ out of stock
  │ ├ pool.acquire             250 µs   ━━╸                  100%
  │ └ sqlite                  1.00 ms       ━━━━━━━━━━             UPDATE produ…
  │     ✗ failed
  └ a name of no particular…     9 µs                     ╺
";
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(text, expected, "\n{text}");
    }
}
