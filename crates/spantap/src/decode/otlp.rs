//! An OTLP/JSON `ExportTraceServiceRequest`, as any OpenTelemetry exporter writes it.
//!
//! The official types can read it too (`with-serde`), but take many times as long, and refuse the whole
//! for the fault of one span.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, Status};

use super::Faults;
use super::fault::{Fault, Found};
use super::json::{Json, members};
use super::scan::Scan;
use super::value::{USUAL_ATTRIBUTES, USUAL_SPANS, check_length, check_times, id, parent_id, required, trim};
use crate::attributes::value;

/// Values in values. Each takes up to three messages of protobuf, whose readers refuse more than 100 levels;
/// the attribute of an event is at the sixth.
pub(super) const DEEPEST: usize = 30;

members! { pub(super) RequestMember { ResourceSpans = "resourceSpans" } }
members! { pub(super) ResourceMember { Resource = "resource", ScopeSpans = "scopeSpans" } }
members! { pub(super) ScopeMember { Scope = "scope", Spans = "spans", SchemaUrl = "schemaUrl" } }
members! { pub(super) SpanMember {
    TraceId = "traceId",
    SpanId = "spanId",
    TraceState = "traceState",
    ParentSpanId = "parentSpanId",
    Flags = "flags",
    Name = "name",
    Kind = "kind",
    Start = "startTimeUnixNano",
    End = "endTimeUnixNano",
    Attributes = "attributes",
    DroppedAttributes = "droppedAttributesCount",
    Events = "events",
    DroppedEvents = "droppedEventsCount",
    Links = "links",
    DroppedLinks = "droppedLinksCount",
    Status = "status",
} }
members! { EventMember {
    Time = "timeUnixNano",
    Name = "name",
    Attributes = "attributes",
    DroppedAttributes = "droppedAttributesCount",
} }
members! { LinkMember {
    TraceId = "traceId",
    SpanId = "spanId",
    TraceState = "traceState",
    Attributes = "attributes",
    DroppedAttributes = "droppedAttributesCount",
    Flags = "flags",
} }
members! { StatusMember { Message = "message", Code = "code" } }
members! { ResourcesMember { Attributes = "attributes", DroppedAttributes = "droppedAttributesCount" } }
members! { ScopesMember {
    Name = "name",
    Version = "version",
    Attributes = "attributes",
    DroppedAttributes = "droppedAttributesCount",
} }
members! { AttributeMember { Key = "key", Value = "value" } }
members! { ValuesMember { Values = "values" } }
members! { ValueMember {
    String = "stringValue",
    Bool = "boolValue",
    Int = "intValue",
    Double = "doubleValue",
    Array = "arrayValue",
    List = "kvlistValue",
    Bytes = "bytesValue",
} }

/// Reads a request, and gives the resource as it stands and the spans of each `ResourceSpans` to `take`.
/// Whether there was anything in it.
pub(super) fn request(
    json: &mut Json<'_>,
    faults: &mut Faults,
    mut take: impl FnMut(&str, Vec<ScopeSpans>, &mut Faults) -> Result<(), Found>,
) -> Result<bool, Found> {
    let mut had_any = None;
    json.members(|json, RequestMember::ResourceSpans| {
        had_any = Some(false);
        json.elements(|json| {
            had_any = Some(true);
            let (resource, scopes) = resource_spans(json, faults)?;
            take(resource, scopes, faults)
        })
    })?;
    had_any.ok_or_else(|| Found::new(Fault::UnknownFormat, "an object without resourceSpans"))
}

fn resource_spans<'a>(json: &mut Json<'a>, faults: &mut Faults) -> Result<(&'a str, Vec<ScopeSpans>), Found> {
    let mut resource = "{}";
    let mut scopes = Vec::new();
    json.members(|json, member| match member {
        ResourceMember::Resource => {
            resource = json.raw()?;
            Ok(())
        }
        ResourceMember::ScopeSpans => json.elements(|json| {
            let scope = scope_spans(json, faults)?;
            if !scope.spans.is_empty() {
                scopes.push(scope);
            }
            Ok(())
        }),
    })?;
    Ok((resource, scopes))
}

fn scope_spans(json: &mut Json<'_>, faults: &mut Faults) -> Result<ScopeSpans, Found> {
    let mut read = ScopeSpans::default();
    json.members(|json, member| {
        match member {
            // The spans are taken also where it can't be.
            ScopeMember::Scope => {
                let place = &mut read.scope;
                json.alone(faults, |json, faults| {
                    *place = Some(scope(json, faults)?);
                    Ok(())
                })?;
            }
            ScopeMember::Spans => {
                read.spans.reserve(USUAL_SPANS);
                json.elements(|json| {
                    json.append(&mut read.spans, faults, span)?;
                    Ok(())
                })?;
                trim(&mut read.spans);
            }
            ScopeMember::SchemaUrl => read.schema_url = json.string()?,
        }
        Ok(())
    })?;
    Ok(read)
}

