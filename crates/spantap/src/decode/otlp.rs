//! Decodes an OTLP/JSON `ExportTraceServiceRequest` of any OpenTelemetry exporter.
//!
//! The official types can read it, too (`with-serde`), but take many times as long and refuse the whole request for the
//! fault of one span.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, Status, status::StatusCode};

use super::fault::{Fault, Found};
use super::faults::{ALLOCATION, Faults, OF_PROCESS};
use super::json::{Json, members};
use super::open::OpenReport;
use super::place::Times;
use super::sequence;
use super::value::{
    USUAL_ATTRIBUTES, USUAL_SPANS, bytes_of, check_length, id, kind_named, parent_id, put_parent,
    rename_reserved, required, trim,
};
use crate::span::attributes::value;

/// The deepest nesting of values. Each level takes up to three protobuf messages, and an event's attribute is at the
/// sixth level already. Readers of protobuf refuse more than 100 levels.
pub(super) const DEEPEST: usize = 30;

// By the rules of protobuf's JSON each member has two names. Requests from 2022 and before have yet other names.
members! { pub(super) RequestMember {
    ResourceSpans = "resourceSpans" | "resource_spans",
    Sequence = "tracingUsdt",
    Open = "tracingUsdtOpen",
} }
members! { pub(super) ResourceMember {
    Resource = "resource",
    ScopeSpans = "scopeSpans" | "scope_spans" | "instrumentationLibrarySpans" | "instrumentation_library_spans",
    SchemaUrl = "schemaUrl" | "schema_url",
} }
members! { pub(super) ScopeMember {
    Scope = "scope" | "instrumentationLibrary" | "instrumentation_library",
    Spans = "spans",
    SchemaUrl = "schemaUrl" | "schema_url",
} }
members! { pub(super) SpanMember {
    TraceId = "traceId" | "trace_id",
    SpanId = "spanId" | "span_id",
    TraceState = "traceState" | "trace_state",
    ParentSpanId = "parentSpanId" | "parent_span_id",
    Flags = "flags",
    Name = "name",
    Kind = "kind",
    Start = "startTimeUnixNano" | "start_time_unix_nano",
    End = "endTimeUnixNano" | "end_time_unix_nano",
    Attributes = "attributes",
    DroppedAttributes = "droppedAttributesCount" | "dropped_attributes_count",
    Events = "events",
    DroppedEvents = "droppedEventsCount" | "dropped_events_count",
    Links = "links",
    DroppedLinks = "droppedLinksCount" | "dropped_links_count",
    Status = "status",
} }
members! { OpenMember {
    At = "timeUnixNano",
    Threshold = "thresholdNano",
    Count = "count",
    Spans = "spans",
} }
members! { EventMember {
    Time = "timeUnixNano" | "time_unix_nano",
    Name = "name",
    Attributes = "attributes",
    DroppedAttributes = "droppedAttributesCount" | "dropped_attributes_count",
} }
members! { LinkMember {
    TraceId = "traceId" | "trace_id",
    SpanId = "spanId" | "span_id",
    TraceState = "traceState" | "trace_state",
    Attributes = "attributes",
    DroppedAttributes = "droppedAttributesCount" | "dropped_attributes_count",
    Flags = "flags",
} }
members! { StatusMember { Message = "message", Code = "code" } }
members! { ResourcesMember {
    Attributes = "attributes",
    DroppedAttributes = "droppedAttributesCount" | "dropped_attributes_count",
} }
members! { ScopesMember {
    Name = "name",
    Version = "version",
    Attributes = "attributes",
    DroppedAttributes = "droppedAttributesCount" | "dropped_attributes_count",
} }
members! { AttributeMember { Key = "key", Value = "value" } }
members! { ValuesMember { Values = "values" } }
members! { ValueMember {
    String = "stringValue" | "string_value",
    Bool = "boolValue" | "bool_value",
    Int = "intValue" | "int_value",
    Double = "doubleValue" | "double_value",
    Array = "arrayValue" | "array_value",
    List = "kvlistValue" | "kvlist_value",
    Bytes = "bytesValue" | "bytes_value",
} }

