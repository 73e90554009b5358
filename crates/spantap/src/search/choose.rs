//! The first pass: which traces are wanted.

use std::collections::HashSet;

use super::best::Best;
use super::files::{Files, Read};
use crate::capture::{Filter, Spans};
use crate::query::{Query, Subject};
use crate::span::Summary;
use crate::trace::{EncodedSpan, Trace};

/// Which traces are wanted.
#[derive(Debug)]
pub struct Wanted {
    /// Only traces with a span that this query chooses.
    pub query: Option<Query>,
    /// Only these traces. Empty: all.
    pub trace_ids: Vec<u128>,
    /// Only spans that have not ended before the first of these times, and have started by the second, in nanoseconds
    /// since 1970.
    pub times_ns: (u64, u64),
    /// Which traces come first.
    pub order: Order,
    /// How many traces at most.
    pub limit: Option<usize>,
}

impl Wanted {
    /// Whether nothing restricts the traces.
    pub fn are_all(&self) -> bool {
        let Self { query, trace_ids, times_ns, limit, .. } = self;
        query.is_none() && trace_ids.is_empty() && *times_ns == (0, u64::MAX) && limit.is_none()
    }
}

/// The order of traces. If not all are wanted, it says which of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// By the start of the trace's last matching span, the latest traces last. The latest are wanted.
    Time,
    /// By the duration of the longest matching span, the longest first. The longest are wanted.
    Duration,
}

/// The traces that were chosen.
#[derive(Debug)]
pub struct Choice {
    /// The traces, in the wanted order.
    pub trace_ids: Vec<u128>,
    /// How many traces match, with those that were not chosen.
    pub matching: usize,
    /// How many spans were read.
    pub spans: u64,
    /// What else the files had.
    pub read: Read,
}

/// Chooses traces from the files. The memory is that of the ids of all traces that match.
pub fn choose(files: &Files, wanted: &Wanted) -> Choice {
    let mut best = Best::new(wanted.limit);
    let mut matching = HashSet::new();
    let mut read_spans = 0;
    let (query, order) = (wanted.query.clone(), wanted.order);
    let each = move |spans: Spans| -> Found {
        let is_chosen = |(span, field): &(&Summary, &[u8])| {
            query.as_ref().is_none_or(|query| query.matches(&Subject::encoded(span, field, &spans.process)))
        };
        let chosen = spans.iter().filter(is_chosen);
        Found {
            values: chosen.map(|(span, _)| (span.trace_id, order.value(span))).collect(),
            spans: spans.iter().count(),
        }
    };
    let take = |found: Found| {
        read_spans += found.spans as u64;
        for (trace_id, value) in found.values {
            matching.insert(trace_id);
            best.offer(trace_id, value);
        }
    };
    let traces = (!wanted.trace_ids.is_empty()).then(|| wanted.trace_ids.iter().copied().collect());
    let (since_ns, until_ns) = wanted.times_ns;
    let read = files.read(&Filter { traces, since_ns, until_ns }, each, take);
    let mut trace_ids = best.ascending();
    if wanted.order == Order::Duration {
        trace_ids.reverse();
    }
    Choice { trace_ids, matching: matching.len(), spans: read_spans, read }
}

/// Whether a query chooses a span of the trace.
pub fn is_chosen(trace: &Trace<EncodedSpan>, query: &Query) -> bool {
    let mut spans = trace.spans.iter().filter_map(EncodedSpan::decode);
    spans.any(|of| query.matches(&Subject::new(&of.span, &of.process)))
}

/// What some spans of a process add to the choice.
struct Found {
    /// The trace of each span that is chosen, and the span's place in the order.
    values: Vec<(u128, u64)>,
    /// How many spans there were.
    spans: usize,
}

impl Order {
    fn value(self, span: &Summary) -> u64 {
        match self {
            Self::Time => span.times.0,
            Self::Duration => span.duration_ns(),
        }
    }
}
