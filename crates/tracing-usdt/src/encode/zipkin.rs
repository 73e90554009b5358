//! Zipkin v2 spans, a JSON array of them to a datagram, ready to POST to `/api/v2/spans`.
//!
//! Status, dropped counts and event attributes are mapped as OpenTelemetry's
//! [transformation to Zipkin](https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/) says.

use std::borrow::Cow;

use crate::clock::{Monotonic, WallOffset};
use crate::context::SpanContext;
use crate::encode::json::{Object, array, fields_into, string, value_text};
use crate::fields::Fields;
use crate::identity::Identity;
use crate::resource::Resource;
use crate::span::{Elapsed, Event, Record};

/// A closed span.
pub(crate) struct Span<'a> {
    pub(crate) identity: Identity,
    pub(crate) start: Monotonic,
    pub(crate) elapsed: Elapsed,
    pub(crate) record: &'a Record,
}

/// The datagram that holds this one span.
pub(crate) fn datagram(span: &Span<'_>, resource: &Resource) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    array(&mut out, [span], |out, span| write_span(out, span, resource));
    out
}

fn write_span(out: &mut Vec<u8>, span: &Span<'_>, resource: &Resource) {
    let record = span.record;
    let fields = record.fields();
    let name = fields.get("otel.name").map_or(Cow::Borrowed(record.metadata.name()), value_text);

    let Identity { context, parent_id, wall } = span.identity;
    let mut object = Object::open(out);
    object.string("traceId", &context.trace_id.to_string());
    object.string("id", &context.span_id.to_string());
    if let Some(parent) = parent_id {
        object.string("parentId", &parent.to_string());
    }
    if let Some(kind) = fields.get("otel.kind").and_then(|kind| kind_name(&value_text(kind))) {
        object.string("kind", kind);
    }
    object.string("name", &name);
    object.number("timestamp", wall.micros(span.start));
    object.number("duration", (span.elapsed.duration_ns / 1000).max(1));
    local_endpoint(&mut object, resource);
    if !record.events().is_empty() {
        array(object.key("annotations"), record.events(), |out, event| {
            annotation(out, event, wall);
        });
    }
    let mut tags = Tags { object: Object::open(object.key("tags")), fields };
    write_tags(&mut tags, span, resource);
    tags.object.close();
    object.close();
}

/// The fields first; then ours, where no field has the name already, so that no key comes twice.
fn write_tags(tags: &mut Tags<'_>, span: &Span<'_>, resource: &Resource) {
    let record = span.record;
    for (key, value) in record.fields().iter() {
        if !INTERPRETED.contains(&key) {
            tags.object.string(key, &value_text(value));
        }
    }

    match Status::of(record) {
        Status::Unset => {}
        Status::Ok => tags.ours("otel.status_code", "OK"),
        Status::Error(description) => {
            tags.ours("otel.status_code", "ERROR");
            tags.ours("error", &description);
        }
    }

    let metadata = record.metadata;
    tags.ours("level", metadata.level().as_str());
    tags.ours("target", metadata.target());
    if let Some(file) = metadata.file() {
        tags.ours("code.file.path", file);
    }
    if let Some(line) = metadata.line() {
        tags.ours("code.line.number", &line.to_string());
    }
    if let Some(module) = metadata.module_path() {
        tags.ours("code.module.name", module);
    }
    if let Some(id) = record.thread.id {
        tags.ours("thread.id", &id.to_string());
    }
    if let Some(name) = &record.thread.name {
        tags.ours("thread.name", name);
    }
    let elapsed = span.elapsed;
    tags.ours("busy_ns", &elapsed.busy_ns.to_string());
    let idle_ns = elapsed.duration_ns.saturating_sub(elapsed.busy_ns);
    tags.ours("idle_ns", &idle_ns.to_string());

    if !record.links().is_empty() {
        let ids: Vec<String> =
            record.links().iter().map(|link| format!("{}-{}", link.trace_id, link.span_id)).collect();
        tags.ours("follows_from", &ids.join(","));
    }
    let left_out = record.left_out;
    for (key, count) in [
        ("otel.dropped_attributes_count", left_out.attributes),
        ("otel.dropped_events_count", left_out.events),
        ("otel.dropped_links_count", left_out.links),
        ("tracing_usdt.shortened_values_count", left_out.shortened),
    ] {
        if count > 0 {
            tags.ours(key, &count.to_string());
        }
    }
    for (key, value) in resource.attributes() {
        if !OURS.contains(&key) {
            tags.ours(key, value);
        }
    }
}

/// Fields that say something about the span instead of being a tag of it.
const INTERPRETED: [&str; 4] = ["otel.name", "otel.kind", "otel.status_code", "otel.status_description"];

