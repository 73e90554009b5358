//! Traces for the tests of what is computed from times.

use std::ops::Range;
use std::sync::Arc;

use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::assembled::{Shown, Trace, TraceSpan};
use super::tree::Row;
use crate::process::{Process, Sender};

/// A trace of spans given as (id, parent or 0, start and end in nanoseconds).
pub(super) fn timed(spans: &[(u64, u64, Range<u64>)]) -> Trace {
    let process =
        Arc::new(Process { sender: Sender::UNKNOWN, service: String::new(), resource: Resource::default() });
    let spans = spans.iter().map(|(id, parent, time)| TraceSpan {
        process: Arc::clone(&process),
        span: Span {
            span_id: id.to_be_bytes().to_vec(),
            parent_span_id: if *parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
            start_time_unix_nano: time.start,
            end_time_unix_nano: time.end,
            ..Span::default()
        },
    });
    Trace { id: 1, spans: spans.collect(), shown: Shown::Complete, duplicates: 0, left_out: 0, late: 0 }
}

/// The span id of a row.
pub(super) fn id(row: &Row<'_>) -> u64 {
    row.span.span.span_id.iter().fold(0, |id, byte| id << 8 | u64::from(*byte))
}