fn scope(json: &mut Json<'_>, faults: &mut Faults) -> Result<InstrumentationScope, Found> {
    let mut scope = InstrumentationScope::default();
    json.members(|json, member| {
        match member {
            ScopesMember::Name => scope.name = json.string()?,
            ScopesMember::Version => scope.version = json.string()?,
            ScopesMember::Attributes => scope.attributes = attributes(json, faults)?,
            ScopesMember::DroppedAttributes => scope.dropped_attributes_count = json.integer()?,
        }
        Ok(())
    })?;
    Ok(scope)
}

/// Whether all is well with a scope.
pub(super) fn is_usual_scope(text: &str) -> bool {
    let mut faults = Faults::default();
    scope(&mut Json::new(text), &mut faults).is_ok() && faults.is_empty()
}

/// The attributes of a resource, and how many its sender left out.
pub(super) fn resource(text: &str, faults: &mut Faults) -> Result<(Vec<KeyValue>, u32), Found> {
    let (mut of_resource, mut dropped) = (Vec::new(), 0);
    Json::new(text).members(|json, member| {
        match member {
            ResourcesMember::Attributes => of_resource = attributes(json, faults)?,
            ResourcesMember::DroppedAttributes => dropped = json.integer()?,
        }
        Ok(())
    })?;
    Ok((of_resource, dropped))
}

fn span(json: &mut Json<'_>, faults: &mut Faults, span: &mut Span) -> Result<(), Found> {
    let (mut trace_id, mut span_id, mut parent) = (None, None, None);
    let (mut start, mut end) = (None, None);
    json.members(|json, member| {
        match member {
            SpanMember::TraceId => trace_id = Some(id::<16>(&json.text()?, faults)?),
            SpanMember::SpanId => span_id = Some(id::<8>(&json.text()?, faults)?),
            SpanMember::ParentSpanId => parent = parent_id(&json.text()?, faults)?,
            SpanMember::Start => start = Some(json.integer()?),
            SpanMember::End => end = Some(json.integer()?),
            SpanMember::Name => span.name = json.string()?,
            SpanMember::TraceState => span.trace_state = json.string()?,
            SpanMember::Flags => span.flags = json.integer()?,
            SpanMember::Kind => span.kind = json.integer()?,
            SpanMember::Attributes => span.attributes = attributes(json, faults)?,
            SpanMember::DroppedAttributes => span.dropped_attributes_count = json.integer()?,
            SpanMember::Events => json.elements(|json| {
                span.events.push(event(json, faults)?);
                Ok(())
            })?,
            SpanMember::DroppedEvents => span.dropped_events_count = json.integer()?,
            SpanMember::Links => json.elements(|json| {
                span.links.push(link(json, faults)?);
                Ok(())
            })?,
            SpanMember::DroppedLinks => span.dropped_links_count = json.integer()?,
            SpanMember::Status => span.status = Some(status(json)?),
        }
        Ok(())
    })?;
    let trace_id = required(trace_id, "a traceId")?;
    let span_id = required(span_id, "a spanId")?;
    span.start_time_unix_nano = required(start, "a startTimeUnixNano")?;
    span.end_time_unix_nano = required(end, "an endTimeUnixNano")?;
    check_times(span.start_time_unix_nano, span.end_time_unix_nano, faults)?;
    span.trace_id = trace_id.into();
    span.span_id = span_id.into();
    span.parent_span_id = parent.map_or_else(Vec::new, Vec::from);
    Ok(())
}

fn event(json: &mut Json<'_>, faults: &mut Faults) -> Result<Event, Found> {
    let mut event = Event::default();
    json.members(|json, member| {
        match member {
            EventMember::Time => event.time_unix_nano = json.integer()?,
            EventMember::Name => event.name = json.string()?,
            EventMember::Attributes => event.attributes = attributes(json, faults)?,
            EventMember::DroppedAttributes => event.dropped_attributes_count = json.integer()?,
        }
        Ok(())
    })?;
    Ok(event)
}

