//! An OTLP/JSON `ExportTraceServiceRequest`, as any OpenTelemetry exporter writes it.
//!
//! The official types can read it too (`with-serde`), but copy every text twice on the way, which
//! took 4.5 µs a span against 1.9, and refuse the whole for the fault of one span.

use std::marker::PhantomData;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Faults;
use super::fault::Found;
use super::value::{Integer, Text, check_times, id, parent_id, text_attribute};

/// The request. `S` is a span, or its text where one span is at fault and the others are not.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "S: Deserialize<'de>")]
pub(super) struct Request<'a, S> {
    #[serde(borrow)]
    pub(super) resource_spans: Option<Vec<ResourceSpans<'a, S>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "S: Deserialize<'de>")]
pub(super) struct ResourceSpans<'a, S> {
    /// Read when one like it was not seen before.
    #[serde(borrow, default)]
    pub(super) resource: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) scope_spans: Option<Vec<ScopeSpans<'a, S>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "S: Deserialize<'de>")]
pub(super) struct ScopeSpans<'a, S> {
    /// Read behind the spans, which are taken also where it can't be.
    #[serde(borrow, default)]
    pub(super) scope: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) spans: Option<Vec<S>>,
    #[serde(borrow, default)]
    pub(super) schema_url: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scope<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    version: Option<Text<'a>>,
    #[serde(borrow, default)]
    attributes: Option<Vec<Attribute<'a>>>,
    #[serde(default)]
    dropped_attributes_count: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resource<'a> {
    #[serde(borrow, default)]
    attributes: Option<Vec<Attribute<'a>>>,
    #[serde(default)]
    dropped_attributes_count: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OtlpSpan<'a> {
    #[serde(borrow)]
    trace_id: Text<'a>,
    #[serde(borrow)]
    span_id: Text<'a>,
    #[serde(borrow, default)]
    trace_state: Option<Text<'a>>,
    #[serde(borrow, default)]
    parent_span_id: Option<Text<'a>>,
    #[serde(default)]
    flags: u32,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(default)]
    kind: i32,
    start_time_unix_nano: Integer<u64>,
    end_time_unix_nano: Integer<u64>,
    #[serde(borrow, default)]
    attributes: Option<Vec<Attribute<'a>>>,
    #[serde(default)]
    dropped_attributes_count: u32,
    #[serde(borrow, default)]
    events: Option<Vec<SpanEvent<'a>>>,
    #[serde(default)]
    dropped_events_count: u32,
    #[serde(borrow, default)]
    links: Option<Vec<SpanLink<'a>>>,
    #[serde(default)]
    dropped_links_count: u32,
    #[serde(borrow, default)]
    status: Option<SpanStatus<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpanEvent<'a> {
    #[serde(default)]
    time_unix_nano: Integer<u64>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    attributes: Option<Vec<Attribute<'a>>>,
    #[serde(default)]
    dropped_attributes_count: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpanLink<'a> {
    #[serde(borrow)]
    trace_id: Text<'a>,
    #[serde(borrow)]
    span_id: Text<'a>,
    #[serde(borrow, default)]
    trace_state: Option<Text<'a>>,
    #[serde(borrow, default)]
    attributes: Option<Vec<Attribute<'a>>>,
    #[serde(default)]
    dropped_attributes_count: u32,
    #[serde(default)]
    flags: u32,
}

#[derive(Deserialize)]
struct SpanStatus<'a> {
    #[serde(borrow, default)]
    message: Option<Text<'a>>,
    #[serde(default)]
    code: i32,
}

#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow, default)]
    value: Option<OtlpValue<'a>>,
}

/// Where it is a text, it stays where it is until it is known what for.
enum OtlpValue<'a> {
    Text(Text<'a>),
    Other(Option<any_value::Value>),
}

#[derive(Deserialize)]
struct Values<'a> {
    #[serde(borrow, default)]
    values: Vec<OtlpValue<'a>>,
}

#[derive(Deserialize)]
struct KeyValues<'a> {
    #[serde(borrow, default)]
    values: Vec<Attribute<'a>>,
}

/// The one member of an `AnyValue`.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "camelCase")]
enum Kind {
    StringValue,
    BoolValue,
    IntValue,
    DoubleValue,
    ArrayValue,
    KvlistValue,
    BytesValue,
    #[serde(other)]
    Unknown,
}

impl<'de: 'a, 'a> Deserialize<'de> for OtlpValue<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for ValueVisitor<'a> {
            type Value = OtlpValue<'a>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an AnyValue object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OtlpValue<'a>, A::Error> {
                use any_value::Value as Any;
                let mut value = OtlpValue::Other(None);
                while let Some(kind) = map.next_key()? {
                    let other = match kind {
                        Kind::StringValue => {
                            value = OtlpValue::Text(map.next_value()?);
                            continue;
                        }
                        Kind::BoolValue => Any::BoolValue(map.next_value()?),
                        Kind::IntValue => Any::IntValue(map.next_value::<Integer<i64>>()?.0),
                        Kind::DoubleValue => Any::DoubleValue(map.next_value_seed(Double)?),
                        Kind::ArrayValue => {
                            let values: Values<'a> = map.next_value()?;
                            let values = values.values.into_iter().map(OtlpValue::into_value).collect();
                            Any::ArrayValue(ArrayValue { values })
                        }
                        Kind::KvlistValue => {
                            let values: KeyValues<'a> = map.next_value()?;
                            let values = values.values.into_iter().map(Attribute::into_any).collect();
                            Any::KvlistValue(KeyValueList { values })
                        }
                        Kind::BytesValue => {
                            let text: Text<'a> = map.next_value()?;
                            let bytes = base64(&text.0).ok_or_else(|| {
                                de::Error::invalid_value(de::Unexpected::Str("bytesValue"), &"base64")
                            })?;
                            Any::BytesValue(bytes)
                        }
                        Kind::Unknown => {
                            map.next_value::<de::IgnoredAny>()?;
                            continue;
                        }
                    };
                    value = OtlpValue::Other(Some(other));
                }
                Ok(value)
            }
        }
        deserializer.deserialize_map(ValueVisitor(PhantomData))
    }
}

