//! An array of [Zipkin v2 spans](https://zipkin.io/zipkin-api/), as spans of OpenTelemetry.
//!
//! What OpenTelemetry's
//! [transformation to Zipkin](https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/) made
//! tags and annotations of (status, dropped counts, event attributes) is read back. Tags stay texts: a
//! sender whose numbers matter sends OTLP.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode};
use serde_json::Value;

use super::Faults;
use super::fault::{Fault, Found};
use super::json::{Json, Scalar, members};
use super::otlp::DEEPEST;
use super::value::{
    USUAL_ATTRIBUTES, USUAL_SPANS, attribute, check_length, check_times, id, parent_id, required, trim,
};

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
    Tags = "tags",
} }
members! { pub(super) EndpointMember { ServiceName = "serviceName", Ipv4 = "ipv4", Ipv6 = "ipv6", Port = "port" } }
members! { AnnotationMember { Timestamp = "timestamp", Value = "value" } }

#[derive(Default)]
struct Endpoint {
    service: Option<String>,
    ip: Option<String>,
    port: Option<u16>,
}

/// Reads the array, and gives the spans to `take`, those of one service that come in a row together.
pub(super) fn spans(
    json: &mut Json<'_>,
    faults: &mut Faults,
    mut take: impl FnMut(&str, Vec<Span>, &mut Faults),
) -> Result<(), Found> {
    let mut of_service = String::new();
    let mut spans = Vec::with_capacity(USUAL_SPANS);
    json.elements(|json| {
        let mut service = None;
        let read = |json: &mut Json<'_>, faults: &mut Faults, place: &mut Span| {
            service = span(json, faults, place)?;
            Ok(())
        };
        if json.append(&mut spans, faults, read)? {
            let service = service.unwrap_or_default();
            if spans.len() > 1 && service != of_service {
                let others = spans.split_off(spans.len() - 1);
                trim(&mut spans);
                take(&of_service, std::mem::replace(&mut spans, others), faults);
            }
            of_service = service;
        }
        Ok(())
    })?;
    if !spans.is_empty() {
        trim(&mut spans);
        take(&of_service, spans, faults);
    }
    Ok(())
}

/// As OpenTelemetry has it. Gives back the service.
fn span(json: &mut Json<'_>, faults: &mut Faults, span: &mut Span) -> Result<Option<String>, Found> {
    // Zipkin has no internal kind.
    span.kind = SpanKind::Internal as i32;
    let (mut trace_id, mut span_id, mut parent) = (None, None, None);
    let (mut timestamp, mut duration) = (0, 0);
    let (mut local, mut remote) = (Endpoint::default(), Endpoint::default());
    let mut said = Said::default();
    json.members(|json, member| {
        match member {
            SpanMember::TraceId => trace_id = Some(read_trace_id(&json.text()?, faults)?),
            SpanMember::Id => span_id = Some(id::<8>(&json.text()?, faults)?),
            SpanMember::ParentId => parent = parent_id(&json.text()?, faults)?,
            SpanMember::Timestamp => timestamp = json.integer()?,
            SpanMember::Duration => duration = json.integer()?,
            SpanMember::Name => span.name = json.string()?,
            SpanMember::LocalEndpoint => local = endpoint(json)?,
            SpanMember::Kind => span.kind = kind(&json.text()?)? as i32,
            SpanMember::RemoteEndpoint => remote = endpoint(json)?,
            SpanMember::Annotations => json.elements(|json| {
                span.events.push(event(json, faults)?);
                Ok(())
            })?,
            SpanMember::Tags => {
                span.attributes.reserve(USUAL_ATTRIBUTES);
                json.entries(|json, key| tag(key, json.scalar()?, &mut said, span, faults))?;
                trim(&mut span.attributes);
            }
        }
        Ok(())
    })?;
    let trace_id = required(trace_id, "a traceId")?;
    let span_id = required(span_id, "an id")?;
    span.start_time_unix_nano = nanos(timestamp)?;
    let end = span.start_time_unix_nano.checked_add(nanos(duration)?);
    span.end_time_unix_nano = end.ok_or_else(too_late)?;
    check_times(span.start_time_unix_nano, span.end_time_unix_nano, faults)?;
    span.trace_id = trace_id.into();
    span.span_id = span_id.into();
    span.parent_span_id = parent.map_or_else(Vec::new, Vec::from);
    span.status = said.status();
    local.tell(None, "network.local.address", "network.local.port", span);
    let peer = remote.service.take();
    remote.tell(peer, "network.peer.address", "network.peer.port", span);
    Ok(local.service)
}

fn too_late() -> Found {
    Found::new(Fault::BadTime, "beyond the year 2554")
}

fn nanos(micros: u64) -> Result<u64, Found> {
    micros.checked_mul(1000).ok_or_else(too_late)
}

fn tag(
    key: String,
    value: Scalar,
    said: &mut Said,
    span: &mut Span,
    faults: &mut Faults,
) -> Result<(), Found> {
    // Texts by the rules; some senders write numbers, and nothing is lost by taking them.
    let value = match value {
        Scalar::Text(text) => {
            if said.takes(&key, &text, span) {
                return Ok(());
            }
            check_length(&key, &text, faults);
            any_value::Value::StringValue(text)
        }
        Scalar::Bool(value) => any_value::Value::BoolValue(value),
        Scalar::Int(value) => any_value::Value::IntValue(value),
        Scalar::Double(value) => any_value::Value::DoubleValue(value),
    };
    span.attributes.push(attribute(key, value));
    Ok(())
}

