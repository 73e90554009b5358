//! Decodes an array of [Zipkin v2 spans](https://zipkin.io/zipkin-api/) into spans of OpenTelemetry.
//!
//! OpenTelemetry's [transformation to
//! Zipkin](https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/) turns the status, the dropped counts and
//! the attributes of events into tags and annotations; they are converted back. Tags stay strings: a sender that needs
//! typed values sends OTLP.
//!
//! Spans of Zipkin's version 1 are supported if each of them belongs to one process. Their `binaryAnnotations` become
//! tags. Their annotations (`cs`, `sr` and so on) give the kind, the endpoint and, if nothing else does, the times.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode};
use serde_json::Value;

use super::fault::{Fault, Found};
use super::faults::Faults;
use super::json::{Json, Scalar, members};
use super::otlp::DEEPEST;
use super::place::Times;
use super::sequence;
use super::shared;
use super::value::{
    USUAL_ATTRIBUTES, USUAL_SPANS, check_length, id, id_of, kind_named, parent_id, put_parent,
    rename_reserved, required, trim,
};
use crate::span::attributes::{attribute, denies_error};

members! { pub(super) SpanMember {
    TraceId = "traceId",
    Id = "id",
    ParentId = "parentId",
    Name = "name",
    Kind = "kind",
    Timestamp = "timestamp",
    Duration = "duration",
    LocalEndpoint = "localEndpoint",
    RemoteEndpoint = "remoteEndpoint",
    Annotations = "annotations",
    BinaryAnnotations = "binaryAnnotations",
    Tags = "tags",
    Shared = "shared",
    Sequence = "tracingUsdt",
} }
members! { pub(super) EndpointMember { ServiceName = "serviceName", Ipv4 = "ipv4", Ipv6 = "ipv6", Port = "port" } }
members! { AnnotationMember { Timestamp = "timestamp", Value = "value", Endpoint = "endpoint" } }
members! { BinaryAnnotationMember { Key = "key", Value = "value", Endpoint = "endpoint" } }

#[derive(Default)]
struct Endpoint {
    service: Option<String>,
    ip: Option<String>,
    port: Option<u16>,
}

/// Reads the array. Passes the spans to `take`, in runs of consecutive spans of one service.
pub(super) fn spans(
    json: &mut Json<'_>,
    mut take: impl FnMut(&str, Vec<Span>, &mut Faults),
) -> Result<(), Found> {
    let mut of_service = String::new();
    let mut spans = Vec::with_capacity(USUAL_SPANS);
    json.elements(|json| {
        // Reads into the list, because spans are expensive to move.
        spans.push(Span::default());
        let Some(place) = spans.last_mut() else { return Ok(()) };
        let service = match json.attempt(|json| span(json, place))? {
            Ok(service) => service.unwrap_or_default(),
            Err(found) => {
                spans.pop();
                json.faults.add(found);
                return Ok(());
            }
        };
        if spans.len() > 1 && service != of_service {
            let others = spans.split_off(spans.len() - 1);
            trim(&mut spans);
            take(&of_service, std::mem::replace(&mut spans, others), &mut json.faults);
        }
        of_service = service;
        Ok(())
    })?;
    if !spans.is_empty() {
        trim(&mut spans);
        take(&of_service, spans, &mut json.faults);
    }
    Ok(())
}

