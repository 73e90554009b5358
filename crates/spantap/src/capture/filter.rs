//! Which spans of a capture are wanted.

use crate::span::Summary;

/// Selects spans. The default selects all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Only spans of this trace.
    pub trace_id: Option<u128>,
    /// Only spans that have not ended before this time, in nanoseconds since 1970.
    pub since_ns: u64,
    /// Only spans that have started by this time, in nanoseconds since 1970.
    pub until_ns: u64,
}

impl Default for Filter {
    fn default() -> Self {
        Self { trace_id: None, since_ns: 0, until_ns: u64::MAX }
    }
}

impl Filter {
    /// Whether this time has a part in common with the wanted time.
    pub(super) fn overlaps(&self, start_ns: u64, end_ns: u64) -> bool {
        start_ns <= self.until_ns && end_ns.max(start_ns) >= self.since_ns
    }

    pub(super) fn selects(&self, span: &Summary) -> bool {
        let (start, end) = span.times;
        self.overlaps(start, end) && self.trace_id.is_none_or(|id| id == span.trace_id)
    }
}
