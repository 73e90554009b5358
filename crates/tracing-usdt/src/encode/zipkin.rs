//! Zipkin: a datagram is one JSON array of v2 spans, which can be POSTed to `/api/v2/spans`.
//!
//! Status, dropped counts and event attributes follow OpenTelemetry's
//! [transformation to Zipkin](https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/).

use std::net::IpAddr;

use super::losses::Losses;
use super::resource::Resource;
use super::sequence::Sequence;
use super::span::{Attribute, Kind, SpanView, Status};
use super::value::{value, value_as_string, value_text};
use crate::callsite::Key;
use crate::fields::{LAYER_ATTRIBUTES, Value, Vocabulary, ZIPKIN_TAGS};
use crate::json::{Object, array, number_text, string};
use crate::span::Event;

/// The beginning of a datagram, before its spans.
pub(super) const OPEN: &[u8] = b"[";

/// The end of a datagram, behind its spans. A list has no members, so the sequence becomes a member of the
/// last span.
pub(super) fn close(out: &mut Vec<u8>, sequence: Option<&Sequence>) {
    if let (Some(sequence), Some(b'}')) = (sequence, out.last()) {
        out.pop();
        sequence.write_member(out);
        out.push(b'}');
    }
    out.push(b']');
}

/// The span that reports losses.
pub(super) fn losses(out: &mut Vec<u8>, losses: &Losses<'_>, local_endpoint: &[u8]) {
    let (start_us, end_us) = (losses.start_ns / 1000, losses.end_ns / 1000);
    let trace_id = losses.ids.trace_id;
    let mut object = Object::open(out);
    object.id("traceId", Some(trace_id.high()), trace_id.low());
    object.id("id", None, losses.ids.span_id.get());
    object.string("name", Losses::NAME);
    object.number("timestamp", start_us);
    object.number("duration", end_us.saturating_sub(start_us).max(1));
    object.key("localEndpoint").extend_from_slice(local_endpoint);
    let mut tags = Object::open(object.key("tags"));
    for (key, spans) in losses.attributes() {
        number_text(tags.any_key(&key), spans);
    }
    tags.close();
    object.close();
}

pub(super) fn span(out: &mut Vec<u8>, span: &SpanView<'_>, resource: &Resource, local_endpoint: &[u8]) {
    let identity = &span.identity;
    let trace_id = identity.ids.trace_id;
    let mut object = Object::open(out);
    object.id("traceId", Some(trace_id.high()), trace_id.low());
    object.id("id", None, identity.ids.span_id.get());
    if let Some(parent) = identity.parent_id {
        object.id("parentId", None, parent.get());
    }
    // Zipkin has no internal kind.
    let kind = span.kind();
    if kind != Kind::Internal {
        object.string("kind", kind.name());
    }
    match span.name_field() {
        Some(name) => object.string("name", &name),
        None => object.key("name").extend_from_slice(span.encoded.name.as_bytes()),
    }
    object.number("timestamp", span.start_ns / 1000);
    object.number("duration", (span.elapsed.duration_ns / 1000).max(1));
    object.key("localEndpoint").extend_from_slice(local_endpoint);
    if matches!(kind, Kind::Client | Kind::Producer) {
        remote_endpoint(&mut object, span);
    }
    if !span.record.events.is_empty() {
        array(object.key("annotations"), span.events(), |out, event| {
            annotation(out, &event, span.vocabulary);
        });
    }
    let mut tags = Object::open(object.key("tags"));
    let status = span.status();
    span.field_attributes(&mut |attribute| {
        if span.is_plain() || !is_omitted(&attribute, &status) {
            tag(&mut tags, span, attribute);
        }
    });
    if span.is_plain() {
        tags.members(&span.encoded.zipkin);
    } else {
        span.fixed_attributes(&mut |attribute| tag(&mut tags, span, attribute));
    }
    span.own_attributes(&mut |attribute| tag(&mut tags, span, attribute));
    write_tags(&mut tags, span, &status);
    for (key, value) in resource.attributes() {
        if !LAYER_ATTRIBUTES.contains(&key) && !ZIPKIN_TAGS.contains(&key) && !span.has_field(key) {
            string(tags.any_key(key), value);
        }
    }
    tags.close();
    object.close();
}

/// Whether to omit a field `error` from the tags. Zipkin shows any span with a tag `error` as failed,
/// whatever its value, so a value that denies an error must not become one. A `true` is omitted in favour of
/// the status's description.
fn is_omitted(attribute: &Attribute<'_>, status: &Status<'_>) -> bool {
    let Attribute::Field(field) = attribute else { return false };
    field.name == "error" && (field.value.means_no_error() || is_redundant(&value_text(field.value), status))
}

/// Whether the field's text is just `true` while the status has a description.
fn is_redundant(error: &str, status: &Status<'_>) -> bool {
    error == "true" && matches!(status, Status::Error(description) if !description.is_empty())
}

fn tag(tags: &mut Object<'_>, span: &SpanView<'_>, attribute: Attribute<'_>) {
    match attribute {
        Attribute::Field(field) => {
            let json = match field.key {
                Key::Index(index) => span.callsite.fields().get(usize::from(index)),
                Key::Name(_) => None,
            };
            let out = match json {
                Some(known) => tags.json_key(&known.json),
                None => tags.any_key(field.name),
            };
            value_as_string(out, field.value);
        }
        Attribute::Text(key, text) => tags.string(key, text),
        Attribute::Number(key, number) => tags.number_text(key, number),
        Attribute::Flag(key) => tags.string(key, "true"),
    }
}

