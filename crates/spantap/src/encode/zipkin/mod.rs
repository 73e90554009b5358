//! Converts spans to Zipkin's format, by the OpenTelemetry specification: "OpenTelemetry to Zipkin Transformation" and
//! "OpenTelemetry Transformation to non-OTLP Formats".
//!
//! Where these leave a choice, this follows OpenTelemetry's exporters: the resource's attributes are tags, and all links
//! are one tag.
//!
//! The halves of a shared span and their children are sent with their original ids.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use serde::Serialize;

use crate::span::attributes::{denies_error, find_text, value};
use crate::span::zipkin::{ZIPKIN_ID, ZIPKIN_PARENT_ID};

/// A span of Zipkin. Unknown fields are left out, as the specification requires ("Request Payload").
#[derive(Serialize, Default, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ZipkinSpan {
    trace_id: String,
    id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    parent_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    timestamp: u64,
    duration: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shared: bool,
    local_endpoint: Endpoint,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

#[derive(Serialize, Clone, Default, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(skip_serializing_if = "String::is_empty")]
    service_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv4: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

#[derive(Serialize, PartialEq, Debug)]
struct Annotation {
    timestamp: u64,
    value: String,
}

/// Converts all spans of a process.
pub(crate) fn all_of(resource: &ResourceSpans) -> Vec<ZipkinSpan> {
    let attributes = resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
    let mut tags = BTreeMap::new();
    add(&mut tags, attributes.iter().filter(|attribute| attribute.key != "service.name"));
    // The default of the resource's specification for a process without a service name.
    let service_name = text_of(attributes, "service.name").unwrap_or_else(|| "unknown_service".into());
    let local = Endpoint { service_name, ..Endpoint::default() };
    let mut spans = Vec::new();
    for scope in &resource.scope_spans {
        let mut tags = tags.clone();
        add_scope(&mut tags, scope.scope.as_ref());
        spans.extend(scope.spans.iter().map(|span| zipkin_span(span, &local, tags.clone())));
    }
    spans
}

fn add_scope(tags: &mut BTreeMap<String, String>, scope: Option<&InstrumentationScope>) {
    let Some(scope) = scope else { return };
    for (key, value) in [("otel.scope.name", &scope.name), ("otel.scope.version", &scope.version)] {
        if !value.is_empty() {
            tags.insert(key.into(), value.clone());
        }
    }
}

fn zipkin_span(span: &Span, local: &Endpoint, mut tags: BTreeMap<String, String>) -> ZipkinSpan {
    // The span's attributes replace those of the resource, which are in `tags` already.
    add(&mut tags, &span.attributes);
    add_status(&mut tags, span);
    add_dropped(&mut tags, span);
    if !span.links.is_empty() {
        let link =
            |trace: &[u8], span: &[u8]| format!("{}-{}", const_hex::encode(trace), const_hex::encode(span));
        let links: Vec<String> = span.links.iter().map(|to| link(&to.trace_id, &to.span_id)).collect();
        tags.insert("follows_from".into(), links.join(","));
    }
    let (id, parent_id, shared) = ids(span, &mut tags);
    let nanoseconds = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
    ZipkinSpan {
        trace_id: const_hex::encode(&span.trace_id),
        id,
        parent_id,
        name: span.name.clone(),
        kind: kind(span),
        timestamp: span.start_time_unix_nano / 1_000,
        // In Zipkin, a duration of 0 means that it is not known.
        duration: (nanoseconds / 1_000).max(1),
        shared,
        local_endpoint: local.clone(),
        remote_endpoint: remote_endpoint(span),
        annotations: span.events.iter().map(annotation).collect(),
        tags,
    }
}

/// The ids that the span and its parent were sent with, and whether the span shares its id with a client's. Reads only the
/// span's own attributes: the resource may have attributes with the same keys.
fn ids(span: &Span, tags: &mut BTreeMap<String, String>) -> (String, String, bool) {
    let is_id = |id: &&str| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut sent = |key: &str| {
        let id = find_text(&span.attributes, key).filter(is_id)?.to_owned();
        tags.remove(key);
        Some(id)
    };
    let (own, parent) = (sent(ZIPKIN_ID), sent(ZIPKIN_PARENT_ID));
    let parent_id = parent.unwrap_or_else(|| const_hex::encode(&span.parent_span_id));
    match own {
        None => (const_hex::encode(&span.span_id), parent_id, false),
        // The parent is the other half, and that is a root.
        Some(id) if id == parent_id => (id, String::new(), true),
        Some(id) => (id, parent_id, span.kind() != SpanKind::Client),
    }
}

