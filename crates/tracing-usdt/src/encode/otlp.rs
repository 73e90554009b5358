//! OTLP/JSON: an `ExportTraceServiceRequest` to a datagram, ready to POST to `/v1/traces`.
//!
//! The [JSON encoding](https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding) is
//! protobuf's but for the ids, which are hex: 64-bit integers are strings, enums are numbers.

use super::Losses;
use super::json::{Object, array, value_text};
use super::span::{Attribute, Span, Status};
use crate::fields::Value;
use crate::resource::Resource;

/// The datagram that holds this one span.
pub(super) fn datagram(span: &Span<'_>, resource: &Resource) -> Vec<u8> {
    request(resource, |out| write_span(out, span))
}

/// The datagram that tells of losses.
pub(super) fn losses(losses: &Losses<'_>, resource: &Resource) -> Vec<u8> {
    request(resource, |out| {
        let mut object = Object::open(out);
        object.string("traceId", &losses.context.trace_id.to_string());
        object.string("spanId", &losses.context.span_id.to_string());
        object.string("name", Losses::NAME);
        object.number("kind", 1);
        object.string("startTimeUnixNano", &losses.start_ns.to_string());
        object.string("endTimeUnixNano", &losses.end_ns.max(losses.start_ns + 1).to_string());
        let mut attributes = Attributes::open(object.key("attributes"));
        for (key, spans) in losses.attributes() {
            attributes.write(&key, Attribute::Number(spans));
        }
        attributes.close();
        object.close();
    })
}

fn request(resource: &Resource, write_span: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let mut request = Object::open(&mut out);
    array(request.key("resourceSpans"), [write_span], |out, write_span| {
        let mut spans = Object::open(out);
        let mut who = Object::open(spans.key("resource"));
        let mut attributes = Attributes::open(who.key("attributes"));
        attributes.write("service.name", Attribute::Text(resource.service_name()));
        for (key, value) in resource.attributes() {
            attributes.write(key, Attribute::Text(value));
        }
        attributes.close();
        who.close();
        array(spans.key("scopeSpans"), [write_span], |out, write_span| {
            let mut spans = Object::open(out);
            let mut scope = Object::open(spans.key("scope"));
            scope.string("name", env!("CARGO_PKG_NAME"));
            scope.string("version", env!("CARGO_PKG_VERSION"));
            scope.close();
            array(spans.key("spans"), [write_span], |out, write_span| write_span(out));
            spans.close();
        });
        spans.close();
    });
    request.close();
    out
}

fn write_span(out: &mut Vec<u8>, span: &Span<'_>) {
    let (record, identity) = (span.record, span.identity);
    let start_ns = identity.wall.nanos(span.start);
    let mut object = Object::open(out);
    object.string("traceId", &identity.context.trace_id.to_string());
    object.string("spanId", &identity.context.span_id.to_string());
    if let Some(parent) = identity.parent_id {
        object.string("parentSpanId", &parent.to_string());
    }
    object.string("name", &span.name());
    object.number("kind", span.kind() as u64);
    object.string("startTimeUnixNano", &start_ns.to_string());
    object.string("endTimeUnixNano", &(start_ns + span.elapsed.duration_ns).to_string());
    let mut attributes = Attributes::open(object.key("attributes"));
    span.attributes(|key, attribute| attributes.write(key, attribute));
    attributes.close();
    if !record.events().is_empty() {
        array(object.key("events"), record.events(), |out, event| {
            let mut object = Object::open(out);
            object.string("timeUnixNano", &identity.wall.nanos(event.at).to_string());
            object.string("name", &event.name);
            let mut attributes = Attributes::open(object.key("attributes"));
            event.attributes(|key, attribute| attributes.write(key, attribute));
            attributes.close();
            object.close();
        });
    }
    if !record.links().is_empty() {
        array(object.key("links"), record.links(), |out, link| {
            let mut object = Object::open(out);
            object.string("traceId", &link.trace_id.to_string());
            object.string("spanId", &link.span_id.to_string());
            object.close();
        });
    }
    let left_out = record.left_out;
    for (key, count) in [
        ("droppedAttributesCount", left_out.attributes),
        ("droppedEventsCount", left_out.events),
        ("droppedLinksCount", left_out.links),
    ] {
        if count > 0 {
            object.number(key, count.into());
        }
    }
    match span.status() {
        Status::Unset => {}
        Status::Ok => status(&mut object, 1, ""),
        Status::Error(description) => status(&mut object, 2, &description),
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

    fn write(&mut self, key: &str, attribute: Attribute<'_>) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        let mut pair = Object::open(self.out);
        pair.string("key", key);
        let mut value = Object::open(pair.key("value"));
        match attribute {
            Attribute::Text(text) => value.string("stringValue", text),
            Attribute::Number(number) => any_value(&mut value, &Value::U64(number)),
            Attribute::Field(field) => any_value(&mut value, field),
        }
        value.close();
        pair.close();
    }

    fn close(self) {
        self.out.push(b']');
    }
}

/// `AnyValue` has integers of 64 bits with a sign; greater ones are strings.
fn any_value(object: &mut Object<'_>, value: &Value) {
    let integer = match value {
        Value::I64(n) => Some(*n),
        Value::U64(n) => i64::try_from(*n).ok(),
        Value::I128(n) => i64::try_from(*n).ok(),
        Value::U128(n) => i64::try_from(*n).ok(),
        _ => None,
    };
    match (integer, value) {
        (Some(n), _) => object.string("intValue", &n.to_string()),
        (_, Value::F64(_)) => super::json::value(object.key("doubleValue"), value),
        (_, Value::Bool(_)) => super::json::value(object.key("boolValue"), value),
        (_, Value::List(items)) => {
            let mut list = Object::open(object.key("arrayValue"));
            array(list.key("values"), items, |out, item| {
                let mut object = Object::open(out);
                object.string("stringValue", item);
                object.close();
            });
            list.close();
        }
        _ => object.string("stringValue", &value_text(value)),
    }
}