/// Reads a span. Returns its service.
fn span(json: &mut Json<'_>, span: &mut Span) -> Result<Option<String>, Found> {
    let (mut trace_id, mut span_id, mut parent) = (None, None, None);
    let mut times = Times::default();
    let mut kind = None;
    let (mut local, mut remote) = (Endpoint::default(), Endpoint::default());
    let mut is_shared = false;
    let mut from_tags = FromTags::default();
    json.optional_members(|json, member| {
        match member {
            SpanMember::TraceId => trace_id = Some(json.attempt(id::<16>)?),
            SpanMember::Id => span_id = Some(json.attempt(id::<8>)?),
            SpanMember::ParentId => parent = Some(json.attempt(parent_id)?),
            // In Zipkin, 0 means that the time is not set.
            SpanMember::Timestamp => times.start = Some(nanos(json)?).filter(|start| *start > 0),
            SpanMember::Duration => times.duration = Some(nanos(json)?),
            SpanMember::Name => span.name = json.string()?,
            SpanMember::LocalEndpoint => local = endpoint(json)?,
            SpanMember::Kind => kind = Some(read_kind(json)?).filter(|kind| *kind != 0),
            SpanMember::RemoteEndpoint => remote = endpoint(json)?,
            SpanMember::Annotations => {
                let mut left_out = 0;
                json.append(&mut span.events, &mut left_out, |json| event(json, &mut from_tags))?;
                from_tags.add_dropped(EVENTS, left_out);
            }
            SpanMember::BinaryAnnotations => {
                let mut left_out = 0;
                let mut others = Vec::new();
                json.append(&mut others, &mut left_out, |json| {
                    binary_annotation(json, &mut from_tags, span)
                })?;
                remote = others.into_iter().flatten().last().unwrap_or(std::mem::take(&mut remote));
                from_tags.add_dropped(ATTRIBUTES, left_out);
            }
            SpanMember::Tags => {
                span.attributes.reserve(USUAL_ATTRIBUTES);
                json.entries(|json, key| {
                    let value = json.scalar()?;
                    tag(key, value, &mut from_tags, span, &mut json.faults);
                    Ok(())
                })?;
                trim(&mut span.attributes);
            }
            SpanMember::Shared => is_shared = json.boolean()?,
            SpanMember::Sequence => sequence::take(json)?,
        }
        Ok(())
    })?;
    span.trace_id = required(trace_id, "a span without a traceId")?.into();
    span.span_id = required(span_id, "a span without an id")?.into();
    put_parent(span, parent, &mut json.faults);
    // Zipkin has no internal kind.
    span.kind = kind.or(from_tags.kind).unwrap_or(SpanKind::Internal as i32);
    times.put(span, &mut json.faults);
    from_tags.apply(span);
    if local.service.is_none() {
        local = from_tags.endpoint.take().unwrap_or(local);
    }
    local.add_attributes(None, "network.local.address", "network.local.port", span);
    let peer = remote.service.take();
    remote.add_attributes(peer, "network.peer.address", "network.peer.port", span);
    if is_shared {
        shared::mark(span);
    }
    Ok(local.service)
}

fn nanos(json: &mut Json<'_>) -> Result<u64, Found> {
    let micros = json.time()?;
    micros.checked_mul(1000).ok_or_else(|| Found::new(Fault::BadTime, format!("{micros} microseconds")))
}

fn read_kind(json: &mut Json<'_>) -> Result<i32, Found> {
    let text = json.text()?;
    match &*text {
        "" => Ok(0),
        "CLIENT" => Ok(SpanKind::Client as i32),
        "SERVER" => Ok(SpanKind::Server as i32),
        other => kind_named(other).ok_or_else(|| {
            Found::new(Fault::WrongType, format!("{:?}", other.chars().take(40).collect::<String>()))
        }),
    }
}

fn tag(mut key: String, value: Scalar, from_tags: &mut FromTags, span: &mut Span, faults: &mut Faults) {
    if from_tags.take_tag(&key, &value, span) {
        return;
    }
    // Zipkin's tags are strings. Some senders write numbers, which can be kept as they are.
    let value = match value {
        Scalar::Null => None,
        Scalar::Text(text) => {
            check_length(&key, &text, faults);
            Some(any_value::Value::StringValue(text))
        }
        Scalar::Bool(value) => Some(any_value::Value::BoolValue(value)),
        Scalar::Int(value) => Some(any_value::Value::IntValue(value)),
        Scalar::Double(value) => Some(any_value::Value::DoubleValue(value)),
    };
    rename_reserved(&mut key, faults);
    span.attributes.push(KeyValue { key, value: Some(AnyValue { value }), ..KeyValue::default() });
}

fn endpoint(json: &mut Json<'_>) -> Result<Endpoint, Found> {
    let mut endpoint = Endpoint::default();
    let mut v6 = None;
    json.optional_members(|json, member| {
        match member {
            EndpointMember::ServiceName => endpoint.service = Some(json.string()?),
            EndpointMember::Ipv4 => endpoint.ip = Some(json.string()?).filter(|ip| !ip.is_empty()),
            EndpointMember::Ipv6 => v6 = Some(json.string()?).filter(|ip| !ip.is_empty()),
            // In Zipkin, 0 means that the port is not set.
            EndpointMember::Port => endpoint.port = Some(json.integer()?).filter(|port| *port > 0),
        }
        Ok(())
    })?;
    endpoint.ip = endpoint.ip.or(v6);
    Ok(endpoint)
}