/// Reads a request. Passes the spans of each `ResourceSpans` to `take`, with the resource as JSON text. Returns whether
/// there were unknown members.
pub(super) fn request(
    json: &mut Json<'_>,
    mut take: impl FnMut(&str, Vec<ScopeSpans>, &mut Faults),
) -> Result<bool, Found> {
    let mut has_unknown = None;
    json.members_of_spans(|json, member| {
        if let RequestMember::Sequence = member {
            return sequence::take(json);
        }
        if let RequestMember::Open = member {
            json.open = Some(open_report(json)?);
            return Ok(());
        }
        let has_unknown = has_unknown.get_or_insert(false);
        let unknown_before = json.unknown;
        json.elements(|json| {
            let read = json.attempt(|json| {
                json.faults.grow(OF_PROCESS)?;
                resource_spans(json)
            });
            match read? {
                Ok((resource, scopes)) => take(resource, scopes, &mut json.faults),
                Err(found) => json.faults.add(found),
            }
            Ok(())
        })?;
        *has_unknown |= json.unknown > unknown_before;
        Ok(())
    })?;
    has_unknown.ok_or_else(|| Found::new(Fault::UnknownFormat, "an object without resourceSpans"))
}

fn resource_spans<'a>(json: &mut Json<'a>) -> Result<(&'a str, Vec<ScopeSpans>), Found> {
    let mut resource = "{}";
    let mut scopes = Vec::new();
    json.members_of_spans(|json, member| match member {
        ResourceMember::Resource => {
            resource = json.raw()?;
            Ok(())
        }
        // Not forwarded.
        ResourceMember::SchemaUrl => json.raw().map(drop),
        ResourceMember::ScopeSpans => json.elements(|json| {
            match json.attempt(scope_spans)? {
                Ok(scope) if scope.spans.is_empty() => {}
                Ok(scope) => scopes.push(scope),
                Err(found) => json.faults.add(found),
            }
            Ok(())
        }),
    })?;
    Ok((resource, scopes))
}

fn scope_spans(json: &mut Json<'_>) -> Result<ScopeSpans, Found> {
    let mut read = ScopeSpans::default();
    json.members_of_spans(|json, member| {
        match member {
            // A scope that can't be read does not affect its spans.
            ScopeMember::Scope => match json.attempt(scope)? {
                Ok(scope) => read.scope = Some(scope),
                Err(found) => json.faults.leave_out(found.of("scope")),
            },
            ScopeMember::Spans => {
                read.spans.reserve(USUAL_SPANS);
                json.elements(|json| add_span(json, &mut read.spans))?;
                trim(&mut read.spans);
            }
            ScopeMember::SchemaUrl => read.schema_url = json.string()?,
        }
        Ok(())
    })?;
    Ok(read)
}

/// Reads the member `tracingUsdtOpen`.
fn open_report(json: &mut Json<'_>) -> Result<OpenReport, Found> {
    let mut report = OpenReport::default();
    json.members_of_spans(|json, member| {
        match member {
            OpenMember::At => report.at_ns = json.time()?,
            OpenMember::Threshold => report.threshold_ns = json.integer()?,
            OpenMember::Count => report.count = json.integer()?,
            OpenMember::Spans => json.elements(|json| add_span(json, &mut report.spans))?,
        }
        Ok(())
    })?;
    Ok(report.checked(&mut json.faults))
}

fn add_span(json: &mut Json<'_>, spans: &mut Vec<Span>) -> Result<(), Found> {
    // Reads into the list, because spans are expensive to move.
    spans.push(Span::default());
    let Some(place) = spans.last_mut() else { return Ok(()) };
    let read = json.attempt(|json| {
        json.faults.grow(size_of::<Span>() + ALLOCATION)?;
        span(json, place)
    });
    if let Err(found) = read? {
        spans.pop();
        json.faults.add(found);
    }
    Ok(())
}

fn scope(json: &mut Json<'_>) -> Result<InstrumentationScope, Found> {
    let mut scope = InstrumentationScope::default();
    let mut left_out = 0;
    json.optional_members(|json, member| {
        match member {
            ScopesMember::Name => scope.name = json.string()?,
            ScopesMember::Version => scope.version = json.string()?,
            ScopesMember::Attributes => attributes(json, &mut scope.attributes, &mut left_out)?,
            ScopesMember::DroppedAttributes => scope.dropped_attributes_count = json.integer()?,
        }
        Ok(())
    })?;
    add(&mut scope.dropped_attributes_count, left_out);
    Ok(scope)
}

