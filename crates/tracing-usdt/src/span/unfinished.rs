//! Spans that are still open when the program ends.

use super::closed::{ClosedSpan, RecordView};
use super::identity::Identity;
use super::open::OpenSpan;
use super::record::Record;
use super::timing::Elapsed;
use crate::callsite::Callsite;
use crate::clock::Monotonic;

/// A span that was still open when the program ended.
pub(crate) struct UnfinishedSpan {
    identity: Identity,
    callsite: &'static Callsite,
    start_ns: u64,
    elapsed: Elapsed,
    record: Record,
}

impl UnfinishedSpan {
    /// Takes the record out of an open span, which is then not sent at its close. `None` if the span has no
    /// record, or its trace is not sampled.
    pub(crate) fn take(open: &mut OpenSpan, now: Monotonic) -> Option<Self> {
        let callsite = open.callsite.filter(|_| open.identity.ids.sampled)?;
        let timing = open.timing.take()?;
        open.callsite = None;
        open.record.add_baggage_attributes(callsite);
        Some(Self {
            identity: open.identity,
            callsite,
            start_ns: timing.start_wall_ns(),
            elapsed: timing.so_far(now),
            record: std::mem::take(&mut open.record),
        })
    }

    /// Calls `f` with the span in the form that an encoder reads.
    pub(crate) fn with_closed<T>(&self, f: impl FnOnce(&ClosedSpan<'_>) -> T) -> T {
        let trace_state = self.record.trace_state();
        let record =
            RecordView { trace_state: trace_state.as_str(), is_unfinished: true, ..self.record.view() };
        let Self { identity, callsite, start_ns, elapsed, .. } = self;
        let (callsite, start_ns, elapsed) = (*callsite, *start_ns, *elapsed);
        f(&ClosedSpan { identity, callsite, start_ns, elapsed, record: &record })
    }
}
