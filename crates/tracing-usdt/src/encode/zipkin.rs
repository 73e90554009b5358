//! Zipkin v2 spans, a JSON array of them to a datagram, ready to POST to `/api/v2/spans`.
//!
//! Status, dropped counts and event attributes are mapped as OpenTelemetry's
//! [transformation to Zipkin](https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/) says.

use std::net::IpAddr;

use super::json::{Object, array, number_text, string, value, value_as_string, value_text};
use super::span::{Attribute, Kind, OURS, Status, Telling};
use super::{Losses, Sequence};
use crate::fields::{Key, Value};
use crate::resource::Resource;
use crate::span::Event;
use crate::vocabulary::Vocabulary;

/// Before the spans of a datagram.
pub(super) const OPEN: &[u8] = b"[";

/// Behind them. A Zipkin datagram is a list, which has no members of its own: the sequence is a member of the last span.
pub(super) fn close(out: &mut Vec<u8>, sequence: Option<&Sequence>) {
    if let (Some(sequence), Some(b'}')) = (sequence, out.last()) {
        out.pop();
        sequence.write_member(out);
        out.push(b'}');
    }
    out.push(b']');
}

/// The span that tells of losses.
pub(super) fn losses(out: &mut Vec<u8>, losses: &Losses<'_>, local_endpoint: &[u8]) {
    let (start_us, end_us) = (losses.start_ns / 1000, losses.end_ns / 1000);
    let trace_id = losses.context.trace_id;
    let mut object = Object::open(out);
    object.id("traceId", Some(trace_id.high()), trace_id.low());
    object.id("id", None, losses.context.span_id.get());
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

pub(super) fn span(out: &mut Vec<u8>, span: &Telling<'_>, resource: &Resource, local_endpoint: &[u8]) {
    let identity = &span.identity;
    let trace_id = identity.context.trace_id;
    let mut object = Object::open(out);
    object.id("traceId", Some(trace_id.high()), trace_id.low());
    object.id("id", None, identity.context.span_id.get());
    if let Some(parent) = identity.parent_id {
        object.id("parentId", None, parent.get());
    }
    // Zipkin knows no internal kind: it leaves it out.
    let kind = span.kind();
    if kind != Kind::Internal {
        object.string("kind", kind.name());
    }
    match span.given_name() {
        Some(name) => object.string("name", &name),
        None => object.key("name").extend_from_slice(span.callsite.fixed.name.as_bytes()),
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
        if span.is_plain() || !leaves_out(&attribute, &status) {
            tag(&mut tags, span, attribute);
        }
    });
    if span.is_plain() {
        tags.members(&span.callsite.fixed.zipkin);
    } else {
        span.fixed_attributes(&mut |attribute| tag(&mut tags, span, attribute));
    }
    span.own_attributes(&mut |attribute| tag(&mut tags, span, attribute));
    write_tags(&mut tags, span, &status);
    for (key, value) in resource.attributes() {
        if !OURS.contains(&key) && !TAGS.contains(&key) && !span.has_field(key) {
            string(tags.any_key(key), value);
        }
    }
    tags.close();
    object.close();
}

/// Whether a field `error` is no tag. Zipkin takes any span with a tag `error` as failed, whatever the tag's value;
/// and of a `true`, the status knows more.
fn leaves_out(attribute: &Attribute<'_>, status: &Status<'_>) -> bool {
    let Attribute::Field(field) = attribute else { return false };
    field.name == "error" && (field.value.denies_error() || is_less_than(&value_text(field.value), status))
}

fn is_less_than(error: &str, status: &Status<'_>) -> bool {
    error == "true" && matches!(status, Status::Error(description) if !description.is_empty())
}

fn tag(tags: &mut Object<'_>, span: &Telling<'_>, attribute: Attribute<'_>) {
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

/// The members that attributes make.
pub(super) fn members<'a>(write: impl FnOnce(&mut dyn FnMut(Attribute<'a>))) -> String {
    let mut out = Vec::new();
    let mut object = Object::open(&mut out);
    write(&mut |attribute| match attribute {
        Attribute::Field(_) => {}
        Attribute::Text(key, text) => object.string(key, text),
        Attribute::Number(key, number) => object.number_text(key, number),
        Attribute::Flag(key) => object.string(key, "true"),
    });
    // Without the brace that `open` wrote.
    String::from_utf8(out.split_off(1)).unwrap_or_default()
}

/// What is no attribute in OpenTelemetry, but is a tag in Zipkin.
pub(super) const TAGS: [&str; 6] = [
    "otel.status_code",
    "error",
    "follows_from",
    "otel.dropped_attributes_count",
    "otel.dropped_events_count",
    "otel.dropped_links_count",
];

fn write_tags(tags: &mut Object<'_>, span: &Telling<'_>, status: &Status<'_>) {
    let said = |key: &str| !span.is_plain() && span.has_field(key);
    let (code, error) = match status {
        // Its tag is all that Zipkin needs.
        Status::Unset | Status::ErrorField(_) => (None, None),
        Status::Ok => (Some("OK"), None),
        Status::Error(description) => (Some("ERROR"), Some(description)),
    };
    if let Some(code) = code.filter(|_| !said("otel.status_code")) {
        tags.string("otel.status_code", code);
    }
    let is_tagged = || span.error_field().is_some_and(|text| !is_less_than(&text, status));
    if let Some(error) = error.filter(|_| !is_tagged()) {
        tags.string("error", error);
    }
    if !span.record.links.is_empty() && !said("follows_from") {
        let links: Vec<String> =
            span.links().map(|link| format!("{}-{}", link.ids.trace_id, link.ids.span_id)).collect();
        tags.string("follows_from", &links.join(","));
    }
    let left_out = span.record.left_out;
    for (key, count) in [
        ("otel.dropped_attributes_count", left_out.fields.attributes),
        ("otel.dropped_events_count", left_out.events),
        ("otel.dropped_links_count", left_out.links),
    ] {
        if count > 0 && !said(key) {
            tags.number_text(key, count.into());
        }
    }
}

/// Who sends, the same in each span.
pub(super) fn local_endpoint(resource: &Resource) -> Vec<u8> {
    let mut out = Vec::new();
    let mut endpoint = Object::open(&mut out);
    endpoint.string("serviceName", resource.service_name());
    endpoint.close();
    out
}

/// Whom a client or a producer speaks to, by the first attribute that says so, in the order of OpenTelemetry's
/// transformation; and its address.
fn remote_endpoint(object: &mut Object<'_>, span: &Telling<'_>) {
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

/// `"name": {attributes}`, the attributes with their JSON types.
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