impl Endpoint {
    /// Adds the endpoint to the attributes of `span`. Tags with the same key take precedence.
    fn add_attributes(&mut self, peer: Option<String>, address: &str, port: &str, span: &mut Span) {
        let text = any_value::Value::StringValue;
        let attributes = [
            ("peer.service", peer.map(text)),
            (address, self.ip.take().map(text)),
            (port, self.port.map(|port| any_value::Value::IntValue(port.into()))),
        ];
        for (key, value) in attributes {
            let Some(value) = value else { continue };
            if !span.attributes.iter().any(|known| known.key == key) {
                span.attributes.push(attribute(key, value));
            }
        }
    }
}

/// Indices into [`FromTags::dropped`].
const ATTRIBUTES: usize = 0;
const EVENTS: usize = 1;
const LINKS: usize = 2;

/// Properties of the span that are sent as tags and annotations. It is complete once all of these are read.
#[derive(Default)]
struct FromTags {
    code: Option<StatusCode>,
    error: Option<String>,
    /// How many attributes, events and links were dropped, by the sender or here.
    dropped: [u32; 3],
    /// From the annotations of version 1.
    kind: Option<i32>,
    endpoint: Option<Endpoint>,
}

impl FromTags {
    /// Reads a tag that describes the span itself. Returns false if the tag is an attribute.
    fn take_tag(&mut self, key: &str, value: &Scalar, span: &mut Span) -> bool {
        match key {
            "otel.status_code" => {
                self.code = match &*value.text() {
                    "OK" => Some(StatusCode::Ok),
                    "ERROR" => Some(StatusCode::Error),
                    _ => return false,
                };
                true
            }
            // In Zipkin the tag alone marks an error, whatever its value. But `false` or null is meant as no error.
            "error" => {
                let text = value.text();
                let is_error = !matches!(value, Scalar::Null) && !denies_error(&text);
                if is_error {
                    self.error = Some(text.into_owned());
                }
                is_error
            }
            "follows_from" => match links(&value.text()) {
                Some(links) => {
                    span.links = links;
                    true
                }
                None => false,
            },
            "otel.dropped_attributes_count" => self.take_dropped(ATTRIBUTES, value),
            "otel.dropped_events_count" => self.take_dropped(EVENTS, value),
            "otel.dropped_links_count" => self.take_dropped(LINKS, value),
            _ => false,
        }
    }

    fn take_dropped(&mut self, of: usize, value: &Scalar) -> bool {
        value.text().parse().map(|count| self.add_dropped(of, count)).is_ok()
    }

    fn add_dropped(&mut self, of: usize, count: u32) {
        self.dropped[of] = self.dropped[of].saturating_add(count);
    }

    /// Reads the kind and the endpoint from an annotation of version 1.
    fn note_annotation(&mut self, annotation: &str, endpoint: Option<Endpoint>) {
        let kind = match annotation {
            "cs" | "cr" => Some(SpanKind::Client),
            "sr" | "ss" => Some(SpanKind::Server),
            "ms" => Some(SpanKind::Producer),
            "mr" => Some(SpanKind::Consumer),
            _ => None,
        };
        self.kind = self.kind.or(kind.map(|kind| kind as i32));
        self.endpoint = self.endpoint.take().or(endpoint);
    }

    fn apply(&mut self, span: &mut Span) {
        let [attributes, events, links] = self.dropped;
        span.dropped_attributes_count = attributes;
        span.dropped_events_count = events;
        span.dropped_links_count = links;
        span.status = match (self.code, self.error.take()) {
            (None, None) => None,
            (Some(StatusCode::Ok), _) => Some(Status { code: StatusCode::Ok as i32, ..Status::default() }),
            (_, error) => {
                // `true` is Zipkin's value for an error without a message.
                let message = error.filter(|text| text != "true").unwrap_or_default();
                Some(Status { code: StatusCode::Error as i32, message })
            }
        };
    }
}