/// The tags that [`write_tags`] makes; a resource attribute may not repeat one.
const OURS: [&str; 16] = [
    "otel.status_code",
    "error",
    "level",
    "target",
    "code.file.path",
    "code.line.number",
    "code.module.name",
    "thread.id",
    "thread.name",
    "busy_ns",
    "idle_ns",
    "follows_from",
    "otel.dropped_attributes_count",
    "otel.dropped_events_count",
    "otel.dropped_links_count",
    "tracing_usdt.shortened_values_count",
];

struct Tags<'a> {
    object: Object<'a>,
    fields: &'a Fields,
}

impl Tags<'_> {
    fn ours(&mut self, key: &str, value: &str) {
        // An interpreted field is not among the tags, so its name is free.
        if INTERPRETED.contains(&key) || self.fields.get(key).is_none() {
            self.object.string(key, value);
        }
    }
}

enum Status {
    Unset,
    Ok,
    Error(String),
}

impl Status {
    /// What the span's own fields say stands; else what an event inside it told. A description
    /// alone means an error, as in tracing-opentelemetry.
    fn of(record: &Record) -> Self {
        let field = |key| record.fields().get(key).map(|value| value_text(value).into_owned());
        let code = field("otel.status_code").map(|code| code.to_ascii_lowercase());
        let description = field("otel.status_description");
        match (code.as_deref(), description, record.event_error()) {
            (Some("ok"), ..) => Self::Ok,
            (_, Some(description), _) => Self::Error(description),
            (_, None, Some(error)) => Self::Error(error.to_owned()),
            (Some("error"), None, None) => Self::Error(String::new()),
            _ => Self::Unset,
        }
    }
}

/// Zipkin knows no internal kind: it leaves it out.
fn kind_name(kind: &str) -> Option<&'static str> {
    ["CLIENT", "SERVER", "PRODUCER", "CONSUMER"].into_iter().find(|name| name.eq_ignore_ascii_case(kind))
}

fn local_endpoint(object: &mut Object<'_>, resource: &Resource) {
    let mut endpoint = Object::open(object.key("localEndpoint"));
    endpoint.string("serviceName", resource.service_name());
    endpoint.close();
}

/// `"name": {attributes}`, the attributes with their JSON types.
fn annotation(out: &mut Vec<u8>, event: &Event, wall: WallOffset) {
    let mut value = Vec::new();
    string(&mut value, &event.name);
    value.extend_from_slice(b": ");
    let mut attributes = Object::open(&mut value);
    for (key, text) in [("level", event.metadata.level().as_str()), ("target", event.metadata.target())] {
        if event.fields.get(key).is_none() {
            attributes.string(key, text);
        }
    }
    fields_into(&mut attributes, &event.fields);
    attributes.close();

    let mut object = Object::open(out);
    object.number("timestamp", wall.micros(event.at));
    object.string("value", &String::from_utf8_lossy(&value));
    object.close();
}

