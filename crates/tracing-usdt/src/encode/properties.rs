//! Properties of both formats: whatever is said of a span reads back to the same.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::clock::{Monotonic, wall_offset};
use crate::context::{SpanId, TraceId};
use crate::error::Reporter;
use crate::fields::{Entry, Value};
use crate::identity::Identity;
use crate::span::{Record, Timing, tests::metadata};
use crate::thread;

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

fn entry(text: &str) -> Entry {
    Entry { key: "message".into(), value: Value::Text(text.to_owned()), cut: false }
}

fn parse(datagram: &[u8]) -> Json {
    serde_json::from_slice(datagram).expect("whatever the input, it is JSON")
}

fn datagram_of(format: Format, record: &Record, service: &str, attributes: Vec<(String, String)>) -> Vec<u8> {
    let start = Monotonic::now();
    let trace_id = TraceId::random();
    let span = Span {
        identity: Identity {
            context: SpanContext { trace_id, span_id: SpanId::random(), sampled: true },
            parent_id: None,
            wall: wall_offset(start),
        },
        start,
        elapsed: Timing::start(start).finish(start),
        record,
    };
    format.datagram(&span, &Resource::new(Some(service.to_owned()), attributes, &Reporter::default()))
}

/// The one span of an OTLP request, and its resource.
fn otlp_span(datagram: &[u8]) -> (Json, Json) {
    let mut request = parse(datagram);
    let mut spans = request["resourceSpans"][0].take();
    (spans["scopeSpans"][0]["spans"][0].take(), spans["resource"].take())
}

/// An attribute of OTLP as text.
fn otlp_text(of: &Json, key: &str) -> Option<String> {
    let all = of["attributes"].as_array().expect("a list");
    let mut with_key = all.iter().filter(|attribute| attribute["key"] == key);
    let value = &with_key.next()?["value"];
    assert!(with_key.next().is_none(), "{key:?} comes twice");
    let (kind, value) = value.as_object()?.iter().next()?;
    Some(match (&**kind, value) {
        ("stringValue" | "intValue", Json::String(text)) => text.clone(),
        ("doubleValue" | "boolValue", value) => value.to_string(),
        ("arrayValue", list) => {
            let items = list["values"].as_array()?.iter().map(|item| item["stringValue"].clone());
            Json::from_iter(items).to_string()
        }
        (kind, value) => format!("{kind} can't hold {value}"),
    })
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
            let message = (n % 2 == 0).then(|| entry(&text));
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
        for format in [Format::Zipkin, Format::Otlp] {
            let resource = vec![("k".repeat(1000), "\u{1}".repeat(400))];
            let bytes = datagram_of(format, &record, &text, resource).len();
            let of = text.get(..1);
            assert!((16_384..65_536).contains(&bytes), "{bytes} bytes of {of:?} as {format:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_field_reads_back_from_the_tags(all in any_fields(), service in any::<String>()) {
        let record = Record::new(metadata(), thread::info(), fields_of(&all));
        let parsed = parse(&datagram_of(Format::Zipkin, &record, &service, Vec::new()));
        let span = &parsed[0];
        prop_assert_eq!(&span["localEndpoint"]["serviceName"], &service);
        for (at, (name, (_, text, _))) in all.iter().enumerate() {
            let again = all[at + 1..].iter().any(|(later, _)| later == name);
            if !again && !name.starts_with("otel.") {
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
        record.add_event(Monotonic::now(), metadata(), Some(entry(&message)), fields_of(&all));
        let parsed = parse(&datagram_of(Format::Zipkin, &record, "test", Vec::new()));
        let value = parsed[0]["annotations"][0]["value"].as_str().expect("a string");
        let event = parse(format!("{{{value}}}").as_bytes());
        for (at, (name, (.., json))) in all.iter().enumerate() {
            if !all[at + 1..].iter().any(|(later, _)| later == name) {
                prop_assert_eq!(&event[&message][name], json, "{:?}", name);
            }
        }
    }

    #[test]
    fn any_field_and_event_read_back_from_otlp(all in any_fields(), service in any::<String>()) {
        let mut record = Record::new(metadata(), thread::info(), fields_of(&all));
        record.add_event(Monotonic::now(), metadata(), Some(entry(&service)), fields_of(&all));
        let (span, resource) = otlp_span(&datagram_of(Format::Otlp, &record, &service, Vec::new()));
        prop_assert_eq!(otlp_text(&resource, "service.name"), Some(service.clone()));
        prop_assert_eq!(&span["events"][0]["name"], &service);
        for (at, (name, (_, text, _))) in all.iter().enumerate() {
            if !all[at + 1..].iter().any(|(later, _)| later == name) {
                prop_assert_eq!(otlp_text(&span, name), Some(text.clone()), "{:?}", name);
                prop_assert_eq!(otlp_text(&span["events"][0], name), Some(text.clone()), "{:?}", name);
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
