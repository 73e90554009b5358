//! The part of each bar that is on the critical path.

use super::bar::{Interval, Shares};
use super::line::{DIM, Line};
use super::look::Look;
use crate::text::wrap;
use crate::trace::critical_path;
use crate::trace::tree::Row;

/// Explains the bars, in whole lines, if [`Look::critical_path`] is set.
pub fn path_legend(look: &Look) -> String {
    let text = "━ on the critical path, what the trace waited for, and the span's share of it; ─ not on it";
    let mut out = String::new();
    for part in wrap(text, look.width(), 3) {
        let mut line = Line::new(look);
        line.put(DIM, &part);
        out.push_str(&line.end());
    }
    out
}

/// The critical path of a trace, by span.
pub(super) struct Path {
    /// The parts of each row's span, in the order of time.
    parts: Vec<Vec<Interval>>,
    duration_ns: u64,
}

impl Path {
    pub(super) fn new(rows: &[Row<'_>]) -> Self {
        let mut path = Self { parts: vec![Vec::new(); rows.len()], duration_ns: 0 };
        for segment in critical_path(rows) {
            let part = Interval { start_ns: segment.start_ns, end_ns: segment.end_ns };
            path.duration_ns += part.duration_ns();
            path.parts[segment.row].push(part);
        }
        path
    }

    pub(super) fn parts(&self, row: usize) -> &[Interval] {
        &self.parts[row]
    }

    /// How much of the path is in the row's span; `None` if it is not on the path.
    pub(super) fn share(&self, row: usize) -> Option<Shares> {
        let busy = self.parts(row).iter().map(|part| part.duration_ns()).sum();
        (busy > 0).then(|| Shares { busy, idle: self.duration_ns - busy })
    }
}
