//! OTLP in protobuf. The numbers are those of the fields in
//! [OpenTelemetry's definitions](https://github.com/open-telemetry/opentelemetry-proto).
//!
//! Written by hand, into the buffer of the datagram: prost would need every name and value as a `String` of its own,
//! and its messages would be among the dependencies of each traced program.

use super::super::losses::Losses;
use super::super::resource::Resource;
use super::super::sequence::Sequence;
use super::super::span::{Attribute, SpanView, Status};
use super::{AnyValue, SCOPE, link_flags, span_flags};
use crate::fields::Value;
use crate::protobuf::{Message, bytes, field_len, fixed32, fixed64, integer, message, text, varint_len};

/// The number of the field `attributes`.
const OF_RESOURCE: u32 = 1;
const OF_EVENT: u32 = 3;
const OF_SPAN: u32 = 9;

/// Fields of a span that OpenTelemetry does not define: [`SpanView::entered_times`].
const BUSY: u32 = 1017;
const ENTERED: u32 = 1018;

/// The bytes of the scope, the last part of a datagram before its spans.
const SCOPE_BYTES: usize = 2 + 2 + SCOPE.0.len() + 2 + SCOPE.1.len();

/// The only `ResourceSpans`, whose key has one byte.
const RESOURCE_SPANS: Message = Message::at(4);

/// The beginning of a datagram, before its spans. [`close`] writes the lengths of the two messages that are open.
pub(in super::super) fn open(resource: &Resource) -> Vec<u8> {
    let mut out = Vec::new();
    let resource_spans = Message::open(&mut out, 1);
    debug_assert_eq!(resource_spans.start(), RESOURCE_SPANS.start());
    resource_of(&mut out, resource);
    let scope_spans = Message::open(&mut out, 2);
    let (name, version) = SCOPE;
    message(&mut out, 1, field_len(name.len()) + field_len(version.len()));
    text(&mut out, 1, name);
    text(&mut out, 2, version);
    debug_assert_eq!(scope_spans.start(), out.len() - SCOPE_BYTES);
    out
}

fn resource_of(out: &mut Vec<u8>, resource: &Resource) {
    let message = Message::open(out, 1);
    attribute(out, OF_RESOURCE, "service.name", Value::Text(resource.service_name()));
    for (key, value) in resource.attributes() {
        attribute(out, OF_RESOURCE, key, Value::Text(value));
    }
    resource.detected(&mut |key, value| attribute(out, OF_RESOURCE, key, value));
    message.close(out);
}

/// OpenTelemetry's `ProcessContext`, of OTEP 4719. With what OTEP 4947 says of threads, whose records have no attributes.
pub(in super::super) fn process_context(resource: &Resource) -> Vec<u8> {
    const ATTRIBUTES: u32 = 2;
    let mut out = Vec::new();
    resource_of(&mut out, resource);
    attribute(&mut out, ATTRIBUTES, "threadlocal.schema_version", Value::Text("tlsdesc_v1_dev"));
    let key_map = Message::open(&mut out, ATTRIBUTES);
    text(&mut out, 1, "threadlocal.attribute_key_map");
    // An empty list.
    let value = Message::open(&mut out, 2);
    message(&mut out, 5, 0);
    value.close(&mut out);
    key_map.close(&mut out);
    out
}

/// The end of a datagram, behind its spans. Its beginning has `opening` bytes.
pub(in super::super) fn close(out: &mut Vec<u8>, opening: usize, sequence: Option<&Sequence>) {
    Message::at(opening - SCOPE_BYTES).close(out);
    RESOURCE_SPANS.close(out);
    if let Some(sequence) = sequence {
        sequence.write_field(out);
    }
}

/// The span that reports losses.
pub(in super::super) fn losses(out: &mut Vec<u8>, losses: &Losses<'_>) {
    let span = Message::open(out, 2);
    id(out, 1, Some(losses.ids.trace_id.high()), losses.ids.trace_id.low());
    id(out, 2, None, losses.ids.span_id.get());
    text(out, 5, Losses::NAME);
    integer(out, 6, 1);
    fixed64(out, 7, losses.start_ns);
    fixed64(out, 8, losses.end_ns.max(losses.start_ns + 1));
    for (key, spans) in losses.attributes() {
        attribute(out, OF_SPAN, &key, Value::U64(spans));
    }
    span.close(out);
}

