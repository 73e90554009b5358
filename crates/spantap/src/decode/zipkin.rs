//! An array of [Zipkin v2 spans](https://zipkin.io/zipkin-api/), as spans of OpenTelemetry.
//!
//! What OpenTelemetry's
//! [transformation to Zipkin](https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/) made
//! tags and annotations of (status, dropped counts, event attributes) is read back. Tags stay texts: a
//! sender whose numbers matter sends OTLP.

use std::fmt;
use std::marker::PhantomData;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::Faults;
use super::fault::{Fault, Found};
use super::value::{Integer, Text, attribute, check_times, id, parent_id, text_attribute};

/// As it stands in the datagram.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ZipkinSpan<'a> {
    #[serde(borrow)]
    trace_id: Text<'a>,
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, default)]
    parent_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    kind: Option<Text<'a>>,
    #[serde(default)]
    timestamp: Option<Integer<u64>>,
    #[serde(default)]
    duration: Option<Integer<u64>>,
    #[serde(borrow, default)]
    pub(super) local_endpoint: Option<Endpoint<'a>>,
    #[serde(borrow, default)]
    remote_endpoint: Option<Endpoint<'a>>,
    #[serde(borrow, default)]
    annotations: Option<Vec<Annotation<'a>>>,
    #[serde(borrow, default)]
    tags: Option<Tags<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint<'a> {
    #[serde(borrow, default)]
    pub(super) service_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    ipv4: Option<Text<'a>>,
    #[serde(borrow, default)]
    ipv6: Option<Text<'a>>,
    #[serde(default)]
    port: Option<u16>,
}

#[derive(Deserialize)]
struct Annotation<'a> {
    timestamp: Integer<u64>,
    #[serde(borrow)]
    value: Text<'a>,
}

/// In their order.
struct Tags<'a>(Vec<(Text<'a>, Tag<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Tags<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagsVisitor<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for TagsVisitor<'a> {
            type Value = Tags<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tags")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tags<'a>, A::Error> {
                let mut tags = Vec::with_capacity(12);
                while let Some(tag) = map.next_entry()? {
                    tags.push(tag);
                }
                Ok(Tags(tags))
            }
        }
        deserializer.deserialize_map(TagsVisitor(PhantomData))
    }
}

/// A text by the rules; some senders write numbers, and nothing is lost by taking them.
enum Tag<'a> {
    Text(Text<'a>),
    Other(any_value::Value),
}

impl<'de: 'a, 'a> Deserialize<'de> for Tag<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagVisitor<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for TagVisitor<'a> {
            type Value = Tag<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string as the value of a tag")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Tag<'a>, E> {
                Ok(Tag::Text(Text(text.into())))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Tag<'a>, E> {
                Ok(Tag::Text(Text(text.to_owned().into())))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tag<'a>, E> {
                Ok(Tag::Other(any_value::Value::BoolValue(value)))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tag<'a>, E> {
                Ok(Tag::Other(any_value::Value::IntValue(value)))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tag<'a>, E> {
                // Like everywhere in OpenTelemetry: beyond 63 bits a number is a text.
                let value = i64::try_from(value).map_or_else(
                    |_| any_value::Value::StringValue(value.to_string()),
                    any_value::Value::IntValue,
                );
                Ok(Tag::Other(value))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tag<'a>, E> {
                Ok(Tag::Other(any_value::Value::DoubleValue(value)))
            }
        }
        deserializer.deserialize_any(TagVisitor(PhantomData))
    }
}

/// Gives each span of the array to `take`, until one can't be read. A `Vec` of them would be copied as it
/// grows, which took a tenth of the time.
pub(super) fn each_span<'a, S: Deserialize<'a>>(
    text: &'a str,
    take: &mut impl FnMut(S),
) -> Result<(), serde_json::Error> {
    struct SpansVisitor<'t, S, T>(&'t mut T, PhantomData<S>);
    impl<'de, S: Deserialize<'de>, T: FnMut(S)> Visitor<'de> for SpansVisitor<'_, S, T> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of spans")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
            while let Some(span) = seq.next_element()? {
                (self.0)(span);
            }
            Ok(())
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_seq(SpansVisitor(take, PhantomData))?;
    deserializer.end()
}