fn kind(span: &Span) -> Option<&'static str> {
    match span.kind() {
        SpanKind::Server => Some("SERVER"),
        SpanKind::Client => Some("CLIENT"),
        SpanKind::Producer => Some("PRODUCER"),
        SpanKind::Consumer => Some("CONSUMER"),
        SpanKind::Internal | SpanKind::Unspecified => None,
    }
}

fn add_status(tags: &mut BTreeMap<String, String>, span: &Span) {
    let status = span.status.clone().unwrap_or_default();
    // For Zipkin, any span with this tag has failed, even if the attribute is null.
    let is_null = |attribute: &KeyValue| attribute.key == "error" && value(attribute).is_none();
    if span.attributes.iter().any(is_null) || tags.get("error").is_some_and(|error| denies_error(error)) {
        tags.remove("error");
    }
    match status.code() {
        StatusCode::Unset => {}
        StatusCode::Ok => {
            tags.insert("otel.status_code".into(), "OK".into());
        }
        StatusCode::Error => {
            tags.insert("otel.status_code".into(), "ERROR".into());
            tags.insert("error".into(), status.message);
        }
    }
}

fn add_dropped(tags: &mut BTreeMap<String, String>, span: &Span) {
    for (key, count) in [
        ("otel.dropped_attributes_count", span.dropped_attributes_count),
        ("otel.dropped_events_count", span.dropped_events_count),
        ("otel.dropped_links_count", span.dropped_links_count),
    ] {
        if count > 0 {
            tags.insert(key.into(), count.to_string());
        }
    }
}

/// "Remote endpoint": the first attribute that is set, in the order of the specification. For a server, the server's
/// address is not remote.
fn remote_endpoint(span: &Span) -> Option<Endpoint> {
    if let Some(service_name) = text_of(&span.attributes, "peer.service") {
        return Some(Endpoint { service_name, ..Endpoint::default() });
    }
    let server = ("server.address", "server.port");
    let peer = ("network.peer.address", "network.peer.port");
    let ranked = if span.kind() == SpanKind::Server { &[peer][..] } else { &[server, peer][..] };
    ranked.iter().find_map(|(address, port)| {
        let address = text_of(&span.attributes, address)?;
        let port = text_of(&span.attributes, port).and_then(|port| port.parse().ok());
        let mut endpoint = Endpoint { port, ..Endpoint::default() };
        match address.parse() {
            Ok(IpAddr::V4(_)) => endpoint.ipv4 = Some(address),
            Ok(IpAddr::V6(_)) => endpoint.ipv6 = Some(address),
            Err(_) => endpoint.service_name = address,
        }
        Some(endpoint)
    })
}

/// "Events": `"name": {"key": "value"}`, or only the name for an event without attributes.
fn annotation(event: &Event) -> Annotation {
    let value = match event.attributes.is_empty() {
        true => event.name.clone(),
        false => format!("{}: {}", serde_json::Value::from(&*event.name), json_object(&event.attributes)),
    };
    Annotation { timestamp: event.time_unix_nano / 1_000, value }
}

fn add<'a>(tags: &mut BTreeMap<String, String>, attributes: impl IntoIterator<Item = &'a KeyValue>) {
    tags.extend(
        attributes.into_iter().map(|attribute| (attribute.key.clone(), text(attribute.value.as_ref()))),
    );
}

fn text_of(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(text(found.value.as_ref())).filter(|text| !text.is_empty())
}

/// Strings as they are, other values as JSON.
fn text(value: Option<&AnyValue>) -> String {
    match json(value) {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn json(value: Option<&AnyValue>) -> serde_json::Value {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.as_str().into(),
        Some(Value::BoolValue(bool)) => (*bool).into(),
        Some(Value::IntValue(int)) => (*int).into(),
        // JSON has no infinity and no NaN. Protobuf's JSON writes them as strings.
        Some(Value::DoubleValue(double)) if !double.is_finite() => double.to_string().into(),
        Some(Value::DoubleValue(double)) => (*double).into(),
        Some(Value::ArrayValue(array)) => array.values.iter().map(|value| json(Some(value))).collect(),
        Some(Value::KvlistValue(list)) => json_object(&list.values),
        Some(Value::BytesValue(bytes)) => BASE64_STANDARD.encode(bytes).into(),
        _ => serde_json::Value::Null,
    }
}

fn json_object(attributes: &[KeyValue]) -> serde_json::Value {
    let field = |attribute: &KeyValue| (attribute.key.clone(), json(attribute.value.as_ref()));
    attributes.iter().map(field).collect()
}

#[cfg(test)]
mod tests;