fn link(json: &mut Json<'_>, faults: &mut Faults) -> Result<Link, Found> {
    let mut link = Link::default();
    json.members(|json, member| {
        match member {
            LinkMember::TraceId => link.trace_id = id::<16>(&json.text()?, faults)?.into(),
            LinkMember::SpanId => link.span_id = id::<8>(&json.text()?, faults)?.into(),
            LinkMember::TraceState => link.trace_state = json.string()?,
            LinkMember::Attributes => link.attributes = attributes(json, faults)?,
            LinkMember::DroppedAttributes => link.dropped_attributes_count = json.integer()?,
            LinkMember::Flags => link.flags = json.integer()?,
        }
        Ok(())
    })?;
    if link.trace_id.is_empty() || link.span_id.is_empty() {
        return Err(Found::new(Fault::WrongType, "a link without its ids"));
    }
    Ok(link)
}

fn status(json: &mut Json<'_>) -> Result<Status, Found> {
    let mut status = Status::default();
    json.members(|json, member| {
        match member {
            StatusMember::Message => status.message = json.string()?,
            StatusMember::Code => status.code = json.integer()?,
        }
        Ok(())
    })?;
    Ok(status)
}

fn attributes(json: &mut Json<'_>, faults: &mut Faults) -> Result<Vec<KeyValue>, Found> {
    let mut attributes = Vec::with_capacity(USUAL_ATTRIBUTES);
    json.elements(|json| {
        let attribute = match json.as_usual(usual_attribute) {
            Some(attribute) => attribute,
            None => attribute(json, 0)?,
        };
        if let Some(any_value::Value::StringValue(text)) = value(&attribute) {
            check_length(&attribute.key, text, faults);
        }
        attributes.push(attribute);
        Ok(())
    })?;
    trim(&mut attributes);
    Ok(attributes)
}

/// Most of a request are attributes, and in most of them all but the key and the value is always the same.
fn usual_attribute(text: &str, scan: &mut Scan<'_>) -> Option<KeyValue> {
    scan.literal(b"{\"key\":")?;
    let key = text.get(scan.text_at()?)?;
    scan.literal(b",\"value\":{")?;
    let value = match scan.literal(b"\"stringValue\":") {
        Some(()) => any_value::Value::StringValue(text.get(scan.text_at()?)?.to_owned()),
        None => {
            scan.literal(b"\"intValue\":")?;
            any_value::Value::IntValue(text.get(scan.text_at()?)?.parse().ok()?)
        }
    };
    scan.literal(b"}}")?;
    Some(super::value::attribute(key, value))
}

fn attribute(json: &mut Json<'_>, depth: usize) -> Result<KeyValue, Found> {
    let mut attribute = KeyValue::default();
    let mut has_key = false;
    json.members(|json, member| {
        match member {
            AttributeMember::Key => {
                attribute.key = json.string()?;
                has_key = true;
            }
            AttributeMember::Value => attribute.value = Some(any_value(json, depth)?),
        }
        Ok(())
    })?;
    match has_key {
        true => Ok(attribute),
        false => Err(Found::new(Fault::WrongType, "an attribute without a key")),
    }
}

/// The one member of an `AnyValue`.
fn any_value(json: &mut Json<'_>, depth: usize) -> Result<AnyValue, Found> {
    use any_value::Value;
    if depth > DEEPEST {
        return Err(Found::new(Fault::TooDeep, format!("more than {DEEPEST} values in values")));
    }
    let mut value = None;
    json.members(|json, member| {
        value = Some(match member {
            ValueMember::String => Value::StringValue(json.string()?),
            ValueMember::Bool => Value::BoolValue(json.boolean()?),
            ValueMember::Int => Value::IntValue(json.integer()?),
            ValueMember::Double => Value::DoubleValue(json.double()?),
            ValueMember::Array => {
                Value::ArrayValue(ArrayValue { values: values(json, |json| any_value(json, depth + 1))? })
            }
            ValueMember::List => {
                Value::KvlistValue(KeyValueList { values: values(json, |json| attribute(json, depth + 1))? })
            }
            ValueMember::Bytes => Value::BytesValue(bytes(&json.text()?)?),
        });
        Ok(())
    })?;
    Ok(AnyValue { value })
}

/// Those of a list or map.
fn values<T>(json: &mut Json<'_>, read: impl Fn(&mut Json<'_>) -> Result<T, Found>) -> Result<Vec<T>, Found> {
    let mut values = Vec::new();
    json.members(|json, ValuesMember::Values| {
        json.elements(|json| {
            values.push(read(json)?);
            Ok(())
        })
    })?;
    Ok(values)
}

fn bytes(text: &str) -> Result<Vec<u8>, Found> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|error| Found::new(Fault::WrongType, format!("bytesValue is not base64: {error}")))
}
