//! Traces for the tests, made by hand.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, Status};
use prost::Message;

use super::{Findings, Found};
use crate::process::{Process, Sender};
use crate::span::Summary;
use crate::span::attributes::attribute;
use crate::trace::{EncodedSpan, Shown, Trace, breakdowns, finder};

pub(crate) const MS: u64 = 1_000_000;
const START_NS: u64 = 1_800_000_000_000_000_000;

/// A span, with its place in a trace: its times are in nanoseconds after the start of the test.
#[derive(Clone)]
pub(crate) struct Made {
    span: Span,
    is_kernel: bool,
}

/// A span of the trace of which the last parts of its ids are these. Without a parent if that is 0.
pub(crate) fn span(id: u64, parent: u64, name: &str, (from, to): (u64, u64)) -> Made {
    let span = Span {
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
        name: name.into(),
        kind: 1,
        start_time_unix_nano: START_NS + from,
        end_time_unix_nano: START_NS + to,
        ..Span::default()
    };
    Made { span, is_kernel: false }
}

impl Made {
    /// A child that takes the first part of its time, in percent.
    pub(crate) fn child(&self, id: u64, name: &str, percent: u64) -> Self {
        let mut child = self.clone();
        let (from, to) = (self.span.start_time_unix_nano, self.span.end_time_unix_nano);
        child.span = Span {
            span_id: id.to_be_bytes().to_vec(),
            parent_span_id: self.span.span_id.clone(),
            name: name.into(),
            start_time_unix_nano: from,
            end_time_unix_nano: from + (to - from) * percent / 100,
            ..Span::default()
        };
        child
    }

    pub(crate) fn text(mut self, key: &str, text: impl ToString) -> Self {
        self.span.attributes.push(attribute(key, Value::StringValue(text.to_string())));
        self
    }

    pub(crate) fn number(mut self, key: &str, number: u64) -> Self {
        self.span.attributes.push(attribute(key, Value::IntValue(number as i64)));
        self
    }

    pub(crate) fn client(mut self) -> Self {
        self.span.kind = 3;
        self
    }

    pub(crate) fn server(mut self) -> Self {
        self.span.kind = 2;
        self
    }

    pub(crate) fn failed(mut self, message: &str) -> Self {
        self.span.status = Some(Status { code: 2, message: message.into() });
        self
    }

    pub(crate) fn kernel(mut self) -> Self {
        self.is_kernel = true;
        self
    }

    pub(crate) fn link(mut self, trace: u128, id: u64) -> Self {
        self.span.links.push(Link {
            trace_id: trace.to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            ..Link::default()
        });
        self
    }
}

/// A trace of one process of the service `shop`.
pub(crate) fn trace(id: u128, spans: Vec<Made>) -> Trace<EncodedSpan> {
    let sender = Sender { pid: 7, uid: 0, gid: 0 };
    let process = Arc::new(Process { sender, service: "shop".into(), resource: Default::default() });
    let encoded = |Made { mut span, is_kernel }: Made| {
        span.trace_id = id.to_be_bytes().to_vec();
        let summary = Summary { is_kernel, ..Summary::of(&span).expect("its ids") };
        let field = ScopeSpans { spans: vec![span], ..ScopeSpans::default() }.encode_to_vec();
        EncodedSpan::new(&process, &summary, &field)
    };
    let spans = spans.into_iter().map(encoded).collect();
    Trace { id, spans, shown: Shown::Complete, duplicates: 0, left_out: 0, late: 0 }
}

/// What is found in traces, of which each is made for a number from 1 on, for the time at which it begins.
pub(crate) fn found(traces: u64, apart_ns: u64, made: impl Fn(u64, u64) -> Vec<Made>) -> Found {
    let mut findings = Findings::default();
    for number in 1..=traces {
        let trace = trace(number.into(), made(number, number * apart_ns));
        findings.add(&trace, &breakdowns(&trace.spans, &finder()));
    }
    findings.found()
}

/// The kinds and the sentences of the findings.
pub(crate) fn sentences(found: &Found) -> Vec<String> {
    found.findings.iter().map(|finding| format!("{}: {}", finding.kind.id(), finding.what)).collect()
}

/// A request that makes calls of 1 ms each, one after the other, which `change` changes.
pub(crate) fn many_calls(number: u64, at: u64, calls: u64, change: impl Fn(u64, Made) -> Made) -> Vec<Made> {
    let id = |of: u64| number << 16 | of;
    let mut spans = vec![span(id(1), 0, "GET /cart", (at, at + (calls + 2) * MS)).server()];
    for call in 0..calls {
        let from = at + (call + 1) * MS;
        let made = span(id(2 + call), id(1), "load_item", (from, from + MS)).client();
        spans.push(change(call, made.text("db.query.text", "SELECT * FROM items WHERE id = ?")));
    }
    spans
}