fn endpoint(json: &mut Json<'_>) -> Result<Endpoint, Found> {
    let mut endpoint = Endpoint::default();
    let mut v6 = None;
    json.members(|json, member| {
        match member {
            EndpointMember::ServiceName => endpoint.service = Some(json.string()?),
            EndpointMember::Ipv4 => endpoint.ip = Some(json.string()?),
            EndpointMember::Ipv6 => v6 = Some(json.string()?),
            EndpointMember::Port => endpoint.port = Some(json.integer()?),
        }
        Ok(())
    })?;
    endpoint.ip = endpoint.ip.or(v6);
    Ok(endpoint)
}

impl Endpoint {
    /// As attributes, where the tags don't say it.
    fn tell(&mut self, peer: Option<String>, address: &str, port: &str, span: &mut Span) {
        let text = any_value::Value::StringValue;
        let told = [
            ("peer.service", peer.map(text)),
            (address, self.ip.take().map(text)),
            (port, self.port.map(|port| any_value::Value::IntValue(port.into()))),
        ];
        for (key, value) in told {
            let Some(value) = value else { continue };
            if !span.attributes.iter().any(|known| known.key == key) {
                span.attributes.push(attribute(key, value));
            }
        }
    }
}

/// Zipkin knows ids of 64 bits, too.
fn read_trace_id(text: &str, faults: &mut Faults) -> Result<[u8; 16], Found> {
    if text.len() != 16 {
        return id::<16>(text, faults);
    }
    Ok(u128::from(u64::from_be_bytes(id::<8>(text, faults)?)).to_be_bytes())
}

fn kind(text: &str) -> Result<SpanKind, Found> {
    Ok(match text {
        "" => SpanKind::Internal,
        "CLIENT" => SpanKind::Client,
        "SERVER" => SpanKind::Server,
        "PRODUCER" => SpanKind::Producer,
        "CONSUMER" => SpanKind::Consumer,
        other => {
            let shown: String = other.chars().take(40).collect();
            return Err(Found::new(Fault::WrongType, format!("the kind {shown:?}")));
        }
    })
}

/// What tags say of the status, which is known when all have been seen.
#[derive(Default)]
struct Said {
    code: Option<StatusCode>,
    error: Option<String>,
}

impl Said {
    /// Whether the tag was one that is no attribute.
    fn takes(&mut self, key: &str, value: &str, span: &mut Span) -> bool {
        let number = |count: &mut u32| {
            value.parse().is_ok_and(|parsed| {
                *count = parsed;
                true
            })
        };
        match key {
            "otel.status_code" => {
                self.code = match value {
                    "OK" => Some(StatusCode::Ok),
                    "ERROR" => Some(StatusCode::Error),
                    _ => return false,
                };
                true
            }
            "error" => {
                self.error = Some(value.to_owned());
                true
            }
            "follows_from" => match links(value) {
                Some(links) => {
                    span.links = links;
                    true
                }
                None => false,
            },
            "otel.dropped_attributes_count" => number(&mut span.dropped_attributes_count),
            "otel.dropped_events_count" => number(&mut span.dropped_events_count),
            "otel.dropped_links_count" => number(&mut span.dropped_links_count),
            _ => false,
        }
    }

    fn status(self) -> Option<Status> {
        match (self.code, self.error) {
            (None, None) => None,
            (Some(StatusCode::Ok), _) => Some(Status { code: StatusCode::Ok as i32, ..Status::default() }),
            (_, error) => {
                // Zipkin's own way to say no more than that.
                let message = error.filter(|text| text != "true").unwrap_or_default();
                Some(Status { code: StatusCode::Error as i32, message })
            }
        }
    }
}

/// `trace-span` pairs, as this project writes them.
fn links(text: &str) -> Option<Vec<Link>> {
    let link = |pair: &str| {
        let (trace, span) = pair.split_once('-')?;
        let mut unasked = Faults::default();
        let trace_id = id::<16>(trace, &mut unasked).ok()?.into();
        Some(Link { trace_id, span_id: id::<8>(span, &mut unasked).ok()?.into(), ..Link::default() })
    };
    text.split(',').map(link).collect()
}

/// An annotation: `"name": {attributes}` where it was an event of OpenTelemetry's.
fn event(json: &mut Json<'_>, faults: &mut Faults) -> Result<Event, Found> {
    let (mut time, mut value) = (None, None);
    json.members(|json, member| {
        match member {
            AnnotationMember::Timestamp => time = Some(nanos(json.integer()?)?),
            AnnotationMember::Value => value = Some(json.string()?),
        }
        Ok(())
    })?;
    let (Some(time_unix_nano), Some(text)) = (time, value) else {
        return Err(Found::new(Fault::WrongType, "an annotation without a timestamp or a value"));
    };
    check_length("an annotation", &text, faults);
    let (name, attributes) = named_event(&text).unwrap_or_else(|| (text, Vec::new()));
    Ok(Event { time_unix_nano, name, attributes, dropped_attributes_count: 0 })
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
        // Attributes have no objects.
        other @ (Value::Object(_) | Value::Array(_)) => Some(Any::StringValue(other.to_string())),
    };
    AnyValue { value }
}
