//! Traces for the tests.

use std::ops::Range;
use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use prost::Message;

use crate::process::{Process, Sender};
use crate::span::Summary;
use crate::trace::{EncodedSpan, Shown, Trace};

const START_NS: u64 = 1_800_000_000_000_000_000;

/// A span of any trace; without a parent if that is 0.
pub(super) fn span(id: u64, parent: u64, times: Range<u64>) -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
        start_time_unix_nano: START_NS + times.start,
        end_time_unix_nano: START_NS + times.end,
        ..Span::default()
    }
}

/// A trace of a process without a name.
pub(super) fn trace(id: u128, spans: Vec<Span>) -> Trace<EncodedSpan> {
    of_service("", id, spans)
}

/// A trace of a process.
pub(super) fn of_service(service: &str, id: u128, spans: Vec<Span>) -> Trace<EncodedSpan> {
    let sender = Sender { pid: 1, uid: 0, gid: 0 };
    let process = Arc::new(Process { sender, service: service.into(), resource: Default::default() });
    let encoded = |span: Span| {
        let summary = Summary::of(&span).expect("its ids");
        let field = ScopeSpans { spans: vec![span], ..ScopeSpans::default() }.encode_to_vec();
        EncodedSpan::new(&process, &summary, &field)
    };
    let spans = spans.into_iter().map(encoded).collect();
    Trace { id, spans, shown: Shown::Complete, duplicates: 0, left_out: 0, late: 0 }
}
