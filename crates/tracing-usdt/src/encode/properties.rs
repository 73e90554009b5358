//! Properties of both formats: whatever is said of a span reads back to the same.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::callsite;
use crate::clock::{Monotonic, wall_offset};
use crate::context::{SpanId, TraceId};
use crate::error::Reporter;
use crate::fields::tests::Any;
use crate::fields::{Fields, Owner};
use crate::identity::Identity;
use crate::limits::Limits;
use crate::link::Link;
use crate::span::{Record, RecordView, Timing, tests::metadata};
use crate::vocabulary::Vocabulary;

/// Any value, with what a tag and a JSON field should say of it.
fn any_value() -> impl Strategy<Value = (Any, String, Json)> {
    let beyond = |n: String| Json::from(n);
    prop_oneof![
        any::<String>().prop_map(|s| (Any::Text(s.clone()), s.clone(), Json::from(s))),
        any::<i64>().prop_map(|n| (Any::I64(n), n.to_string(), Json::from(n))),
        any::<u64>().prop_map(|n| (Any::U64(n), n.to_string(), Json::from(n))),
        any::<bool>().prop_map(|b| (Any::Bool(b), b.to_string(), Json::from(b))),
        any::<u128>().prop_map(move |n| {
            let json = u64::try_from(n).map_or_else(|_| beyond(n.to_string()), Json::from);
            (Any::U128(n), n.to_string(), json)
        }),
        any::<i128>().prop_map(move |n| {
            let json = i64::try_from(n).map_or_else(|_| beyond(n.to_string()), Json::from);
            (Any::I128(n), n.to_string(), json)
        }),
        // Finite ones: JSON has no others, and those have names of their own.
        any::<f64>().prop_map(|n| (Any::F64(n), Json::from(n).to_string(), Json::from(n))),
        prop::collection::vec(any::<String>(), 0..4).prop_map(|items| {
            let json = Json::from(items.clone());
            (Any::List(items), json.to_string(), json)
        }),
    ]
}

/// Any names and values; of equal names the last stands.
fn any_fields() -> impl Strategy<Value = Vec<(String, (Any, String, Json))>> {
    prop::collection::vec((any::<String>(), any_value()), 0..12)
}

const LIMITS: Limits = Limits { attributes: 128, characters: usize::MAX, vocabulary: Vocabulary::ALL };

fn fields_of(all: &[(String, (Any, String, Json))], owner: Owner) -> Fields {
    let mut fields = Fields::default();
    for (name, (value, ..)) in all {
        fields.put(owner, &LIMITS, name, value);
    }
    fields
}

fn record_of(fields: Fields) -> Record {
    let mut record = Record::default();
    record.fields = fields;
    record
}

/// Adds an event with a message, if there is one, and other fields.
fn add_event(record: &mut Record, message: Option<&str>, mut fields: Fields) {
    if let Some(message) = message {
        fields.put(Owner::Event, &LIMITS, "message", &Any::Text(message.to_owned()));
    }
    let callsite = callsite::of(metadata());
    record.add_event(callsite, 1_800_000_000_000_000_000, callsite, &mut fields, &LIMITS);
}

fn parse(datagram: &[u8]) -> Json {
    serde_json::from_slice(datagram).expect("whatever the input, it is JSON")
}

fn datagram_of(format: Format, record: &Record, service: &str, attributes: Vec<(String, String)>) -> Vec<u8> {
    let start = Monotonic::now();
    let trace_id = TraceId::random();
    // As long as any is passed on, and of what is longest in JSON.
    let trace_state = format!("a={}", "\"".repeat(510));
    let span = ClosedSpan {
        identity: Identity {
            context: Ids { trace_id, span_id: SpanId::random(), sampled: true, random: true },
            parent_id: None,
            remote: true,
        },
        callsite: callsite::of(metadata()),
        start_ns: wall_offset(start).nanos(start),
        elapsed: Timing::start(start).finish(|| start),
        record: &RecordView { trace_state: &trace_state, ..record.view() },
    };
    let resource = Resource::new(Some(service.to_owned()), attributes, true, &Reporter::default());
    let encoder = Encoder::new(format, resource, Vocabulary::ALL);
    let encode = |span: &ClosedSpan<'_>| {
        let mut out = Vec::new();
        encoder.open(&mut out);
        encoder.span(&mut out, span);
        encoder.close(&mut out, None);
        out
    };
    // However it is delivered, it says the same.
    let handed_over = crate::delivery::through_a_ring(&span, encode);
    assert_eq!(handed_over, encode(&span));
    handed_over
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
        let mut record = Record::default();
        let any = Any::Text(text.clone());
        for n in 0..2000 {
            let name = format!("{text:.40}{n}");
            record.fields.put(Owner::Span, &LIMITS, &name, &any);
            let mut fields = Fields::default();
            fields.put(Owner::Event, &LIMITS, &name, &any);
            add_event(&mut record, (n % 2 == 0).then_some(&text), fields);
            add_event(&mut record, None, Fields::default());
            let mut failure = Fields::default();
            failure.put(Owner::Event, &LIMITS, "error", &any);
            failure.put(Owner::Event, &LIMITS, "error.chain", &Any::List(vec![text.clone()]));
            add_event(&mut record, None, failure);
            let ids = Ids {
                trace_id: TraceId::random(),
                span_id: SpanId::random(),
                sampled: n % 2 == 0,
                random: true,
            };
            record.add_link(&Link {
                ids,
                is_local: n % 3 == 0,
                trace_state: &text[..text.len().min(n % 2 * 512)],
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
        let record = record_of(fields_of(&all, Owner::Span));
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
        let mut record = Record::default();
        add_event(&mut record, Some(&message), fields_of(&all, Owner::Event));
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
        let mut record = record_of(fields_of(&all, Owner::Span));
        add_event(&mut record, Some(&service), fields_of(&all, Owner::Event));
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
        let fields = fields_of(&all, Owner::Span);
        let object = fields_object(fields.view(callsite::of(metadata())), &[]);
        let read = parse(object.to_bytes());
        for (at, (name, (.., json))) in all.iter().enumerate() {
            if !all[at + 1..].iter().any(|(later, _)| later == name) {
                prop_assert_eq!(&read[name], json, "{:?}", name);
            }
        }
    }
}
