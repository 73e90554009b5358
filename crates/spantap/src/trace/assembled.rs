//! The result of the assembly: a trace with the spans received so far.

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::process::Process;

/// A span and its process.
#[derive(Clone, Debug)]
pub struct TraceSpan {
    /// The process that sent the span.
    pub process: Arc<Process>,
    /// The span. Its trace id has 16 bytes, its span id 8, its parent's id 0 or 8, and it does not end before it starts.
    pub span: Span,
}

/// Why a trace is shown now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// It has a root and all parents, and no span has arrived for a while.
    Complete,
    /// Waiting for more spans has timed out.
    Waited,
    /// The waiting spans have reached the limit of memory.
    NoRoom,
    /// The collector ends.
    End,
    /// The process ended while the spans were open. They are as its last report has them.
    ProcessEnded,
}

/// A trace with the spans that were received when it is shown.
#[derive(Clone, Debug)]
pub struct Trace<S = TraceSpan> {
    /// The trace id.
    pub id: u128,
    /// The spans, in the order of their arrival.
    pub spans: Vec<S>,
    /// Why the trace is shown now.
    pub shown: Shown,
    /// How many spans arrived a second time and were left out.
    pub duplicates: u64,
    /// How many spans were left out because the trace is too large.
    pub left_out: u64,
    /// How many of `spans` arrived after the trace was first shown; 0 the first time.
    pub late: usize,
}
