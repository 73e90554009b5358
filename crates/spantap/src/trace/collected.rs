//! The spans of one trace, each once, and within limits.

use std::collections::HashSet;

use super::assembled::{Shown, Trace};
use super::encoded::EncodedSpan;

/// Up to this many spans, a trace is searched span by span: most traces are small, and a set takes memory.
const SMALL_TRACE: usize = 16;

/// Limits of the spans that are kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The memory of all traces together, and of a single trace when it is decoded.
    pub bytes: usize,
    /// The spans of a single trace.
    pub spans_of_a_trace: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // 64 MiB hold tens of thousands of spans.
        Self { bytes: 64 << 20, spans_of_a_trace: 10_000 }
    }
}

/// The spans of a trace that have arrived.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) trace: Trace<EncodedSpan>,
    /// The ids of its spans, if they are more than [`SMALL_TRACE`].
    ids: HashSet<u64>,
    /// The memory of its spans, encoded.
    pub(super) bytes: usize,
    /// The memory of its spans, decoded.
    decoded_bytes: usize,
}

impl Collected {
    pub(super) fn new(id: u128) -> Self {
        let trace =
            Trace { id, spans: Vec::new(), shown: Shown::Waited, duplicates: 0, left_out: 0, late: 0 };
        Self { trace, ids: HashSet::new(), bytes: 0, decoded_bytes: 0 }
    }

    /// Adds a span, or counts it as left out. Returns the memory that it takes.
    pub(super) fn add(&mut self, span: EncodedSpan, limits: Limits) -> usize {
        let full = self.trace.spans.len() >= limits.spans_of_a_trace
            || self.decoded_bytes + span.decoded_size > limits.bytes;
        if self.has(span.span_id) {
            self.trace.duplicates += 1;
            0
        } else if full {
            self.trace.left_out += 1;
            0
        } else {
            let size = span.size;
            self.bytes += size;
            self.decoded_bytes += span.decoded_size;
            self.push(span);
            size
        }
    }

    fn has(&self, span_id: u64) -> bool {
        let spans = &self.trace.spans;
        if spans.len() <= SMALL_TRACE {
            spans.iter().any(|span| span.span_id == span_id)
        } else {
            self.ids.contains(&span_id)
        }
    }

    fn push(&mut self, span: EncodedSpan) {
        let spans = &mut self.trace.spans;
        if spans.is_empty() {
            // Where there are very many traces, most have one span, but a Vec starts with room for four.
            spans.reserve_exact(1);
        }
        spans.push(span);
        let new = if spans.len() == SMALL_TRACE + 1 { spans.len() } else { 1 };
        if spans.len() > SMALL_TRACE {
            self.ids.extend(spans.iter().rev().take(new).map(|span| span.span_id));
        }
    }

    /// Whether the trace has a root and the parents of all its spans.
    pub(super) fn is_complete(&self) -> bool {
        let mut roots = 0;
        let has_all_parents = self.trace.spans.iter().all(|span| match span.parent_id {
            Some(parent) => self.has(parent),
            None => {
                roots += 1;
                true
            }
        });
        has_all_parents && roots > 0
    }
}