pub(in super::super) fn span(out: &mut Vec<u8>, span: &SpanView<'_>) {
    let identity = &span.identity;
    let trace_id = identity.ids.trace_id;
    let message = Message::open(out, 2);
    id(out, 1, Some(trace_id.high()), trace_id.low());
    id(out, 2, None, identity.ids.span_id.get());
    if !span.record.trace_state.is_empty() {
        text(out, 3, span.record.trace_state);
    }
    if let Some(parent) = identity.parent_id {
        id(out, 4, None, parent.get());
    }
    match span.name_field() {
        Some(name) => text(out, 5, &name),
        None => text(out, 5, span.callsite.metadata.name()),
    }
    integer(out, 6, span.kind() as u64);
    fixed64(out, 7, span.start_ns);
    fixed64(out, 8, span.start_ns + span.elapsed.duration_ns);
    span.field_attributes(&mut |field| any_attribute(out, OF_SPAN, field));
    if span.is_plain() {
        out.extend_from_slice(&span.encoded.otlp_protobuf);
    } else {
        span.fixed_attributes(&mut |attribute| any_attribute(out, OF_SPAN, attribute));
    }
    span.own_attributes(&mut |attribute| any_attribute(out, OF_SPAN, attribute));
    if let Some((busy_ns, entered_ns)) = span.entered_times() {
        integer(out, BUSY, busy_ns);
        integer(out, ENTERED, entered_ns);
    }
    let dropped = span.record.dropped;
    count(out, 10, dropped.fields.attributes);
    for event in span.events() {
        let message = Message::open(out, 11);
        fixed64(out, 1, event.at_ns);
        text(out, 2, &event.name());
        event.attributes(span.vocabulary, &mut |attribute| any_attribute(out, OF_EVENT, attribute));
        message.close(out);
    }
    count(out, 12, dropped.events);
    for link in span.links() {
        let message = Message::open(out, 13);
        id(out, 1, Some(link.ids.trace_id.high()), link.ids.trace_id.low());
        id(out, 2, None, link.ids.span_id.get());
        if !link.trace_state.is_empty() {
            text(out, 3, link.trace_state);
        }
        fixed32(out, 6, link_flags(&link));
        message.close(out);
    }
    count(out, 14, dropped.links);
    match span.status() {
        Status::Unset => {}
        Status::Ok => status(out, 1, ""),
        Status::Error(description) | Status::ErrorField(description) => status(out, 2, &description),
    }
    fixed32(out, 16, span_flags(span));
    message.close(out);
}

fn status(out: &mut Vec<u8>, code: u64, description: &str) {
    let status = Message::open(out, 15);
    if !description.is_empty() {
        text(out, 2, description);
    }
    integer(out, 3, code);
    status.close(out);
}

/// Writes an id of 8 bytes, or of 16 if `high` is given.
#[inline]
fn id(out: &mut Vec<u8>, number: u32, high: Option<u64>, low: u64) {
    match high {
        Some(high) => {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&high.to_be_bytes());
            id[8..].copy_from_slice(&low.to_be_bytes());
            bytes(out, number, &id);
        }
        None => bytes(out, number, &low.to_be_bytes()),
    }
}

/// Writes a number of what was dropped, unless it is 0.
fn count(out: &mut Vec<u8>, number: u32, dropped: u32) {
    if dropped > 0 {
        integer(out, number, dropped.into());
    }
}

/// Encodes attributes of a span.
pub(in super::super) fn attributes<'a>(write: impl FnOnce(&mut dyn FnMut(Attribute<'a>))) -> Box<[u8]> {
    let mut out = Vec::new();
    write(&mut |attribute| any_attribute(&mut out, OF_SPAN, attribute));
    out.into()
}

/// Writes an attribute, as the field `number` of its owner.
fn any_attribute(out: &mut Vec<u8>, number: u32, any: Attribute<'_>) {
    match any {
        Attribute::Field(field) => attribute(out, number, field.name, field.value),
        Attribute::Text(key, text) => attribute(out, number, key, Value::Text(text)),
        Attribute::Number(key, value) => attribute(out, number, key, Value::U64(value)),
        Attribute::Flag(key) => attribute(out, number, key, Value::Bool(true)),
    }
}

fn attribute(out: &mut Vec<u8>, number: u32, key: &str, value: Value<'_>) {
    let value = AnyValue::from(value);
    let length = value.protobuf_len();
    message(out, number, field_len(key.len()) + field_len(length));
    text(out, 1, key);
    message(out, 2, length);
    value.write_protobuf(out);
}

impl AnyValue<'_> {
    fn protobuf_len(&self) -> usize {
        match self {
            Self::Text(text) => field_len(text.len()),
            Self::Bool(_) => 2,
            Self::Integer(number) => 1 + varint_len(*number as u64),
            Self::Double(_) => 9,
            Self::List(items) => field_len(items.map(|item| field_len(field_len(item.len()))).sum()),
        }
    }

    fn write_protobuf(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(value) => text(out, 1, value),
            Self::Bool(value) => integer(out, 2, u64::from(*value)),
            Self::Integer(value) => integer(out, 3, *value as u64),
            Self::Double(value) => fixed64(out, 4, value.to_bits()),
            Self::List(items) => {
                message(out, 5, items.map(|item| field_len(field_len(item.len()))).sum());
                for item in *items {
                    message(out, 1, field_len(item.len()));
                    text(out, 1, item);
                }
            }
        }
    }
}
