//! Counts what was decided, for the user.

use std::sync::{Mutex, PoisonError};

/// The counts as they are now. Empty unless there are rules.
#[derive(Default, Debug)]
pub struct Counters(Mutex<Option<Counts>>);

/// What became of the traces and spans so far: those that came are those that are kept, dropped, waiting or passed.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Counts {
    /// By rule, in the order of the command line.
    pub rules: Vec<OfRule>,
    /// Traces that no rule has kept.
    pub dropped_traces: u64,
    /// Their spans, without those that came after a late span for which a rule keeps the trace.
    pub dropped_spans: u64,
    /// Dropped traces of which the rest is kept, because of a late span.
    pub incomplete_traces: u64,
    /// Traces that were decided because they had waited for `--keep-wait`.
    pub waited: u64,
    /// Traces that were decided because all waiting spans together had no room.
    pub no_room: u64,
    /// Traces that were decided because their own waiting spans took too much room.
    pub too_large: u64,
    /// Spans that came after their trace was decided, and that are kept.
    pub late_kept: u64,
    /// Spans that came after their trace was decided, and that are dropped.
    pub late_dropped: u64,
    /// Traces that a rate has refused since it last kept one: no weight has them yet.
    pub unrepresented_traces: u64,
    /// Traces that wait now.
    pub waiting_traces: u64,
    /// Their spans.
    pub waiting_spans: u64,
    /// Reports of losses, which are no part of a trace.
    pub passed: u64,
}

/// What a rule has kept.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct OfRule {
    /// The rule, as the user wrote it.
    pub rule: String,
    /// The traces that it was the first to keep.
    pub traces: u64,
    /// The spans that were forwarded because of it.
    pub spans: u64,
}

impl Counts {
    /// The traces that were kept.
    pub fn kept_traces(&self) -> u64 {
        self.rules.iter().map(|of| of.traces).sum()
    }

    /// The spans that were kept.
    pub fn kept_spans(&self) -> u64 {
        self.rules.iter().map(|of| of.spans).sum()
    }
}

impl Counters {
    /// The counts; `None` without rules.
    pub fn get(&self) -> Option<Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, counts: &Counts) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert_default().clone_from(counts);
    }
}