/// The datagram that tells of losses: a span of its own trace over the interval they fell in, one
/// tag a reason.
pub(crate) fn losses(
    context: SpanContext,
    start_us: u64,
    end_us: u64,
    reasons: &[(&str, u64)],
    resource: &Resource,
) -> Vec<u8> {
    let mut out = Vec::new();
    array(&mut out, [()], |out, ()| {
        let mut object = Object::open(out);
        object.string("traceId", &context.trace_id.to_string());
        object.string("id", &context.span_id.to_string());
        object.string("name", "tracing_usdt.dropped");
        object.number("timestamp", start_us);
        object.number("duration", end_us.saturating_sub(start_us).max(1));
        local_endpoint(&mut object, resource);
        let mut tags = Object::open(object.key("tags"));
        for (reason, spans) in reasons {
            tags.string(&format!("tracing_usdt.dropped.{reason}"), &spans.to_string());
        }
        tags.close();
        object.close();
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{SpanId, TraceId};
    use crate::error::Reporter;
    use crate::fields::Value;
    use crate::span::{Timing, tests::metadata};
    use crate::thread;
    use proptest::prelude::*;
    use serde_json::Value as Json;

    /// Any value, with what a tag and a JSON field should say of it.
    fn any_value() -> impl Strategy<Value = (Value, String, Json)> {
        let beyond = |n: String| Json::from(n);
        prop_oneof![
            any::<String>().prop_map(|s| (Value::Text(s.clone()), s.clone(), Json::from(s))),
            any::<i64>().prop_map(|n| (Value::I64(n), n.to_string(), Json::from(n))),
            any::<u64>().prop_map(|n| (Value::U64(n), n.to_string(), Json::from(n))),
            any::<bool>().prop_map(|b| (Value::Bool(b), b.to_string(), Json::from(b))),
            any::<u128>().prop_map(move |n| {
                let json = u64::try_from(n).map_or_else(|_| beyond(n.to_string()), Json::from);
                (Value::U128(n), n.to_string(), json)
            }),
            any::<i128>().prop_map(move |n| {
                let json = i64::try_from(n).map_or_else(|_| beyond(n.to_string()), Json::from);
                (Value::I128(n), n.to_string(), json)
            }),
            // Finite ones: JSON has no others, and those have names of their own.
            any::<f64>().prop_map(|n| (Value::F64(n), Json::from(n).to_string(), Json::from(n))),
            prop::collection::vec(any::<String>(), 0..4).prop_map(|items| {
                let json = Json::from(items.clone());
                (Value::List(items), json.to_string(), json)
            }),
        ]
    }

    /// Any names and values; of equal names the last stands.
    fn any_fields() -> impl Strategy<Value = Vec<(String, (Value, String, Json))>> {
        prop::collection::vec((any::<String>(), any_value()), 0..12)
    }

    fn fields_of(all: &[(String, (Value, String, Json))]) -> Fields {
        let mut fields = Fields::default();
        for (name, (value, ..)) in all {
            fields.set(name.clone().into(), value.clone());
        }
        fields
    }

    fn parse(datagram: &[u8]) -> Json {
        serde_json::from_slice(datagram).expect("whatever the input, it is JSON")
    }

    fn datagram_of(record: &Record, service: &str, attributes: Vec<(String, String)>) -> Vec<u8> {
        let start = Monotonic::now();
        let trace_id = TraceId::random();
        let span = Span {
            identity: Identity {
                context: SpanContext { trace_id, span_id: SpanId::random(), sampled: true },
                parent_id: None,
                wall: crate::clock::wall_offset(start),
            },
            start,
            elapsed: Timing::start(start).finish(start),
            record,
        };
        datagram(&span, &Resource::new(Some(service.to_owned()), attributes, &Reporter::default()))
    }

    /// Whatever the mix of texts that grow most when escaped, short ones and long ones.
    #[test]
    fn the_largest_datagram_stays_below_64_kib() {
        for text in ["\u{1}".repeat(8000), "\"".repeat(300), "x".repeat(16_000), String::new()] {
            let mut record = Record::new(metadata(), thread::info(), Fields::default());
            for n in 0..2000 {
                let mut fields = Fields::default();
                fields.set(format!("{text:.40}{n}").into(), Value::Text(text.clone()));
                record.add_fields(fields.clone());
                let message = (n % 2 == 0).then(|| text.clone());
                record.add_event(Monotonic::now(), metadata(), message, fields);
                record.add_event(Monotonic::now(), metadata(), None, Fields::default());
                let mut failure = Fields::default();
                failure.set("error".into(), Value::Text(text.clone()));
                failure.set("error.chain".into(), Value::List(vec![text.clone()]));
                record.add_event(Monotonic::now(), metadata(), None, failure);
                record.add_link(SpanContext {
                    trace_id: TraceId::random(),
                    span_id: SpanId::random(),
                    sampled: true,
                });
            }
            let bytes = datagram_of(&record, &text, vec![("k".repeat(1000), "\u{1}".repeat(400))]).len();
            assert!((16_384..65_536).contains(&bytes), "{bytes} bytes of {:?}", text.get(..1));
        }
    }

    proptest! {
        #[test]
        fn any_field_reads_back_from_the_tags(all in any_fields(), service in any::<String>()) {
            let record = Record::new(metadata(), thread::info(), fields_of(&all));
            let parsed = parse(&datagram_of(&record, &service, Vec::new()));
            let span = &parsed[0];
            prop_assert_eq!(&span["localEndpoint"]["serviceName"], &service);
            for (at, (name, (_, text, _))) in all.iter().enumerate() {
                let again = all[at + 1..].iter().any(|(later, _)| later == name);
                if !again && !INTERPRETED.contains(&&**name) {
                    let tag = span["tags"][name].as_str();
                    prop_assert_eq!(tag, Some(&**text), "{:?}", name);
                }
            }
        }

        #[test]
        fn any_event_reads_back_from_its_annotation(
            message in any::<String>(),
            all in any_fields(),
        ) {
            let mut record = Record::new(metadata(), thread::info(), Fields::default());
            record.add_event(Monotonic::now(), metadata(), Some(message.clone()), fields_of(&all));
            let parsed = parse(&datagram_of(&record, "test", Vec::new()));
            let value = parsed[0]["annotations"][0]["value"].as_str().expect("a string");
            let event = parse(format!("{{{value}}}").as_bytes());
            for (at, (name, (.., json))) in all.iter().enumerate() {
                if !all[at + 1..].iter().any(|(later, _)| later == name) {
                    prop_assert_eq!(&event[&message][name], json, "{:?}", name);
                }
            }
        }

        #[test]
        fn any_field_reads_back_from_a_probe(all in any_fields()) {
            let object = crate::encode::fields_object(&fields_of(&all));
            let read = parse(object.to_bytes());
            for (at, (name, (.., json))) in all.iter().enumerate() {
                if !all[at + 1..].iter().any(|(later, _)| later == name) {
                    prop_assert_eq!(&read[name], json, "{:?}", name);
                }
            }
        }
    }
}
