//! The traces that wait for a decision, and when each of them is due.
//!
//! A trace is due when it is complete, with its root and the parents of all its spans, and no span has come for
//! `--keep-quiet`; otherwise at the end of `--keep-wait` after its first span. A trace that looks complete may not be: no span
//! names its children, and those of another process come when its exporter sends its next batch. The view shows an incomplete
//! trace when it has been quiet for some seconds (see `trace::Assembly`), since a part is better than nothing there. Here a
//! trace that is decided too early is lost: an operation that takes ten seconds may send nothing before its end.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::kept::Origin;
use super::rules::Applying;
use crate::span::ALLOCATION;

/// How long traces wait.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// The longest that a trace waits, after its first span.
    pub most: Duration,
    /// How long a complete trace waits for its next span.
    pub quiet: Duration,
}

/// Up to this many spans, a trace is searched span by span.
const SMALL_TRACE: usize = 16;

/// A trace looks for a process among so many that its spans were of last. One that is not among them counts once more.
const LATEST_PROCESSES: usize = 64;

/// Checks of traces that are decided are removed when they are this many more than those of traces that wait.
const SPARE_CHECKS: usize = 1_024;

/// A span that waits.
#[derive(Debug)]
pub(super) struct WaitingSpan {
    pub(super) origin: Arc<Origin>,
    pub(super) span_id: u64,
    /// 0 without a parent.
    pub(super) parent_id: u64,
    /// The span, as the field `spans` of a `ScopeSpans`.
    pub(super) field: Box<[u8]>,
}

/// A trace that waits.
#[derive(Debug)]
pub(super) struct WaitingTrace {
    first: Instant,
    last: Instant,
    /// Whether a check in `WaitingTraces::quiet` is scheduled.
    is_checked: bool,
    pub(super) applying: Applying,
    pub(super) spans: Vec<WaitingSpan>,
    /// The memory that it takes, without that of the processes.
    bytes: usize,
    /// The addresses of the processes that its spans are of, which hold them.
    processes: Vec<usize>,
    /// The memory that these processes take.
    bytes_of_processes: usize,
}

impl WaitingTrace {
    /// Whether it has a root and the parents of all its spans.
    fn is_complete(&self) -> bool {
        if !self.spans.iter().any(|span| span.parent_id == 0) {
            return false;
        }
        let ids: HashSet<u64> = match self.spans.len() {
            ..=SMALL_TRACE => HashSet::new(),
            _ => self.spans.iter().map(|span| span.span_id).collect(),
        };
        let has = |id: u64| match ids.is_empty() {
            true => self.spans.iter().any(|span| span.span_id == id),
            false => ids.contains(&id),
        };
        self.spans.iter().all(|span| span.parent_id == 0 || has(span.parent_id))
    }
}

/// The traces that wait.
#[derive(Debug)]
pub(super) struct WaitingTraces {
    wait: Wait,
    traces: HashMap<u128, WaitingTrace>,
    /// Each trace with the time of its first span, the oldest first.
    by_age: VecDeque<(Instant, u128)>,
    /// When to see whether a trace is complete and quiet, the soonest first.
    quiet: BinaryHeap<Reverse<(Instant, u128)>>,
    /// The processes that spans are of, by their address.
    processes: HashMap<usize, WaitingProcess>,
    spans: u64,
    bytes: usize,
}

/// A process that spans are of. It is shared by all of them, so its memory counts once.
#[derive(Debug)]
struct WaitingProcess {
    traces: usize,
    bytes: usize,
}

/// Why a trace is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Complete,
    Waited,
}

impl WaitingTraces {
    pub(super) fn new(wait: Wait) -> Self {
        Self {
            wait,
            traces: HashMap::new(),
            by_age: VecDeque::new(),
            quiet: BinaryHeap::new(),
            processes: HashMap::new(),
            spans: 0,
            bytes: 0,
        }
    }

    /// The rules that apply to a trace, if it waits.
    pub(super) fn applying(&self, trace_id: u128) -> Option<Applying> {
        self.traces.get(&trace_id).map(|trace| trace.applying)
    }