/// Reads a resource. Returns its attributes, and how many were dropped by the sender or here.
pub(super) fn resource(text: &str, faults: &mut Faults) -> Result<(Vec<KeyValue>, u32), Found> {
    let (mut of_resource, mut dropped, mut left_out) = (Vec::new(), 0, 0);
    let mut json = Json::new(text, std::mem::take(faults));
    let read = json.optional_members(|json, member| {
        match member {
            ResourcesMember::Attributes => attributes(json, &mut of_resource, &mut left_out)?,
            ResourcesMember::DroppedAttributes => dropped = json.integer()?,
        }
        Ok(())
    });
    *faults = json.faults;
    read?;
    add(&mut dropped, left_out);
    Ok((of_resource, dropped))
}

/// Adds to the sender's own count, which may be any number.
fn add(dropped: &mut u32, left_out: u32) {
    *dropped = dropped.saturating_add(left_out);
}

fn span(json: &mut Json<'_>, span: &mut Span) -> Result<(), Found> {
    let (mut trace_id, mut span_id, mut parent) = (None, None, None);
    let mut times = Times::default();
    let (mut attributes_left_out, mut events_left_out, mut links_left_out) = (0, 0, 0);
    json.optional_members(|json, member| {
        match member {
            SpanMember::TraceId => trace_id = Some(json.attempt(id::<16>)?),
            SpanMember::SpanId => span_id = Some(json.attempt(id::<8>)?),
            SpanMember::ParentSpanId => parent = Some(json.attempt(parent_id)?),
            // In protobuf, 0 means that the time is not set.
            SpanMember::Start => times.start = Some(json.time()?).filter(|start| *start > 0),
            SpanMember::End => times.end = Some(json.time()?).filter(|end| *end > 0),
            SpanMember::Name => span.name = json.string()?,
            SpanMember::TraceState => span.trace_state = json.string()?,
            SpanMember::Flags => span.flags = json.integer()?,
            SpanMember::Kind => span.kind = json.choice(kind_named)?,
            SpanMember::Attributes => attributes(json, &mut span.attributes, &mut attributes_left_out)?,
            SpanMember::DroppedAttributes => span.dropped_attributes_count = json.integer()?,
            SpanMember::Events => json.append(&mut span.events, &mut events_left_out, event)?,
            SpanMember::DroppedEvents => span.dropped_events_count = json.integer()?,
            SpanMember::Links => json.append(&mut span.links, &mut links_left_out, link)?,
            SpanMember::DroppedLinks => span.dropped_links_count = json.integer()?,
            SpanMember::Status => span.status = Some(status(json)?),
        }
        Ok(())
    })?;
    span.trace_id = required(trace_id, "a span without a traceId")?.into();
    span.span_id = required(span_id, "a span without a spanId")?.into();
    put_parent(span, parent, &mut json.faults);
    add(&mut span.dropped_attributes_count, attributes_left_out);
    add(&mut span.dropped_events_count, events_left_out);
    add(&mut span.dropped_links_count, links_left_out);
    times.put(span, &mut json.faults);
    Ok(())
}

fn event(json: &mut Json<'_>) -> Result<Event, Found> {
    let mut event = Event::default();
    let mut left_out = 0;
    json.optional_members(|json, member| {
        match member {
            EventMember::Time => event.time_unix_nano = json.time()?,
            EventMember::Name => event.name = json.string()?,
            EventMember::Attributes => attributes(json, &mut event.attributes, &mut left_out)?,
            EventMember::DroppedAttributes => event.dropped_attributes_count = json.integer()?,
        }
        Ok(())
    })?;
    add(&mut event.dropped_attributes_count, left_out);
    Ok(event)
}

