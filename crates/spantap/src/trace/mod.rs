//! Spans put together to traces.

mod assembly;
mod encoded;
mod parents;
pub mod tree;

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::Span;

pub use assembly::{Assembly, Limits};
pub use encoded::EncodedSpan;

use crate::process::Process;

/// A span and who sent it.
#[derive(Clone, Debug)]
pub struct TraceSpan {
    /// The sender.
    pub process: Arc<Process>,
    /// Its ids are 16 and 8 bytes (the parent's 0 or 8), and it does not end before it starts.
    pub span: Span,
}

/// Why a trace is shown now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// Its root is here, and nothing has come for a while.
    Complete,
    /// Its root, or a parent of some span, has not come for long.
    Waited,
    /// There was no room to wait any longer.
    NoRoom,
    /// The program ends.
    End,
}

/// The spans of a trace that are known when it is shown.
#[derive(Clone, Debug)]
pub struct Trace<S = TraceSpan> {
    /// Its id.
    pub id: u128,
    /// In the order in which they came.
    pub spans: Vec<S>,
    /// Why now.
    pub shown: Shown,
    /// Spans that came a second time, and were left out.
    pub duplicates: u64,
    /// Spans beyond what there was room for, left out.
    pub left_out: u64,
    /// Of the `spans`, how many came after the trace had been shown before; 0 the first time.
    pub late: usize,
}
