//! How `spantap view` writes traces, what it says of those that it does not show, and its exit code if there is none.

use std::io::{self, Write};

use super::cli::View;
use crate::search::{Choice, Wanted};
use crate::terminal::Screen;
use crate::text::{counted, grouped};
use crate::trace::Trace;
use crate::view::{self, Look};

pub(super) const NONE_MATCHES: u8 = 1;

/// Writes traces as the user wants them.
pub(super) struct Shown<'a> {
    options: &'a View,
    is_first: bool,
}

impl<'a> Shown<'a> {
    pub(super) fn new(options: &'a View) -> Self {
        Self { options, is_first: true }
    }

    /// Writes a trace, in the width that the screen has now.
    pub(super) fn write(&mut self, trace: &Trace, screen: &Screen, out: &mut impl Write) -> io::Result<()> {
        let View { json, lines, critical_path, .. } = *self.options;
        if json {
            return view::json(trace, out);
        }
        let mut look = Look::new(screen.columns(), screen.colour());
        look.lines = if lines == 0 { usize::MAX } else { lines };
        look.begin = true;
        look.critical_path = critical_path;
        if std::mem::take(&mut self.is_first) && critical_path {
            writeln!(out, "{}", view::path_legend(&look))?;
        }
        writeln!(out, "{}", view::tree(trace, &look))
    }
}

/// What the user has to know of the traces that are not shown.
pub(super) fn report(choice: &Choice, wanted: &Wanted, shown: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if choice.trace_ids.is_empty() && choice.spans == 0 && choice.read.is_damaged() {
        // If no file could be read, the reason says enough.
    } else if choice.trace_ids.is_empty() {
        lines.push(match (&*wanted.trace_ids, &wanted.query) {
            ([id], None) => format!("no span of trace {id:032x} was found"),
            ([_, ..], None) => "no span of these traces was found".to_owned(),
            _ => format!("no trace matches, among {}", counted(choice.spans, "span", "spans")),
        });
    } else if choice.trace_ids.len() < choice.matching {
        let [shown, all] = [shown, choice.matching].map(|traces| grouped(traces as u64));
        lines.push(format!("showed {shown} of {all} traces; --limit 0 shows all"));
    } else if wanted.query.is_none() {
        let missing = wanted.trace_ids.iter().filter(|id| !choice.trace_ids.contains(id));
        lines.extend(missing.map(|id| format!("no span of trace {id:032x} was found")));
    }
    if let Some(missing) = choice.trace_ids.len().checked_sub(shown).filter(|missing| *missing > 0) {
        let traces = counted(missing as u64, "trace", "traces");
        lines.push(format!("{traces} could not be read again: was a file changed meanwhile?"));
    }
    lines.extend(choice.read.lines());
    lines
}