fn link(json: &mut Json<'_>) -> Result<Link, Found> {
    let mut link = Link::default();
    let (mut trace_id, mut span_id) = (None, None);
    let mut left_out = 0;
    json.optional_members(|json, member| {
        match member {
            LinkMember::TraceId => trace_id = Some(json.attempt(id::<16>)?),
            LinkMember::SpanId => span_id = Some(json.attempt(id::<8>)?),
            LinkMember::TraceState => link.trace_state = json.string()?,
            LinkMember::Attributes => attributes(json, &mut link.attributes, &mut left_out)?,
            LinkMember::DroppedAttributes => link.dropped_attributes_count = json.integer()?,
            LinkMember::Flags => link.flags = json.integer()?,
        }
        Ok(())
    })?;
    let bad_reference = |found| Found { fault: Fault::BadReference, ..found };
    link.trace_id = required(trace_id, "a link without a traceId").map_err(bad_reference)?.into();
    link.span_id = required(span_id, "a link without a spanId").map_err(bad_reference)?.into();
    add(&mut link.dropped_attributes_count, left_out);
    Ok(link)
}

fn status(json: &mut Json<'_>) -> Result<Status, Found> {
    let named = |name: &str| {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("STATUS_CODE_").unwrap_or(&name);
        StatusCode::from_str_name(&format!("STATUS_CODE_{name}")).map(|code| code as i32)
    };
    let mut status = Status::default();
    json.optional_members(|json, member| {
        match member {
            StatusMember::Message => status.message = json.string()?,
            StatusMember::Code => status.code = json.choice(named)?,
        }
        Ok(())
    })?;
    Ok(status)
}

/// Reads attributes into `list`. Leaves out those that can't be read, and counts them in `dropped`.
fn attributes(json: &mut Json<'_>, list: &mut Vec<KeyValue>, dropped: &mut u32) -> Result<(), Found> {
    list.reserve(USUAL_ATTRIBUTES);
    json.append(list, dropped, |json| {
        let mut attribute = attribute(json, 0)?;
        rename_reserved(&mut attribute.key, &json.faults);
        if let Some(any_value::Value::StringValue(text)) = value(&attribute) {
            check_length(&attribute.key, text, &mut json.faults);
        }
        Ok(attribute)
    })?;
    trim(list);
    Ok(())
}

fn attribute(json: &mut Json<'_>, depth: usize) -> Result<KeyValue, Found> {
    let mut attribute = KeyValue::default();
    let mut has_key = false;
    json.members(|json, member| {
        match member {
            AttributeMember::Key => {
                attribute.key = json.text()?.into_owned();
                has_key = true;
            }
            AttributeMember::Value => {
                attribute.value = Some(any_value(json, depth).map_err(|found| found.of(&attribute.key))?);
            }
        }
        Ok(())
    })?;
    match has_key {
        true => Ok(attribute),
        false => Err(Found::new(Fault::WrongType, "an attribute without a key")),
    }
}

/// Reads an `AnyValue`, which has at most one member.
fn any_value(json: &mut Json<'_>, depth: usize) -> Result<AnyValue, Found> {
    use any_value::Value;
    if depth > DEEPEST {
        return Err(Found::new(Fault::TooDeep, format!("more than {DEEPEST} values in values")));
    }
    // JavaScript exporters write null, for example in lists.
    if json.is_null() {
        return Ok(AnyValue::default());
    }
    let unknown_before = json.unknown;
    let mut value = None;
    json.members(|json, member| {
        let read = match member {
            ValueMember::String => Value::StringValue(json.text()?.into_owned()),
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
        };
        match value.replace(read) {
            None => Ok(()),
            Some(_) => Err(Found::new(Fault::WrongType, "two values where one belongs")),
        }
    })?;
    match value {
        None if json.unknown > unknown_before => {
            Err(Found::new(Fault::WrongType, "a value of an unknown kind"))
        }
        value => Ok(AnyValue { value }),
    }
}

/// Reads the values of a list or a map.
fn values<T>(json: &mut Json<'_>, read: impl Fn(&mut Json<'_>) -> Result<T, Found>) -> Result<Vec<T>, Found> {
    let mut values = Vec::new();
    json.members(|json, ValuesMember::Values| {
        json.elements(|json| {
            json.faults.grow(size_of::<T>() + ALLOCATION)?;
            values.push(read(json)?);
            Ok(())
        })
    })?;
    Ok(values)
}

fn bytes(text: &str) -> Result<Vec<u8>, Found> {
    bytes_of(text).ok_or_else(|| Found::new(Fault::WrongType, "a bytesValue that is not base64"))
}
