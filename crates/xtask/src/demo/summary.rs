//! The table of all spans by name, and the number of complete traces.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;

use super::spans::{Span, traces};
use crate::terminal::{Colour, Terminal, cut, percentile, took};

#[derive(Default)]
struct Row {
    durations_us: Vec<u64>,
    errors: usize,
}

/// Returns the number of traces and the number of complete ones.
pub(crate) fn show(out: &mut impl Write, terminal: Terminal, spans: &[Span]) -> Result<(usize, usize)> {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for span in spans {
        let row = rows.entry(&span.name).or_default();
        row.durations_us.push(span.duration_us);
        row.errors += usize::from(span.is_error);
    }
    for row in rows.values_mut() {
        row.durations_us.sort_unstable();
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(_, row)| Reverse(percentile(&row.durations_us, 99)));

    writeln!(out, "{}", terminal.heading("All spans by name, the slowest first"))?;
    let header = format!(
        "  {:<28}  {:>6}  {:>6}  {:>7}  {:>7}  {:>7}",
        "span", "count", "errors", "p50", "p99", "max"
    );
    writeln!(out, "{}", terminal.paint(Colour::Dim, &header))?;
    for (name, Row { durations_us, errors }) in rows {
        let colour = if errors > 0 { Colour::Red } else { Colour::Dim };
        writeln!(
            out,
            "  {:<28}  {:>6}  {}  {}  {}  {}",
            cut(name, 28),
            durations_us.len(),
            terminal.paint(colour, &format!("{errors:>6}")),
            took(percentile(&durations_us, 50)),
            took(percentile(&durations_us, 99)),
            took(percentile(&durations_us, 100)),
        )?;
    }

    let (traces, complete) = traces(spans);
    writeln!(out, "\n  {} spans: {traces} traces, {complete} of them complete.", spans.len())?;
    Ok((traces, complete))
}
