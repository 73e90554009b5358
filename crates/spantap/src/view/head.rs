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
    out.item(BOLD, &readable(duration_ns(rows)));
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

/// From the first start to the last end. No child starts before its parent: where clocks say so, it is moved there, with
/// all that is below it.
fn duration_ns(rows: &[Row<'_>]) -> u64 {
    let mut later_ns: Vec<u64> = Vec::with_capacity(rows.len());
    let (mut first_ns, mut last_ns) = (u64::MAX, 0);
    for row in rows {
        let own = Interval::of(&row.span.span);
        let later = match row.place {
            Place::Child(parent) => {
                let parent_ns = rows[parent].span.span.start_time_unix_nano.saturating_add(later_ns[parent]);
                match parent_ns.checked_sub(own.start_ns) {
                    Some(early @ 1..) => early.max(later_ns[parent]),
                    _ => 0,
                }
            }
            _ => 0,
        };
        later_ns.push(later);
        first_ns = first_ns.min(own.start_ns.saturating_add(later));
        last_ns = last_ns.max(own.end_ns.saturating_add(later));
    }
    last_ns.saturating_sub(first_ns)
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
