//! A span that waits for its trace. Many spans wait and few traces are shown, so a waiting span stays encoded, as it was
//! for the sinks: one allocation and a third of the memory.

use std::sync::Arc;

use memchr::memmem::Finder;

use super::assembled::{Trace, TraceSpan};
use crate::process::Process;
use crate::span::numbers::KIND;
use crate::span::{ALLOCATION, Summary, Undecoded, decode_field, name_of_field};

/// An encoded span, with its process and what the assembly needs to know before decoding it.
#[derive(Clone, Debug)]
pub struct EncodedSpan {
    pub(crate) process: Arc<Process>,
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
    pub(crate) parent_id: Option<u64>,
    /// The start and the end, in nanoseconds since 1970.
    pub(crate) times: (u64, u64),
    pub(crate) is_error: bool,
    /// Whether it is kernel activity.
    pub(crate) is_kernel: bool,
    /// The memory that it takes, encoded.
    pub(crate) size: usize,
    /// The memory that it takes, decoded.
    pub(super) decoded_size: usize,
    /// A `ScopeSpans` with this span only.
    bytes: Box<[u8]>,
}

impl EncodedSpan {
    /// A span of `process`; `bytes` is the span as the field `spans` of a `ScopeSpans`.
    pub fn new(process: &Arc<Process>, span: &Summary, bytes: &[u8]) -> Self {
        Self {
            process: Arc::clone(process),
            trace_id: span.trace_id,
            span_id: span.span_id,
            parent_id: span.parent_id,
            times: span.times,
            is_error: span.is_error,
            is_kernel: span.is_kernel,
            size: size(process, bytes.len()),
            decoded_size: size_of::<TraceSpan>() + 3 * ALLOCATION + bytes.len() + span.decoded.0,
            bytes: bytes.into(),
        }
    }

    /// The name. Empty if it can't be read.
    pub(crate) fn name(&self) -> &str {
        name_of_field(&self.bytes)
    }

    /// Its role in a call between services, as OTLP numbers it.
    pub(crate) fn kind(&self) -> i32 {
        self.undecoded().code(KIND).unwrap_or_default()
    }

    /// To read parts of it.
    pub(crate) fn undecoded(&self) -> Undecoded<'_> {
        Undecoded::of_field(&self.bytes)
    }

    /// From the start to the end.
    pub(crate) fn duration_ns(&self) -> u64 {
        let (start, end) = self.times;
        end.saturating_sub(start)
    }

    /// Whether the encoding contains this text, such as the key of an attribute.
    pub(crate) fn contains(&self, text: &Finder<'_>) -> bool {
        text.find(&self.bytes).is_some()
    }

    /// The memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.size
    }

    /// The span. `None` if it can't be decoded.
    pub(crate) fn decode(&self) -> Option<TraceSpan> {
        Some(TraceSpan { process: Arc::clone(&self.process), span: decode_field(&self.bytes)? })
    }
}

impl Trace<EncodedSpan> {
    /// The first start and the last end of its spans, in nanoseconds since 1970.
    pub(crate) fn times(&self) -> (u64, u64) {
        let starts = self.spans.iter().map(|span| span.times.0).min();
        let ends = self.spans.iter().map(|span| span.times.1).max();
        (starts.unwrap_or(0), ends.unwrap_or(0))
    }

    /// Whether one of its spans has failed.
    pub(crate) fn has_error(&self) -> bool {
        self.spans.iter().any(|span| span.is_error)
    }

    /// The same trace with decoded spans.
    pub fn decode(&self) -> Trace {
        let Self { id, ref spans, shown, duplicates, left_out, late } = *self;
        let spans = spans.iter().filter_map(EncodedSpan::decode).collect();
        Trace { id, spans, shown, duplicates, left_out, late }
    }
}

/// Roughly the memory of an encoded span, with its id in the set and its share of the trace. Counts the process with
/// each of its spans, although they share it, because it may be larger than they are.
fn size(process: &Process, bytes: usize) -> usize {
    size_of::<EncodedSpan>() + ALLOCATION + 64 + bytes + process.resource_bytes()
}
