//! Above a tree: which trace it is, whose, and what is not there.

use std::collections::HashSet;
use std::sync::Arc;

use anstyle::Style;

use super::bar::Interval;
use super::line::{BOLD, DIM, Line, PLAIN, RED, YELLOW};
use super::number::counted;
use super::tree::is_error;
use super::{Look, readable, service, text};
use crate::trace::tree::{Place, Row};
use crate::trace::{Shown, Trace};

/// The others are counted.
const MOST_PROCESSES: usize = 8;

pub(super) fn head(trace: &Trace, rows: &[Row<'_>], look: &Look) -> String {
    let mut out = Flow { look, out: String::new(), line: Line::new(look) };
    out.item(BOLD, &format!("trace {:032x}", trace.id));
    let intervals = || trace.spans.iter().map(|span| Interval::of(&span.span));
    let start_ns = intervals().map(|interval| interval.start_ns).min().unwrap_or(0);
    let end_ns = intervals().map(|interval| interval.end_ns).max().unwrap_or(0);
    out.item(BOLD, &readable(end_ns.saturating_sub(start_ns)));
    out.item(PLAIN, &counted(trace.spans.len() as u64, "span", "spans"));
    let errors = trace.spans.iter().filter(|span| is_error(&span.span)).count() as u64;
    if errors > 0 {
        out.item(RED, &counted(errors, "error", "errors"));
    }
    let processes = processes(rows);
    for process in processes.iter().take(MOST_PROCESSES) {
        out.item(DIM, process);
    }
    if let Some(more) = processes.len().checked_sub(MOST_PROCESSES).filter(|&more| more > 0) {
        out.item(DIM, &format!("and {} more", counted(more as u64, "process", "processes")));
    }
    let mut out = out.end();
    for note in notes(trace, rows) {
        for part in text::wrap(&note, look.width() - 2, 3) {
            let mut line = Line::new(look);
            line.gap(2);
            line.put(YELLOW, &part);
            out.push_str(&line.end());
        }
    }
    out
}

/// Items side by side, on as many lines as they need.
struct Flow<'a> {
    look: &'a Look,
    out: String,
    line: Line<'a>,
}

impl Flow<'_> {
    fn item(&mut self, style: Style, item: &str) {
        let width = text::width(&text::cut(item, self.look.width()));
        if !self.line.is_empty() {
            self.line.gap(2);
            if self.line.room() < width {
                let line = std::mem::replace(&mut self.line, Line::new(self.look));
                self.out.push_str(&line.end());
                self.line.gap(2);
            }
        }
        self.line.put(style, item);
    }

    fn end(self) -> String {
        self.out + &self.line.end()
    }
}

/// Each once, from the root down.
fn processes(rows: &[Row<'_>]) -> Vec<String> {
    let mut known = HashSet::new();
    let new = rows.iter().filter(|row| known.insert(Arc::as_ptr(&row.span.process)));
    let mut labels = HashSet::new();
    new.map(|row| service::label(&row.span.process)).filter(|label| labels.insert(label.clone())).collect()
}

/// What the reader should know before trusting the tree.
fn notes(trace: &Trace, rows: &[Row<'_>]) -> Vec<String> {
    let count = |place| rows.iter().filter(|row| row.place == place).count() as u64;
    let orphans = match count(Place::ParentMissing) {
        0 => None,
        1 => Some("the parent of 1 span is missing".to_owned()),
        spans => Some(format!("the parents of {} are missing", counted(spans, "span", "spans"))),
    };
    let no_root = (count(Place::Root) == 0).then(|| "no root has come".to_owned());
    let missing: Vec<String> = no_root.into_iter().chain(orphans).collect();
    let mut notes = Vec::new();
    match trace.shown {
        _ if !missing.is_empty() => notes.push(format!("incomplete: {}", missing.join(", "))),
        Shown::Waited => notes.push("incomplete".to_owned()),
        _ => {}
    }
    match trace.shown {
        Shown::Complete | Shown::Waited => {}
        Shown::NoRoom => notes.push("shown early, as there was no room to wait: more may come".to_owned()),
        Shown::End => notes.push("shown now, as the program ends: more might have come".to_owned()),
    }
    if trace.late > 0 {
        let spans = counted(trace.late as u64, "span", "spans");
        notes.push(format!("{spans} came late: the trace has been shown before"));
    }
    if trace.duplicates > 0 {
        notes.push(format!("{} came a second time: left out", counted(trace.duplicates, "span", "spans")));
    }
    if trace.left_out > 0 {
        let spans = counted(trace.left_out, "more span", "more spans");
        notes.push(format!("{spans} came, but there was no room: left out"));
    }
    notes
}