/// Encodes attributes as the members of an object, without its braces.
pub(super) fn members<'a>(write: impl FnOnce(&mut dyn FnMut(Attribute<'a>))) -> String {
    let mut out = Vec::new();
    let mut object = Object::open(&mut out);
    write(&mut |attribute| match attribute {
        Attribute::Field(_) => {}
        Attribute::Text(key, text) => object.string(key, text),
        Attribute::Number(key, number) => object.number_text(key, number),
        Attribute::Flag(key) => object.string(key, "true"),
    });
    // Drops the brace that `open` wrote.
    String::from_utf8(out.split_off(1)).unwrap_or_default()
}

fn write_tags(tags: &mut Object<'_>, span: &SpanView<'_>, status: &Status<'_>) {
    let has_field = |key: &str| !span.is_plain() && span.has_field(key);
    let (code, error) = match status {
        // The tag `error` of the field is all that Zipkin needs.
        Status::Unset | Status::ErrorField(_) => (None, None),
        Status::Ok => (Some("OK"), None),
        Status::Error(description) => (Some("ERROR"), Some(description)),
    };
    if let Some(code) = code.filter(|_| !has_field("otel.status_code")) {
        tags.string("otel.status_code", code);
    }
    let is_tagged = || span.error_field().is_some_and(|text| !is_redundant(&text, status));
    if let Some(error) = error.filter(|_| !is_tagged()) {
        tags.string("error", error);
    }
    if !span.record.links.is_empty() && !has_field("follows_from") {
        let links: Vec<String> =
            span.links().map(|link| format!("{}-{}", link.ids.trace_id, link.ids.span_id)).collect();
        tags.string("follows_from", &links.join(","));
    }
    let dropped = span.record.dropped;
    for (key, count) in [
        ("otel.dropped_attributes_count", dropped.fields.attributes),
        ("otel.dropped_events_count", dropped.events),
        ("otel.dropped_links_count", dropped.links),
    ] {
        if count > 0 && !has_field(key) {
            tags.number_text(key, count.into());
        }
    }
}

/// Encodes Zipkin's `localEndpoint`, which is the same in each span.
pub(super) fn local_endpoint(resource: &Resource) -> Vec<u8> {
    let mut out = Vec::new();
    let mut endpoint = Object::open(&mut out);
    endpoint.string("serviceName", resource.service_name());
    endpoint.close();
    out
}

/// Writes `remoteEndpoint`, the peer of a client or a producer. Its name is from the first of the attributes
/// below that is set, in the order of OpenTelemetry's transformation.
fn remote_endpoint(object: &mut Object<'_>, span: &SpanView<'_>) {
    let fields = span.fields();
    let text = |key: &str| fields.get(key).map(value_text).filter(|text| !text.is_empty());
    let names = [
        "peer.service",
        "server.address",
        "net.peer.name",
        "network.peer.address",
        "server.socket.domain",
        "server.socket.address",
        "net.sock.peer.name",
        "net.sock.peer.addr",
        "peer.hostname",
        "peer.address",
        "db.name",
    ];
    let Some(name) = names.into_iter().find_map(text) else { return };
    let addresses = [
        ("network.peer.address", "network.peer.port"),
        ("server.socket.address", "server.socket.port"),
        ("net.sock.peer.addr", "net.sock.peer.port"),
        ("server.address", "server.port"),
        ("net.peer.name", "net.peer.port"),
        ("peer.address", "peer.port"),
    ];
    let found = addresses.into_iter().find_map(|(address, port)| Some((text(address)?, text(port))));
    let (address, port) = found.unzip();
    let address = address.and_then(|address| address.parse::<IpAddr>().ok());
    let port = port.flatten().and_then(|port| port.parse::<u16>().ok());
    let mut endpoint = Object::open(object.key("remoteEndpoint"));
    endpoint.string("serviceName", &name);
    match address {
        Some(IpAddr::V4(address)) => endpoint.string("ipv4", &address.to_string()),
        Some(IpAddr::V6(address)) => endpoint.string("ipv6", &address.to_string()),
        None => {}
    }
    if let Some(port) = port {
        endpoint.number("port", port.into());
    }
    endpoint.close();
}

/// Writes an event, with the value `"name": {attributes}`, in which attributes keep their JSON types.
fn annotation(out: &mut Vec<u8>, event: &Event<'_>, vocabulary: &Vocabulary) {
    let mut text = Vec::new();
    string(&mut text, &event.name());
    text.extend_from_slice(b": ");
    let mut attributes = Object::open(&mut text);
    event.attributes(vocabulary, &mut |attribute| match attribute {
        Attribute::Field(field) => value(attributes.any_key(field.name), field.value),
        Attribute::Text(key, text) => attributes.string(key, text),
        Attribute::Number(key, number) => attributes.number(key, number),
        Attribute::Flag(key) => value(attributes.any_key(key), Value::Bool(true)),
    });
    attributes.close();

    let mut object = Object::open(out);
    object.number("timestamp", event.at_ns / 1000);
    object.string("value", &String::from_utf8_lossy(&text));
    object.close();
}