impl Scalar {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Null => "".into(),
            Self::Text(text) => text.into(),
            Self::Bool(value) => value.to_string().into(),
            Self::Int(value) => value.to_string().into(),
            Self::Double(value) => value.to_string().into(),
        }
    }
}

/// Reads `trace-span` pairs with all their digits, as this project writes them. Any other text is a user's own tag.
fn links(text: &str) -> Option<Vec<Link>> {
    let link = |pair: &str| {
        let (trace, span) = pair.split_once('-').filter(|ids| (ids.0.len(), ids.1.len()) == (32, 16))?;
        let mut ignored = Faults::default();
        let trace_id = id_of::<16>(trace, &mut ignored).ok()?.into();
        Some(Link { trace_id, span_id: id_of::<8>(span, &mut ignored).ok()?.into(), ..Link::default() })
    };
    text.split(',').map(link).collect()
}

/// Reads an annotation. `"name": {attributes}` was an event of OpenTelemetry.
fn event(json: &mut Json<'_>, from_tags: &mut FromTags) -> Result<Event, Found> {
    let (mut time_unix_nano, mut text, mut of) = (0, String::new(), None);
    json.optional_members(|json, member| {
        match member {
            AnnotationMember::Timestamp => time_unix_nano = nanos(json)?,
            AnnotationMember::Value => text = json.string()?,
            AnnotationMember::Endpoint => of = Some(endpoint(json)?),
        }
        Ok(())
    })?;
    from_tags.note_annotation(&text, of);
    check_length("an annotation", &text, &mut json.faults);
    let (name, attributes) = named_event(&text).unwrap_or_else(|| (text, Vec::new()));
    Ok(Event { time_unix_nano, name, attributes, dropped_attributes_count: 0 })
}

/// Reads a binary annotation, which is a tag in version 1. Returns its endpoint if it describes the remote side.
fn binary_annotation(
    json: &mut Json<'_>,
    from_tags: &mut FromTags,
    span: &mut Span,
) -> Result<Option<Endpoint>, Found> {
    let (mut key, mut value, mut of) = (None, Scalar::Null, None);
    json.optional_members(|json, member| {
        match member {
            BinaryAnnotationMember::Key => key = Some(json.attempt(|json| json.text().map(Cow::into_owned))?),
            BinaryAnnotationMember::Value => value = json.scalar()?,
            BinaryAnnotationMember::Endpoint => of = Some(endpoint(json)?),
        }
        Ok(())
    })?;
    let key = required(key, "a binary annotation without a key")?;
    // The addresses of server, client and broker.
    if matches!(&*key, "sa" | "ca" | "ma") && value.text() == "true" {
        return Ok(of);
    }
    from_tags.note_annotation("", of);
    tag(key, value, from_tags, span, &mut json.faults);
    Ok(None)
}

fn named_event(text: &str) -> Option<(String, Vec<KeyValue>)> {
    if !text.starts_with('"') {
        return None;
    }
    let mut names = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let name = names.next()?.ok()?;
    let rest = text.get(names.byte_offset()..)?.strip_prefix(": ")?;
    let attributes: serde_json::Map<String, Value> = serde_json::from_str(rest).ok()?;
    Some((
        name,
        attributes
            .into_iter()
            .map(|(key, value)| KeyValue { key, value: Some(any_value(value, 0)), ..Default::default() })
            .collect(),
    ))
}

fn any_value(value: Value, depth: usize) -> AnyValue {
    use any_value::Value as Any;
    let value = match value {
        Value::Null => None,
        Value::Bool(value) => Some(Any::BoolValue(value)),
        Value::Number(number) => Some(match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Any::IntValue(integer),
            (None, Some(float)) if number.is_f64() => Any::DoubleValue(float),
            _ => Any::StringValue(number.to_string()),
        }),
        Value::String(text) => Some(Any::StringValue(text)),
        Value::Array(values) if depth < DEEPEST => {
            Some(Any::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue {
                values: values.into_iter().map(|value| any_value(value, depth + 1)).collect(),
            }))
        }
        // Objects, and lists that are nested too deeply, become their JSON text.
        other @ (Value::Object(_) | Value::Array(_)) => Some(Any::StringValue(other.to_string())),
    };
    AnyValue { value }
}
