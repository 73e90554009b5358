//! Draws the head above a tree: the trace, its processes, and what is missing.

use std::collections::HashSet;
use std::sync::Arc;

use anstyle::Style;

use super::bar::Interval;
use super::line::{BOLD, DIM, Line, PLAIN, RED, YELLOW};
use super::look::Look;
use super::service;
use crate::span::is_error;
use crate::text::{counted, cut, local_time, readable, width, wrap};
use crate::trace::tree::{Place, Row};
use crate::trace::{Shown, Trace};

/// The most processes that are named. Others are counted.
const MAX_PROCESSES: usize = 8;

pub(super) fn head(trace: &Trace, rows: &[Row<'_>], look: &Look) -> String {
    let mut out = Flow { look, out: String::new(), line: Line::new(look) };
    out.item(BOLD, &format!("trace {:032x}", trace.id));
    if let Some(begin_ns) =
        rows.iter().map(|row| Interval::of(&row.span.span).start_ns).min().filter(|_| look.begin)
    {
        out.item(PLAIN, &local_time(begin_ns));
    }
    out.item(BOLD, &readable(duration_ns(rows)));
    out.item(PLAIN, &counted(trace.spans.len() as u64, "span", "spans"));
    let errors = trace.spans.iter().filter(|span| is_error(&span.span)).count() as u64;
    if errors > 0 {
        out.item(RED, &counted(errors, "error", "errors"));
    }
    let processes = processes(rows);
    for process in processes.iter().take(MAX_PROCESSES) {
        out.item(DIM, process);
    }
    if let Some(more) = processes.len().checked_sub(MAX_PROCESSES).filter(|&more| more > 0) {
        out.item(DIM, &format!("and {} more", counted(more as u64, "process", "processes")));
    }
    let mut out = out.end();
    for note in notes(trace, rows) {
        for part in wrap(&note, look.width() - 2, 3) {
            let mut line = Line::new(look);
            line.gap(2);
            line.put(YELLOW, &part);
            out.push_str(&line.end());
        }
    }
    out
}

/// The time from the first start to the last end. A child can't start before its parent. If the clocks differ, a child
/// that seems to is moved to its parent's start, together with its descendants.
fn duration_ns(rows: &[Row<'_>]) -> u64 {
    // By how much each row is moved.
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

/// Puts items side by side, on as many lines as they need.
struct Flow<'a> {
    look: &'a Look,
    out: String,
    line: Line<'a>,
}

impl Flow<'_> {
    fn item(&mut self, style: Style, item: &str) {
        let width = width(&cut(item, self.look.width()));
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

/// The label of each process, once, from the root down.
fn processes(rows: &[Row<'_>]) -> Vec<String> {
    let mut known = HashSet::new();
    let new = rows.iter().filter(|row| known.insert(Arc::as_ptr(&row.span.process)));
    let mut labels = HashSet::new();
    new.map(|row| service::label(&row.span.process)).filter(|label| labels.insert(label.clone())).collect()
}

/// Notes on what the tree lacks.
fn notes(trace: &Trace, rows: &[Row<'_>]) -> Vec<String> {
    let count = |place| rows.iter().filter(|row| row.place == place).count() as u64;
    let orphans = match count(Place::ParentMissing) {
        0 => None,
        1 => Some("the parent of 1 span is missing".to_owned()),
        spans => Some(format!("the parents of {} are missing", counted(spans, "span", "spans"))),
    };
    let no_root = (count(Place::Root) == 0).then(|| "no root span has arrived".to_owned());
    let missing: Vec<String> = no_root.into_iter().chain(orphans).collect();
    let mut notes = Vec::new();
    match trace.shown {
        _ if !missing.is_empty() => notes.push(format!("incomplete: {}", missing.join(", "))),
        Shown::Waited => notes.push("incomplete".to_owned()),
        _ => {}
    }
    match trace.shown {
        Shown::Complete | Shown::Waited => {}
        Shown::NoRoom => notes.push("shown early because too many spans wait: more may follow".to_owned()),
        Shown::End => notes.push("shown early because spantap ends: spans may be missing".to_owned()),
        Shown::ProcessEnded => {
            notes.push("still open when the process ended, as its last report has them".to_owned());
        }
    }
    if trace.late > 0 {
        let spans = counted(trace.late as u64, "span", "spans");
        notes.push(format!("{spans} arrived after the trace was first shown"));
    }
    if trace.duplicates > 0 {
        notes.push(format!("left out {}", counted(trace.duplicates, "duplicate span", "duplicate spans")));
    }
    if trace.left_out > 0 {
        let spans = counted(trace.left_out, "more span", "more spans");
        notes.push(format!("left out {spans}: the trace is too large"));
    }
    notes
}
