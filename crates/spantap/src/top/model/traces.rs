//! The traces that are kept to be looked at: slow ones, failed ones, and some of the latest.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use super::halves::Halves;
use crate::trace::{EncodedSpan, Trace};

/// The most memory for traces. One that is kept for two reasons counts twice.
const MAX_BYTES: usize = 64 << 20;

/// A larger trace is not kept for a row of the table: there may be a thousand of them.
const MAX_BYTES_FOR_A_ROW: usize = 32 << 10;

/// The most traces of each kind. Slow ones are kept for each half of the window.
const MAX_TRACES: usize = 100;

/// The most of the latest traces that are kept in a second: nobody can read more.
const LATEST_PER_SECOND: u32 = 10;

const SECOND_NS: u64 = 1_000_000_000;

/// A trace that is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) trace: Trace<EncodedSpan>,
    /// The start and the end of all spans.
    pub(crate) times: (u64, u64),
    pub(crate) errors: usize,
    /// The place of the span that begins it.
    root: usize,
    bytes: usize,
}

/// The traces that are kept.
#[derive(Debug)]
pub(super) struct Traces {
    /// In ascending order of their duration.
    slow: Halves<Vec<Arc<Kept>>>,
    failed: VecDeque<Arc<Kept>>,
    latest: VecDeque<Arc<Kept>>,
    /// The current second, and how many of the latest traces were kept in it.
    second: (u64, u32),
}

impl Kept {
    pub(crate) fn duration_ns(&self) -> u64 {
        let (start, end) = self.times;
        end.saturating_sub(start)
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The span that begins the trace, as far as it is known.
    pub(crate) fn root(&self) -> Option<&EncodedSpan> {
        self.trace.spans.get(self.root)
    }

    pub(super) fn new(trace: &Trace<EncodedSpan>, times: (u64, u64)) -> Arc<Self> {
        let spans = &trace.spans;
        let order = |place: &usize| (spans[*place].parent_id.is_some(), spans[*place].times.0);
        Arc::new(Self {
            trace: trace.clone(),
            times,
            errors: spans.iter().filter(|span| span.is_error).count(),
            root: (0..spans.len()).min_by_key(order).unwrap_or(0),
            bytes: bytes(trace),
        })
    }
}

/// The memory of a trace.
fn bytes(trace: &Trace<EncodedSpan>) -> usize {
    size_of::<Kept>() + trace.spans.iter().map(|span| span.size).sum::<usize>()
}

/// Whether a trace is small enough to be kept for a row of the table.
pub(super) fn fits_a_row(trace: &Trace<EncodedSpan>) -> bool {
    bytes(trace) <= MAX_BYTES_FOR_A_ROW
}

impl Traces {
    pub(super) fn new(now_ns: u64) -> Self {
        Self { slow: Halves::new(now_ns), failed: VecDeque::new(), latest: VecDeque::new(), second: (0, 0) }
    }

    /// Offers a trace, which `copy` copies if it is kept. A trace that has grown replaces what was kept of it.
    pub(super) fn offer(
        &mut self,
        trace: &Trace<EncodedSpan>,
        (start_ns, end_ns): (u64, u64),
        now_ns: u64,
        mut copy: impl FnMut() -> Arc<Kept>,
    ) {
        if trace.late > 0 {
            self.forget(trace.id);
        }
        let duration_ns = end_ns.saturating_sub(start_ns);
        let slow = self.slow.at(now_ns);
        if slow.len() < MAX_TRACES || slow.first().is_some_and(|least| least.duration_ns() < duration_ns) {
            let kept = copy();
            let slow = self.slow.at(now_ns);
            let place = slow.partition_point(|other| other.duration_ns() < duration_ns);
            slow.insert(place, kept);
            if slow.len() > MAX_TRACES {
                slow.remove(0);
            }
        }
        if trace.has_error() {
            let kept = copy();
            push(&mut self.failed, kept);
        }
        let second = now_ns / SECOND_NS;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        if self.second.1 < LATEST_PER_SECOND {
            self.second.1 += 1;
            let kept = copy();
            push(&mut self.latest, kept);
        }
        self.make_room();
    }

    /// Gives up traces until the others fit: the oldest of the latest, then of the failed, then the least slow.
    fn make_room(&mut self) {
        let all = self.slow.kept().flatten().chain(&self.failed).chain(&self.latest);
        let mut bytes: usize = all.map(|kept| kept.bytes).sum();
        while bytes > MAX_BYTES {
            let given_up = self.latest.pop_front().or_else(|| self.failed.pop_front()).or_else(|| {
                let half = self.slow.all_mut().max_by_key(|half| half.len());
                half.filter(|half| !half.is_empty()).map(|half| half.remove(0))
            });
            let Some(given_up) = given_up else { return };
            bytes -= given_up.bytes;
        }
    }

    /// All traces, each once: of one that came in parts, the longest.
    pub(super) fn all(&self) -> Vec<Arc<Kept>> {
        let slow = self.slow.kept().flatten();
        once(slow.chain(&self.failed).chain(&self.latest).cloned().collect())
    }

    fn forget(&mut self, id: u128) {
        let is_other = |kept: &Arc<Kept>| kept.trace.id != id;
        self.slow.all_mut().for_each(|half| half.retain(is_other));
        self.failed.retain(is_other);
        self.latest.retain(is_other);
    }
}

/// Each trace once: of one that came in parts, the longest.
pub(super) fn once(mut traces: Vec<Arc<Kept>>) -> Vec<Arc<Kept>> {
    traces.sort_by_key(|kept| (kept.trace.id, Reverse((kept.duration_ns(), kept.trace.spans.len()))));
    traces.dedup_by_key(|kept| kept.trace.id);
    traces
}

fn push(traces: &mut VecDeque<Arc<Kept>>, kept: Arc<Kept>) {
    traces.push_back(kept);
    if traces.len() > MAX_TRACES {
        traces.pop_front();
    }
}
