//! Property tests of the formats: whatever is recorded in a span reads back the same.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::Value as Json;

use super::*;
use crate::callsite::{self, tests::metadata};
use crate::clock::{Monotonic, wall_offset};
use crate::error::Reporter;
use crate::fields::Limits;
use crate::fields::Vocabulary;
use crate::fields::tests::Any;
use crate::fields::{Fields, Owner};
use crate::propagation::{Ids, SpanId, TraceId};
use crate::span::Identity;
use crate::span::Link;
use crate::span::{Record, RecordView, Timing};

/// Any value, with the tag and the JSON value that it should become.
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
        // Finite numbers only: JSON has no others, so those are encoded as names.
        any::<f64>().prop_map(|n| (Any::F64(n), Json::from(n).to_string(), Json::from(n))),
        prop::collection::vec(any::<String>(), 0..4).prop_map(|items| {
            let json = Json::from(items.clone());
            (Any::List(items), json.to_string(), json)
        }),
    ]
}

/// Any names and values. If a name comes twice, the last value counts.
fn any_fields() -> impl Strategy<Value = Vec<(String, (Any, String, Json))>> {
    prop::collection::vec((any::<String>(), any_value()), 0..12)
}

const LIMITS: Limits = Limits { attributes: 128, characters: usize::MAX, vocabulary: Vocabulary::ALL };

/// Fields that become the name, the kind or the status, with a value, or any text.
const SPECIAL: [(&str, &str); 6] = [
    ("otel.name", ""),
    ("otel.kind", "server"),
    ("otel.status_code", "OK"),
    ("otel.status_code", "ERROR"),
    ("otel.status_description", ""),
    ("error", ""),
];

fn fields_of(all: &[(String, (Any, String, Json))], owner: Owner) -> Fields {
    let mut fields = Fields::default();
    for (name, (value, ..)) in all {
        fields.put(owner, &LIMITS, name, value);
    }
    fields
}

/// The record of a span with these fields, from a thread with a name of 0 to 9 bytes.
fn record_of(mut fields: Fields) -> Record {
    let mut record = Record::default();
    let name = &b"worker-78"[..fields.bytes().len() % 10];
    fields.set_before(&[&7_u64.to_le_bytes(), name].concat());
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
    serde_json::from_slice(datagram).expect("a datagram is JSON")
}

fn datagram_of(format: Format, record: &Record, service: &str, attributes: Vec<(String, String)>) -> Vec<u8> {
    let [datagram] = datagrams_of([format], record, service, attributes);
    datagram
}

/// The same span in several formats.
fn datagrams_of<const N: usize>(
    formats: [Format; N],
    record: &Record,
    service: &str,
    attributes: Vec<(String, String)>,
) -> [Vec<u8>; N] {
    let start = Monotonic::now();
    let trace_id = TraceId::random();
    // The longest that is passed on, of characters that grow most in JSON.
    let trace_state = format!("a={}", "\"".repeat(510));
    let span = ClosedSpan {
        identity: &Identity {
            ids: Ids { trace_id, span_id: SpanId::random(), sampled: true, random: true },
            parent_id: Some(SpanId::random()),
            remote: true,
        },
        callsite: callsite::of(metadata()),
        start_ns: wall_offset(start).nanos(start),
        elapsed: Timing::start(start).finish(|| start),
        record: &RecordView { trace_state: &trace_state, ..record.view() },
    };
    let resource = Resource::new(Some(service.to_owned()), attributes, true, &Reporter::default());
    let resource = Arc::new(resource);
    formats.map(|format| {
        let encoder = Encoder::new(format, resource.clone(), Vocabulary::ALL);
        let encode = |span: &ClosedSpan<'_>| {
            let mut out = Vec::new();
            encoder.open(&mut out);
            encoder.span(&mut out, span);
            encoder.close(&mut out, None);
            out
        };
        // Both deliveries encode the same.
        let handed_over = crate::delivery::through_a_ring(&span, encode);
        assert_eq!(handed_over, encode(&span));
        handed_over
    })
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

/// Long and short texts, and texts that grow most when escaped.
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
        for format in [Format::Zipkin, Format::OtlpJson, Format::OtlpProtobuf] {
            let resource = vec![("k".repeat(1000), "\u{1}".repeat(400))];
            let bytes = datagram_of(format, &record, &text, resource).len();
            let of = text.get(..1);
            // The limits count characters as long as JSON escapes them, which protobuf does not.
            let least = if format == Format::OtlpProtobuf { 0 } else { 16_384 };
            assert!((least..65_536).contains(&bytes), "{bytes} bytes of {of:?} as {format:?}");
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
        let (span, resource) = otlp_span(&datagram_of(Format::OtlpJson, &record, &service, Vec::new()));
        prop_assert_eq!(otlp_text(&resource, "service.name"), Some(service.clone()));
        prop_assert_eq!(&span["events"][0]["name"], &service);
        for (at, (name, (_, text, _))) in all.iter().enumerate() {
            if !all[at + 1..].iter().any(|(later, _)| later == name) {
                prop_assert_eq!(otlp_text(&span, name), Some(text.clone()), "{:?}", name);
                prop_assert_eq!(otlp_text(&span["events"][0], name), Some(text.clone()), "{:?}", name);
            }
        }
    }

    /// Read by OpenTelemetry's own types.
    #[test]
    fn protobuf_has_the_same_content_as_json(
        all in any_fields(),
        event in any_fields(),
        message in proptest::option::of(any::<String>()),
        service in any::<String>(),
        links in prop::collection::vec((any::<bool>(), any::<bool>(), "[a-z]{0,200}"), 0..3),
        special in prop::collection::vec((prop::sample::select(SPECIAL.to_vec()), any::<String>()), 0..4),
    ) {
        let mut fields = fields_of(&all, Owner::Span);
        for ((name, known), text) in &special {
            let text = if known.is_empty() { text } else { *known };
            fields.put(Owner::Span, &LIMITS, name, &Any::Text(text.to_owned()));
        }
        let mut record = record_of(fields);
        add_event(&mut record, message.as_deref(), fields_of(&event, Owner::Event));
        for (sampled, is_local, trace_state) in &links {
            let ids = Ids { trace_id: TraceId::random(), span_id: SpanId::random(), sampled: *sampled, random: true };
            record.add_link(&Link { ids, is_local: *is_local, trace_state });
        }
        let attributes = vec![("deployment".to_owned(), service.clone())];
        let formats = [Format::OtlpJson, Format::OtlpProtobuf];
        let [json, protobuf] = datagrams_of(formats, &record, &service, attributes);
        let json: ExportTraceServiceRequest = serde_json::from_slice(&json).expect("a request");
        prop_assert_eq!(ExportTraceServiceRequest::decode(&*protobuf).expect("a request"), json);
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