    /// Adds a span, and sets the rules that apply to its trace. Returns the memory that the trace takes.
    pub(super) fn add(
        &mut self,
        trace_id: u128,
        span: WaitingSpan,
        applying: Applying,
        now: Instant,
    ) -> usize {
        let trace = self.traces.entry(trace_id).or_insert_with(|| {
            self.by_age.push_back((now, trace_id));
            let bytes = size_of::<(u128, WaitingTrace)>() + 2 * size_of::<(Instant, u128)>() + ALLOCATION;
            self.bytes += bytes;
            // Where there are very many traces, most have one span, but a Vec starts with room for four.
            let spans = Vec::with_capacity(1);
            WaitingTrace {
                first: now,
                last: now,
                is_checked: false,
                applying,
                spans,
                bytes,
                processes: Vec::with_capacity(1),
                bytes_of_processes: 0,
            }
        });
        if let Some(position) = &span.origin.position {
            position.wait();
        }
        // The origin is shared, but counts once for each trace, because a sender may give each span another one.
        let is_known = trace.spans.last().is_some_and(|last| Arc::ptr_eq(&last.origin, &span.origin));
        let of_origin = if is_known { 0 } else { span.origin.bytes() };
        let mut bytes = size_of::<WaitingSpan>() + ALLOCATION + span.field.len() + of_origin;
        let process = Arc::as_ptr(&span.origin.process).addr();
        if !trace.processes.iter().rev().take(LATEST_PROCESSES).any(|known| *known == process) {
            let known = self.processes.entry(process).or_insert_with(|| {
                let bytes = size_of::<(usize, WaitingProcess)>() + span.origin.process.bytes();
                self.bytes += bytes;
                WaitingProcess { traces: 0, bytes }
            });
            known.traces += 1;
            trace.bytes_of_processes += known.bytes;
            bytes += if trace.processes.is_empty() { ALLOCATION } else { 0 } + size_of::<usize>();
            trace.processes.push(process);
        }
        self.bytes += bytes;
        trace.bytes += bytes;
        trace.applying = applying;
        trace.last = now;
        trace.spans.push(span);
        self.spans += 1;
        if !std::mem::replace(&mut trace.is_checked, true) {
            self.quiet.push(Reverse((now + self.wait.quiet, trace_id)));
        }
        trace.bytes + trace.bytes_of_processes
    }

    /// Takes a trace out, to decide about it.
    pub(super) fn remove(&mut self, trace_id: u128) -> Option<WaitingTrace> {
        let trace = self.traces.remove(&trace_id)?;
        self.bytes -= trace.bytes;
        self.spans -= trace.spans.len() as u64;
        for position in trace.spans.iter().filter_map(|span| span.origin.position.as_ref()) {
            position.decide();
        }
        for process in &trace.processes {
            if let Some(known) = self.processes.get_mut(process) {
                known.traces -= 1;
                if known.traces == 0 {
                    self.bytes -= known.bytes;
                    self.processes.remove(process);
                }
            }
        }
        let most = 2 * self.traces.len() + SPARE_CHECKS;
        if self.by_age.len() > most {
            let is_current = |(first, id): &(Instant, u128)| {
                self.traces.get(id).is_some_and(|trace| trace.first == *first)
            };
            self.by_age.retain(is_current);
        }
        if self.quiet.len() > most {
            self.quiet.retain(|Reverse((_, id))| self.traces.contains_key(id));
        }
        Some(trace)
    }

    /// The trace that waits longest.
    pub(super) fn oldest(&mut self) -> Option<u128> {
        loop {
            let (first, id) = self.by_age.front()?;
            if self.traces.get(id).is_some_and(|trace| trace.first == *first) {
                return Some(*id);
            }
            self.by_age.pop_front();
        }
    }

    /// A trace that is due. It is to be removed.
    pub(super) fn due(&mut self, now: Instant) -> Option<(u128, Due)> {
        if let Some(oldest) = self.oldest()
            && let Some(trace) = self.traces.get(&oldest).filter(|trace| trace.first + self.wait.most <= now)
        {
            return Some((oldest, if trace.is_complete() { Due::Complete } else { Due::Waited }));
        }
        while self.quiet.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Reverse((_, id)) = self.quiet.pop()?;
            let Some(trace) = self.traces.get_mut(&id) else { continue };
            let at = trace.last + self.wait.quiet;
            if at > now {
                self.quiet.push(Reverse((at, id)));
            } else if trace.is_complete() {
                return Some((id, Due::Complete));
            } else {
                trace.is_checked = false;
            }
        }
        None
    }

    /// When a trace may be due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let of_age = self.by_age.front().map(|(first, _)| *first + self.wait.most);
        of_age.into_iter().chain(self.quiet.peek().map(|Reverse((at, _))| *at)).min()
    }

    /// The numbers of traces and of spans.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.traces.len() as u64, self.spans)
    }

    #[cfg(test)]
    pub(super) fn checks(&self) -> usize {
        self.by_age.len() + self.quiet.len()
    }

    /// The memory of the waiting spans.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
