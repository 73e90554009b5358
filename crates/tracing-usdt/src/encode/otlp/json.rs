//! OTLP in JSON.
//!
//! The [JSON encoding](https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding) is protobuf's JSON
//! mapping: 64-bit integers are strings, and enums are numbers. Only ids differ: they are hex.

use super::super::losses::Losses;
use super::super::resource::Resource;
use super::super::sequence::Sequence;
use super::super::span::{Attribute, SpanView, Status};
use super::super::value::value;
use super::{AnyValue, SCOPE, link_flags, span_flags};
use crate::callsite::Key;
use crate::fields::Value;
use crate::json::{Object, array, scalar, string};

/// The beginning of a datagram, before its spans.
pub(in super::super) fn open(resource: &Resource) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(b"{\"resourceSpans\":[{\"resource\":");
    let mut resource_object = Object::open(&mut out);
    let mut attributes = Attributes::open(resource_object.key("attributes"));
    attributes.write("service.name", Value::Text(resource.service_name()));
    for (key, value) in resource.attributes() {
        attributes.write(key, Value::Text(value));
    }
    resource.detected(&mut |key, value| attributes.write(key, value));
    attributes.close();
    resource_object.close();
    out.extend_from_slice(b",\"scopeSpans\":[{\"scope\":");
    let mut scope = Object::open(&mut out);
    scope.string("name", SCOPE.0);
    scope.string("version", SCOPE.1);
    scope.close();
    out.extend_from_slice(b",\"spans\":[");
    out
}

/// The end of a datagram, behind its spans.
pub(in super::super) fn close(out: &mut Vec<u8>, sequence: Option<&Sequence>) {
    out.extend_from_slice(b"]}]}]");
    if let Some(sequence) = sequence {
        sequence.write_member(out);
    }
    out.push(b'}');
}

/// The span that reports losses.
pub(in super::super) fn losses(out: &mut Vec<u8>, losses: &Losses<'_>) {
    let trace_id = losses.ids.trace_id;
    let mut object = Object::open(out);
    object.id("traceId", Some(trace_id.high()), trace_id.low());
    object.id("spanId", None, losses.ids.span_id.get());
    object.string("name", Losses::NAME);
    object.number("kind", 1);
    object.number_text("startTimeUnixNano", losses.start_ns);
    object.number_text("endTimeUnixNano", losses.end_ns.max(losses.start_ns + 1));
    let mut attributes = Attributes::open(object.key("attributes"));
    for (key, spans) in losses.attributes() {
        attributes.write(&key, Value::U64(spans));
    }
    attributes.close();
    object.close();
}

pub(in super::super) fn span(out: &mut Vec<u8>, span: &SpanView<'_>) {
    let identity = &span.identity;
    let trace_id = identity.ids.trace_id;
    let start_ns = span.start_ns;
    let mut object = Object::open(out);
    object.id("traceId", Some(trace_id.high()), trace_id.low());
    object.id("spanId", None, identity.ids.span_id.get());
    if !span.record.trace_state.is_empty() {
        object.string("traceState", span.record.trace_state);
    }
    if let Some(parent) = identity.parent_id {
        object.id("parentSpanId", None, parent.get());
    }
    object.number("flags", span_flags(span).into());
    match span.name_field() {
        Some(name) => object.string("name", &name),
        None => object.key("name").extend_from_slice(span.encoded.name.as_bytes()),
    }
    object.number("kind", span.kind() as u64);
    object.number_text("startTimeUnixNano", start_ns);
    object.number_text("endTimeUnixNano", start_ns + span.elapsed.duration_ns);
    let mut attributes = Attributes::open(object.key("attributes"));
    span.field_attributes(&mut |attribute| attributes.write_field(span, attribute));
    if span.is_plain() {
        attributes.members(&span.encoded.otlp);
    } else {
        span.fixed_attributes(&mut |attribute| attributes.write_any(attribute));
    }
    span.own_attributes(&mut |attribute| attributes.write_any(attribute));
    attributes.close();
    if !span.record.events.is_empty() {
        array(object.key("events"), span.events(), |out, event| {
            let mut object = Object::open(out);
            object.number_text("timeUnixNano", event.at_ns);
            object.string("name", &event.name());
            let mut attributes = Attributes::open(object.key("attributes"));
            event.attributes(span.vocabulary, &mut |attribute| attributes.write_any(attribute));
            attributes.close();
            object.close();
        });
    }
    if !span.record.links.is_empty() {
        array(object.key("links"), span.links(), |out, link| {
            let mut object = Object::open(out);
            object.id("traceId", Some(link.ids.trace_id.high()), link.ids.trace_id.low());
            object.id("spanId", None, link.ids.span_id.get());
            if !link.trace_state.is_empty() {
                object.string("traceState", link.trace_state);
            }
            object.number("flags", link_flags(&link).into());
            object.close();
        });
    }
    let dropped = span.record.dropped;
    for (key, count) in [
        ("droppedAttributesCount", dropped.fields.attributes),
        ("droppedEventsCount", dropped.events),
        ("droppedLinksCount", dropped.links),
    ] {
        if count > 0 {
            object.number(key, count.into());
        }
    }
    match span.status() {
        Status::Unset => {}
        Status::Ok => status(&mut object, 1, ""),
        Status::Error(description) | Status::ErrorField(description) => status(&mut object, 2, &description),
    }
    object.close();
}

