//! Zipkin v2 spans, a JSON array of them to a datagram, ready to POST to `/api/v2/spans`.
//!
//! Status, dropped counts and event attributes are mapped as OpenTelemetry's
//! [transformation to Zipkin](https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/) says.

use super::Losses;
use super::json::{Object, array, string, value, value_text};
use super::span::{Attribute, Kind, OURS, Span, Status};
use crate::clock::WallOffset;
use crate::resource::Resource;
use crate::span::Event;

/// The datagram that holds this one span.
pub(super) fn datagram(span: &Span<'_>, resource: &Resource) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    array(&mut out, [span], |out, span| write_span(out, span, resource));
    out
}

/// The datagram that tells of losses.
pub(super) fn losses(losses: &Losses<'_>, resource: &Resource) -> Vec<u8> {
    let mut out = Vec::new();
    array(&mut out, [losses], |out, losses| {
        let (start_us, end_us) = (losses.start_ns / 1000, losses.end_ns / 1000);
        let mut object = Object::open(out);
        object.string("traceId", &losses.context.trace_id.to_string());
        object.string("id", &losses.context.span_id.to_string());
        object.string("name", Losses::NAME);
        object.number("timestamp", start_us);
        object.number("duration", end_us.saturating_sub(start_us).max(1));
        local_endpoint(&mut object, resource);
        let mut tags = Object::open(object.key("tags"));
        for (key, spans) in losses.attributes() {
            tags.string(&key, &spans.to_string());
        }
        tags.close();
        object.close();
    });
    out
}

fn write_span(out: &mut Vec<u8>, span: &Span<'_>, resource: &Resource) {
    let (record, identity) = (span.record, span.identity);
    let mut object = Object::open(out);
    object.string("traceId", &identity.context.trace_id.to_string());
    object.string("id", &identity.context.span_id.to_string());
    if let Some(parent) = identity.parent_id {
        object.string("parentId", &parent.to_string());
    }
    // Zipkin knows no internal kind: it leaves it out.
    if span.kind() != Kind::Internal {
        object.string("kind", span.kind().name());
    }
    object.string("name", &span.name());
    object.number("timestamp", identity.wall.micros(span.start));
    object.number("duration", (span.elapsed.duration_ns / 1000).max(1));
    local_endpoint(&mut object, resource);
    if !record.events().is_empty() {
        array(object.key("annotations"), record.events(), |out, event| {
            annotation(out, event, identity.wall);
        });
    }
    let mut tags = Object::open(object.key("tags"));
    span.attributes(|key, attribute| match attribute {
        Attribute::Field(value) => tags.string(key, &value_text(value)),
        Attribute::Text(text) => tags.string(key, text),
        Attribute::Number(number) => tags.string(key, &number.to_string()),
    });
    write_tags(&mut tags, span, resource);
    tags.close();
    object.close();
}

/// What is no attribute in OpenTelemetry, but is a tag in Zipkin.
const TAGS: [&str; 6] = [
    "otel.status_code",
    "error",
    "follows_from",
    "otel.dropped_attributes_count",
    "otel.dropped_events_count",
    "otel.dropped_links_count",
];

fn write_tags(tags: &mut Object<'_>, span: &Span<'_>, resource: &Resource) {
    let (status, error) = match span.status() {
        Status::Unset => (None, None),
        Status::Ok => (Some("OK".to_owned()), None),
        Status::Error(description) => (Some("ERROR".to_owned()), Some(description)),
    };
    let links: Vec<String> =
        span.record.links().iter().map(|link| format!("{}-{}", link.trace_id, link.span_id)).collect();
    let count = |count: u32| (count > 0).then(|| count.to_string());
    let left_out = span.record.left_out;
    let values = [
        status,
        error,
        (!links.is_empty()).then(|| links.join(",")),
        count(left_out.attributes),
        count(left_out.events),
        count(left_out.links),
    ];
    for (key, value) in TAGS.into_iter().zip(values) {
        if let Some(value) = value.filter(|_| !span.has_field(key)) {
            tags.string(key, &value);
        }
    }
    for (key, value) in resource.attributes() {
        if !OURS.contains(&key) && !TAGS.contains(&key) && !span.has_field(key) {
            tags.string(key, value);
        }
    }
}

fn local_endpoint(object: &mut Object<'_>, resource: &Resource) {
    let mut endpoint = Object::open(object.key("localEndpoint"));
    endpoint.string("serviceName", resource.service_name());
    endpoint.close();
}

/// `"name": {attributes}`, the attributes with their JSON types.
fn annotation(out: &mut Vec<u8>, event: &Event, wall: WallOffset) {
    let mut text = Vec::new();
    string(&mut text, &event.name);
    text.extend_from_slice(b": ");
    let mut attributes = Object::open(&mut text);
    event.attributes(|key, attribute| match attribute {
        Attribute::Field(field) => value(attributes.key(key), field),
        Attribute::Text(text) => attributes.string(key, text),
        Attribute::Number(number) => attributes.number(key, number),
    });
    attributes.close();

    let mut object = Object::open(out);
    object.number("timestamp", wall.micros(event.at));
    object.string("value", &String::from_utf8_lossy(&text));
    object.close();
}