/// Protobuf's JSON writes what is no number in JSON as a text.
struct Double;

impl<'de> DeserializeSeed<'de> for Double {
    type Value = f64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Double {
    type Value = f64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<f64, E> {
        Ok(number)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<f64, E> {
        text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

impl OtlpValue<'_> {
    fn into_value(self) -> AnyValue {
        let value = match self {
            Self::Text(text) => Some(any_value::Value::StringValue(text.0.into_owned())),
            Self::Other(other) => other,
        };
        AnyValue { value }
    }
}

impl Attribute<'_> {
    fn into_any(self) -> KeyValue {
        let value = self.value.map(OtlpValue::into_value);
        KeyValue { key: self.key.0.into_owned(), value, ..Default::default() }
    }

    fn into_key_value(self, faults: &mut Faults) -> KeyValue {
        match self.value {
            Some(OtlpValue::Text(text)) => text_attribute(&self.key.0, text.0, faults),
            _ => self.into_any(),
        }
    }
}

fn attributes(attributes: Option<Vec<Attribute<'_>>>, faults: &mut Faults) -> Vec<KeyValue> {
    attributes.into_iter().flatten().map(|attribute| attribute.into_key_value(faults)).collect()
}

fn owned(text: Option<Text<'_>>) -> String {
    text.map_or_else(String::new, |text| text.0.into_owned())
}

pub(super) fn scope_of(text: &RawValue, faults: &mut Faults) -> Result<InstrumentationScope, Found> {
    Ok(serde_json::from_str::<Scope<'_>>(text.get())?.into_scope(faults))
}

impl Scope<'_> {
    fn into_scope(self, faults: &mut Faults) -> InstrumentationScope {
        InstrumentationScope {
            name: owned(self.name),
            version: owned(self.version),
            attributes: attributes(self.attributes, faults),
            dropped_attributes_count: self.dropped_attributes_count,
        }
    }
}

pub(super) fn schema_url(text: Option<Text<'_>>) -> String {
    owned(text)
}

impl Resource<'_> {
    pub(super) fn into_attributes(self, faults: &mut Faults) -> (Vec<KeyValue>, u32) {
        (attributes(self.attributes, faults), self.dropped_attributes_count)
    }
}

impl OtlpSpan<'_> {
    pub(super) fn into_span(self, faults: &mut Faults) -> Result<Span, Found> {
        let (start, end) = (self.start_time_unix_nano.0, self.end_time_unix_nano.0);
        check_times(start, end, faults)?;
        Ok(Span {
            trace_id: id::<16>(&self.trace_id.0, faults)?,
            span_id: id::<8>(&self.span_id.0, faults)?,
            trace_state: owned(self.trace_state),
            parent_span_id: parent_id(self.parent_span_id.as_ref().map(|id| &*id.0), faults)?,
            flags: self.flags,
            name: owned(self.name),
            kind: self.kind,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            attributes: attributes(self.attributes, faults),
            dropped_attributes_count: self.dropped_attributes_count,
            events: self.events.into_iter().flatten().map(|event| event.into_event(faults)).collect(),
            dropped_events_count: self.dropped_events_count,
            links: self
                .links
                .into_iter()
                .flatten()
                .map(|link| link.into_link(faults))
                .collect::<Result<_, _>>()?,
            dropped_links_count: self.dropped_links_count,
            status: self.status.map(|status| Status { message: owned(status.message), code: status.code }),
        })
    }
}

impl SpanEvent<'_> {
    fn into_event(self, faults: &mut Faults) -> Event {
        Event {
            time_unix_nano: self.time_unix_nano.0,
            name: owned(self.name),
            attributes: attributes(self.attributes, faults),
            dropped_attributes_count: self.dropped_attributes_count,
        }
    }
}

impl SpanLink<'_> {
    fn into_link(self, faults: &mut Faults) -> Result<Link, Found> {
        Ok(Link {
            trace_id: id::<16>(&self.trace_id.0, faults)?,
            span_id: id::<8>(&self.span_id.0, faults)?,
            trace_state: owned(self.trace_state),
            attributes: attributes(self.attributes, faults),
            dropped_attributes_count: self.dropped_attributes_count,
            flags: self.flags,
        })
    }
}

/// The spans of a request with a fault, one by one: one that can't be read is refused alone.
pub(super) fn span_of(text: &RawValue, faults: &mut Faults) -> Result<Span, Found> {
    serde_json::from_str::<OtlpSpan<'_>>(text.get())?.into_span(faults)
}