fn status(object: &mut Object<'_>, code: u64, message: &str) {
    let mut status = Object::open(object.key("status"));
    if !message.is_empty() {
        status.string("message", message);
    }
    status.number("code", code);
    status.close();
}

/// Encodes attributes as the elements of a list, without its brackets.
pub(in super::super) fn members<'a>(write: impl FnOnce(&mut dyn FnMut(Attribute<'a>))) -> String {
    let mut out = Vec::new();
    let mut attributes = Attributes::open(&mut out);
    write(&mut |attribute| attributes.write_any(attribute));
    // Drops the bracket that `open` wrote.
    String::from_utf8(out.split_off(1)).unwrap_or_default()
}

/// A list of `KeyValue`s being written.
struct Attributes<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Attributes<'a> {
    fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'[');
        Self { out, first: true }
    }

    /// Writes an attribute of the span. A field of the callsite has its name encoded already.
    fn write_field(&mut self, span: &SpanView<'_>, attribute: Attribute<'_>) {
        let known = match &attribute {
            Attribute::Field(field) => match field.key {
                Key::Index(index) => span.callsite.fields().get(usize::from(index)),
                Key::Name(_) => None,
            },
            _ => None,
        };
        match (known, attribute) {
            (Some(known), Attribute::Field(field)) => {
                self.pair(|out| out.extend_from_slice(known.json.as_bytes()), field.value);
            }
            (_, attribute) => self.write_any(attribute),
        }
    }

    fn write_any(&mut self, attribute: Attribute<'_>) {
        match attribute {
            Attribute::Field(field) => self.write(field.name, field.value),
            Attribute::Text(key, text) => self.write(key, Value::Text(text)),
            Attribute::Number(key, number) => self.write(key, Value::U64(number)),
            Attribute::Flag(key) => self.write(key, Value::Bool(true)),
        }
    }

    fn write(&mut self, key: &str, value: Value<'_>) {
        self.pair(|out| string(out, key), value);
    }

    fn pair(&mut self, key: impl FnOnce(&mut Vec<u8>), value: Value<'_>) {
        self.comma();
        self.out.extend_from_slice(b"{\"key\":");
        key(self.out);
        self.out.extend_from_slice(b",\"value\":");
        any_value(self.out, value);
        self.out.push(b'}');
    }

    fn members(&mut self, members: &str) {
        if !members.is_empty() {
            self.comma();
            self.out.extend_from_slice(members.as_bytes());
        }
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
    }

    fn close(self) {
        self.out.push(b']');
    }
}

fn any_value(out: &mut Vec<u8>, any: Value<'_>) {
    let mut object = Object::open(out);
    match AnyValue::from(any) {
        AnyValue::Integer(n) if n >= 0 => object.number_text("intValue", n as u64),
        AnyValue::Integer(n) => object.string("intValue", &n.to_string()),
        AnyValue::Double(_) => value(object.key("doubleValue"), any),
        AnyValue::Bool(is_true) => scalar!(object.key("boolValue"), &is_true),
        AnyValue::List(items) => {
            let mut list = Object::open(object.key("arrayValue"));
            array(list.key("values"), items, |out, item| {
                let mut object = Object::open(out);
                object.string("stringValue", item);
                object.close();
            });
            list.close();
        }
        AnyValue::Text(text) => object.string("stringValue", &text),
    }
    object.close();
}
