//! A span while its trace is put together. Many wait, and one trace of many is looked at: so it is kept as it was
//! encoded for the sinks, in one piece of a third of the memory.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use prost::Message;

use super::{Trace, TraceSpan};
use crate::attributes::value;
use crate::process::Process;
use crate::view;

/// A span and who sent it, with what there is to know of it before anybody looks.
#[derive(Clone, Debug)]
pub struct EncodedSpan {
    pub(super) process: Arc<Process>,
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    pub(super) parent_id: Option<u64>,
    /// When it started and ended, in nanoseconds since 1970.
    pub(crate) times: (u64, u64),
    pub(crate) is_error: bool,
    /// In memory, now and while its trace is looked at.
    pub(super) weight: usize,
    pub(super) weight_decoded: usize,
    /// A `ScopeSpans` of this one.
    bytes: Box<[u8]>,
}

impl EncodedSpan {
    /// A span of `process`, with its field `spans` of a `ScopeSpans`. None without ids.
    pub fn new(process: &Arc<Process>, span: &Span, bytes: &[u8]) -> Option<Self> {
        Some(Self {
            process: Arc::clone(process),
            trace_id: u128::from_be_bytes(span.trace_id.as_slice().try_into().ok()?),
            span_id: span_id(&span.span_id)?,
            parent_id: span_id(&span.parent_span_id),
            times: (span.start_time_unix_nano, span.end_time_unix_nano),
            is_error: view::is_error(span),
            weight: weight(process, bytes.len()),
            weight_decoded: weight_decoded(span, bytes.len()),
            bytes: bytes.into(),
        })
    }

    fn decode(&self) -> Option<TraceSpan> {
        let span = ScopeSpans::decode(&*self.bytes).ok()?.spans.pop()?;
        Some(TraceSpan { process: Arc::clone(&self.process), span })
    }
}

impl Trace<EncodedSpan> {
    /// With its spans to look at.
    pub fn decode(&self) -> Trace {
        let Self { id, ref spans, shown, duplicates, left_out, late } = *self;
        let spans = spans.iter().filter_map(EncodedSpan::decode).collect();
        Trace { id, spans, shown, duplicates, left_out, late }
    }
}

fn span_id(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

const ALLOCATION: usize = 16;

/// Roughly what it takes in memory, with its id in the set and its share of the trace. The process is counted with each of
/// its spans, though they share it: it may be larger than they are.
fn weight(process: &Process, bytes: usize) -> usize {
    size_of::<EncodedSpan>() + ALLOCATION + 64 + bytes + process.resource_bytes()
}

/// Its texts, and what holds them.
fn weight_decoded(span: &Span, bytes: usize) -> usize {
    let itself = size_of::<TraceSpan>() + 3 * ALLOCATION;
    let events = span.events.iter().map(|event| size_of::<Event>() + attributes(&event.attributes));
    let links =
        span.links.iter().map(|link| size_of::<Link>() + 3 * ALLOCATION + attributes(&link.attributes));
    itself + bytes + attributes(&span.attributes) + events.sum::<usize>() + links.sum::<usize>()
}

/// What holds them, without their texts.
fn attributes(attributes: &[KeyValue]) -> usize {
    const PAIR: usize = size_of::<KeyValue>() + 2 * 16;
    let nested = attributes.iter().map(|attribute| match value(attribute) {
        // Two bytes of an empty value inside are some 30 in memory.
        Some(any_value::Value::ArrayValue(list)) => 32 * list.encoded_len(),
        Some(any_value::Value::KvlistValue(map)) => 32 * map.encoded_len(),
        _ => 0,
    });
    attributes.len() * PAIR + nested.sum::<usize>()
}
