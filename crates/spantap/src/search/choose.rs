//! The first pass: which traces are wanted.

use std::collections::HashSet;

use anyhow::Result;

use super::best::Best;
use super::files::{Files, Read, Unread};
use crate::capture::{Filter, Spans};
use crate::query::{LazySpan, Query, Subject};
use crate::span::Summary;

/// Matching traces are counted exactly up to this number. An id takes some 20 bytes.
const MAX_COUNTED: usize = 10_000_000;

/// Which traces are wanted.
#[derive(Debug)]
pub struct Wanted {
    /// Only traces with a span that this query chooses.
    pub query: Option<Query>,
    /// Only these traces. Empty: all.
    pub trace_ids: Vec<u128>,
    /// Which traces come first.
    pub order: Order,
    /// How many traces at most.
    pub limit: usize,
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
    /// Whether there are more than `matching`: they were not counted.
    pub matching_more: bool,
    /// How many spans were read.
    pub spans: u64,
    /// The spans that the programs reported as lost.
    pub lost_by_senders: u64,
    /// What could not be read.
    pub unread: Vec<Unread>,
}

/// Chooses traces from the files.
///
/// # Errors
///
/// When a file can't be read.
pub fn choose(files: &Files, wanted: &Wanted) -> Result<Choice> {
    let mut best = Best::new(wanted.limit);
    let mut matching = HashSet::new();
    let (mut matching_more, mut read_spans) = (false, 0);
    let (query, order) = (wanted.query.clone(), wanted.order);
    let each = move |spans: Spans| -> Found {
        let is_chosen = |(span, field): &(&Summary, &[u8])| {
            let span = LazySpan::new(span, field);
            query.as_ref().is_none_or(|query| query.matches(&Subject::encoded(&span, &spans.process)))
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
            if matching.len() < MAX_COUNTED {
                matching.insert(trace_id);
            } else {
                matching_more |= !matching.contains(&trace_id);
            }
            best.offer(trace_id, value);
        }
    };
    let traces = (!wanted.trace_ids.is_empty()).then(|| wanted.trace_ids.iter().copied().collect());
    let Read { lost_by_senders, unread } = files.read(&Filter { traces, ..Filter::default() }, each, take)?;
    let mut trace_ids = best.ascending();
    if wanted.order == Order::Duration {
        trace_ids.reverse();
    }
    Ok(Choice {
        trace_ids,
        matching: matching.len(),
        matching_more,
        spans: read_spans,
        lost_by_senders,
        unread,
    })
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