impl ZipkinSpan<'_> {
    pub(super) fn service(&self) -> &str {
        let name = self.local_endpoint.as_ref().and_then(|endpoint| endpoint.service_name.as_ref());
        name.map_or("", |name| &name.0)
    }

    /// As OpenTelemetry has it.
    pub(super) fn into_span(self, faults: &mut Faults) -> Result<Span, Found> {
        let too_late = || Found::new(Fault::BadTime, "beyond the year 2554");
        let nanos = |micros: u64| micros.checked_mul(1000).ok_or_else(too_late);
        let start = nanos(self.timestamp.map_or(0, |time| time.0))?;
        let duration = nanos(self.duration.map_or(0, |time| time.0))?;
        let mut span = Span {
            trace_id: trace_id(&self.trace_id.0, faults)?,
            span_id: id::<8>(&self.id.0, faults)?,
            parent_span_id: parent_id(self.parent_id.as_ref().map(|id| &*id.0), faults)?,
            name: self.name.map_or_else(String::new, |name| name.0.into_owned()),
            kind: kind(self.kind.as_ref().map(|kind| &*kind.0))? as i32,
            start_time_unix_nano: start,
            end_time_unix_nano: start.checked_add(duration).ok_or_else(too_late)?,
            ..Span::default()
        };
        check_times(span.start_time_unix_nano, span.end_time_unix_nano, faults)?;
        let tags = self.tags.map_or_else(Vec::new, |tags| tags.0);
        span.attributes.reserve_exact(tags.len());
        let mut said = Said::default();
        for (key, value) in tags {
            match value {
                Tag::Text(text) => {
                    if !said.takes(&key.0, &text.0, &mut span) {
                        span.attributes.push(text_attribute(&key.0, text.0, faults));
                    }
                }
                Tag::Other(value) => span.attributes.push(attribute(key.0, value)),
            }
        }
        span.status = said.status();
        for annotation in self.annotations.into_iter().flatten() {
            span.events.push(event(&annotation.value.0, nanos(annotation.timestamp.0)?, faults));
        }
        let ends = [
            (self.local_endpoint, None, "network.local.address", "network.local.port"),
            (self.remote_endpoint, Some("peer.service"), "network.peer.address", "network.peer.port"),
        ];
        for (endpoint, service, address, port) in ends {
            let Some(endpoint) = endpoint else { continue };
            let mut add = |key: &str, value| {
                if !span.attributes.iter().any(|known| known.key == key) {
                    span.attributes.push(attribute(key, value));
                }
            };
            let text = |text: Text<'_>| any_value::Value::StringValue(text.0.into_owned());
            if let (Some(key), Some(name)) = (service, endpoint.service_name) {
                add(key, text(name));
            }
            if let Some(ip) = endpoint.ipv4.or(endpoint.ipv6) {
                add(address, text(ip));
            }
            if let Some(number) = endpoint.port {
                add(port, any_value::Value::IntValue(number.into()));
            }
        }
        Ok(span)
    }
}

/// Zipkin knows ids of 64 bits, too.
fn trace_id(text: &str, faults: &mut Faults) -> Result<Vec<u8>, Found> {
    if text.len() != 16 {
        return id::<16>(text, faults);
    }
    let low = id::<8>(text, faults)?;
    Ok([vec![0; 8], low].concat())
}

fn kind(text: Option<&str>) -> Result<SpanKind, Found> {
    Ok(match text {
        // Zipkin has no internal kind.
        None | Some("") => SpanKind::Internal,
        Some("CLIENT") => SpanKind::Client,
        Some("SERVER") => SpanKind::Server,
        Some("PRODUCER") => SpanKind::Producer,
        Some("CONSUMER") => SpanKind::Consumer,
        Some(other) => {
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
        let trace_id = id::<16>(trace, &mut unasked).ok()?;
        Some(Link { trace_id, span_id: id::<8>(span, &mut unasked).ok()?, ..Link::default() })
    };
    text.split(',').map(link).collect()
}

/// An annotation: `"name": {attributes}` where it was an event of OpenTelemetry's.
fn event(text: &str, time_unix_nano: u64, faults: &mut Faults) -> Event {
    let (name, attributes) = named_event(text).unwrap_or_else(|| (text.to_owned(), Vec::new()));
    if text.len() > 64 * 1024 {
        faults.note(Fault::LongValue, || format!("{} bytes of an annotation", text.len()));
    }
    Event { time_unix_nano, name, attributes, dropped_attributes_count: 0 }
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
            .map(|(key, value)| KeyValue { key, value: Some(any_value(value)), ..Default::default() })
            .collect(),
    ))
}

fn any_value(value: Value) -> AnyValue {
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
        Value::Array(values) => Some(Any::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue {
            values: values.into_iter().map(any_value).collect(),
        })),
        // Attributes have no objects.
        object @ Value::Object(_) => Some(Any::StringValue(object.to_string())),
    };
    AnyValue { value }
}
