//! The traces that are kept to be looked at: slow ones, failed ones, and some of the latest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::halves::Halves;
use crate::trace::{EncodedSpan, Trace};

/// The most memory for traces.
const MAX_BYTES: usize = 64 << 20;

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
    /// The memory of all traces.
    held: Arc<AtomicUsize>,
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
    held: Arc<AtomicUsize>,
}

impl Kept {
    pub(crate) fn duration_ns(&self) -> u64 {
        let (start, end) = self.times;
        end.saturating_sub(start)
    }

    /// The span that begins the trace, as far as it is known.
    pub(crate) fn root(&self) -> Option<&EncodedSpan> {
        self.trace.spans.get(self.root)
    }

    fn new(trace: &Trace<EncodedSpan>, times: (u64, u64), held: &Arc<AtomicUsize>) -> Self {
        let spans = &trace.spans;
        let bytes = size_of::<Self>() + spans.iter().map(|span| span.size).sum::<usize>();
        held.fetch_add(bytes, Ordering::Relaxed);
        let order = |place: &usize| (spans[*place].parent_id.is_some(), spans[*place].times.0);
        Self {
            trace: trace.clone(),
            times,
            errors: spans.iter().filter(|span| span.is_error).count(),
            root: (0..spans.len()).min_by_key(order).unwrap_or(0),
            bytes,
            held: Arc::clone(held),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The start and the end of all spans of a trace.
pub(super) fn times(trace: &Trace<EncodedSpan>) -> (u64, u64) {
    let starts = trace.spans.iter().map(|span| span.times.0).min();
    let ends = trace.spans.iter().map(|span| span.times.1).max();
    (starts.unwrap_or(0), ends.unwrap_or(0))
}

impl Traces {
    pub(super) fn new(now_ns: u64) -> Self {
        Self {
            slow: Halves::new(now_ns),
            failed: VecDeque::new(),
            latest: VecDeque::new(),
            second: (0, 0),
            held: Arc::default(),
        }
    }

    /// Copies a trace, to keep it.
    pub(super) fn copy(&self, trace: &Trace<EncodedSpan>, times: (u64, u64)) -> Arc<Kept> {
        Arc::new(Kept::new(trace, times, &self.held))
    }

    /// Offers a trace, which `copy` copies if it is kept. A trace that has grown replaces what was kept of it.
    pub(super) fn offer(
        &mut self,
        trace: &Trace<EncodedSpan>,
        (start_ns, end_ns): (u64, u64),
        now_ns: u64,
        mut copy: impl FnMut(&Self) -> Arc<Kept>,
    ) {
        if trace.late > 0 {
            self.forget(trace.id);
        }
        let duration_ns = end_ns.saturating_sub(start_ns);
        let slow = self.slow.at(now_ns);
        if slow.len() < MAX_TRACES || slow.first().is_some_and(|least| least.duration_ns() < duration_ns) {
            let kept = copy(self);
            let slow = self.slow.at(now_ns);
            let place = slow.partition_point(|other| other.duration_ns() < duration_ns);
            slow.insert(place, kept);
            if slow.len() > MAX_TRACES {
                slow.remove(0);
            }
        }
        if trace.spans.iter().any(|span| span.is_error) {
            let kept = copy(self);
            push(&mut self.failed, kept);
        }
        let second = now_ns / SECOND_NS;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        if self.second.1 < LATEST_PER_SECOND {
            self.second.1 += 1;
            let kept = copy(self);
            push(&mut self.latest, kept);
        }
    }

    /// Whether the traces take too much memory, after all that is possible here was given up for it.
    pub(super) fn is_too_large(&mut self) -> bool {
        while self.held.load(Ordering::Relaxed) > MAX_BYTES {
            if self.latest.pop_front().is_some() || self.failed.pop_front().is_some() {
                continue;
            }
            let half = self.slow.all_mut().max_by_key(|half| half.len());
            let Some(half) = half.filter(|half| !half.is_empty()) else { return true };
            half.remove(0);
        }
        false
    }

    /// All traces, each once.
    pub(super) fn all(&self) -> Vec<Arc<Kept>> {
        let slow = self.slow.kept().flatten();
        let mut all: Vec<Arc<Kept>> = slow.chain(&self.failed).chain(&self.latest).cloned().collect();
        all.sort_by_key(|kept| kept.trace.id);
        all.dedup_by_key(|kept| kept.trace.id);
        all
    }

    fn forget(&mut self, id: u128) {
        let is_other = |kept: &Arc<Kept>| kept.trace.id != id;
        self.slow.all_mut().for_each(|half| half.retain(is_other));
        self.failed.retain(is_other);
        self.latest.retain(is_other);
    }
}

fn push(traces: &mut VecDeque<Arc<Kept>>, kept: Arc<Kept>) {
    traces.push_back(kept);
    if traces.len() > MAX_TRACES {
        traces.pop_front();
    }
}
