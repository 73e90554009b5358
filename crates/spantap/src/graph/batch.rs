//! What has to be known of spans to find who calls whom.

use std::collections::HashMap;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::names::{By, Node};
use crate::capture::Spans;
use crate::query::{Query, Subject};
use crate::span::numbers::{KIND, NAME};
use crate::span::{Summary, Undecoded};
use crate::trace::EncodedSpan;

/// Identifies a span: the halves of its trace's id, and its own id. As one `u128`, it would take 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct SpanKey([u64; 3]);

impl SpanKey {
    pub(super) fn new(trace_id: u128, span_id: u64) -> Self {
        Self([(trace_id >> 64) as u64, trace_id as u64, span_id])
    }
}

/// Spans of a process.
#[derive(Default, Debug)]
pub(super) struct Batch {
    /// The nodes of the spans, each once.
    pub(super) nodes: Vec<Node>,
    pub(super) spans: Vec<Seen>,
}

/// A span.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) key: SpanKey,
    pub(super) parent: Option<SpanKey>,
    /// The place among the batch's nodes.
    pub(super) node: usize,
    pub(super) called: Called,
    /// Whether the query chooses it.
    pub(super) is_chosen: bool,
}

/// A span as one that was called.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Called {
    pub(super) duration_ns: u64,
    pub(super) is_error: bool,
    /// Whether it is a request that came from elsewhere: a span of a server or consumer.
    pub(super) is_request: bool,
}

impl Batch {
    pub(super) fn new(spans: &Spans, by: By, query: Option<&Query>) -> Self {
        let mut batch = Self::default();
        let mut places = HashMap::new();
        let service = &spans.process.service;
        for (span, field) in spans.iter() {
            let undecoded = Undecoded::of_field(field);
            let kind = undecoded.code(KIND).unwrap_or_default();
            let name = (by == By::Span).then(|| undecoded.text(NAME).unwrap_or_default());
            let nodes = &mut batch.nodes;
            let node = *places.entry(name).or_insert_with_key(|name| {
                nodes.push(Node::named(service, *name));
                nodes.len() - 1
            });
            let chooses = |query: &Query| query.matches(&Subject::encoded(span, field, &spans.process));
            batch.spans.push(Seen::new(span, node, kind, query.is_none_or(chooses)));
        }
        batch
    }

    /// One span.
    pub(super) fn of_one(encoded: &EncodedSpan, by: By, query: Option<&Query>) -> Self {
        let chooses = |query: &Query| {
            let decoded = encoded.decode();
            decoded.is_some_and(|of| query.matches(&Subject::new(&of.span, &of.process)))
        };
        let name = (by == By::Span).then(|| encoded.name());
        let key = |span_id| SpanKey::new(encoded.trace_id, span_id);
        let seen = Seen {
            key: key(encoded.span_id),
            parent: encoded.parent_id.map(key),
            node: 0,
            called: Called::new(encoded.duration_ns(), encoded.is_error, encoded.kind()),
            is_chosen: query.is_none_or(chooses),
        };
        Self { nodes: vec![Node::named(&encoded.process.service, name)], spans: vec![seen] }
    }
}

impl Seen {
    fn new(span: &Summary, node: usize, kind: i32, is_chosen: bool) -> Self {
        Self {
            key: SpanKey::new(span.trace_id, span.span_id),
            parent: span.parent_id.map(|id| SpanKey::new(span.trace_id, id)),
            node,
            called: Called::new(span.duration_ns(), span.is_error, kind),
            is_chosen,
        }
    }
}

impl Called {
    fn new(duration_ns: u64, is_error: bool, kind: i32) -> Self {
        let is_request = [SpanKind::Server as i32, SpanKind::Consumer as i32].contains(&kind);
        Self { duration_ns, is_error, is_request }
    }
}
