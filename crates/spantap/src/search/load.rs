//! The second pass: the spans of the chosen traces.

use super::files::Files;
use super::processes::Processes;
use crate::capture::{Filter, Spans};
use crate::trace::{EncodedSpan, Gathering, Limits, Trace};

/// How many traces are gathered at first. If they take little memory, there are more in the next pass.
const FIRST_GROUP: usize = 10_000;

/// More than the collecting commands have, because a trace that does not fit here is not shown whole at all.
const LIMITS: Limits = Limits { bytes: 512 << 20, spans_of_a_trace: 1_000_000 };

/// Passes the traces to `show`, in the order of `trace_ids`, until it returns false. Returns how many it has passed.
///
/// Traces that do not fit into the memory together take one more pass over the files each time it is full.
pub fn load(files: &Files, trace_ids: &[u128], mut show: impl FnMut(&Trace<EncodedSpan>) -> bool) -> usize {
    let (mut done, mut size, mut shown) = (0, FIRST_GROUP, 0);
    while let Some(group) = trace_ids.get(done..).filter(|left| !left.is_empty()) {
        let group = group.get(..size).unwrap_or(group);
        let (traces, dealt_with) = gather(files, group).finish();
        for trace in traces {
            shown += 1;
            if !show(&trace) {
                return shown;
            }
        }
        size = if dealt_with < group.len() { dealt_with } else { 4 * size };
        done += dealt_with;
    }
    shown
}

fn gather(files: &Files, trace_ids: &[u128]) -> Gathering {
    let mut gathering = Gathering::new(trace_ids, LIMITS);
    let mut processes = Processes::default();
    let take = |spans: Spans| {
        let process = processes.known(&spans.process);
        for (span, field) in spans.iter() {
            gathering.add(EncodedSpan::new(&process, span, field));
        }
    };
    // The first pass has reported what is wrong with the files.
    let filter = Filter { traces: Some(trace_ids.iter().copied().collect()), ..Filter::default() };
    let _ = files.read(&filter, |spans| spans, take);
    gathering
}
