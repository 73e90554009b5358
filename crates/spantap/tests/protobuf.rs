//! OTLP in protobuf is read like the same request in JSON, and stays as it was sent where nothing has to be changed.
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message;
use spantap::decode::{Decoded, Decoder, Fault};
use spantap::encode::Chunk;
use spantap::process::Sender;
use spantap::span::Summary;

const SENDER: Sender = Sender { pid: 4242, uid: 1000, gid: 100 };
/// 2026-01-01.
const NOW: u64 = 1_767_225_600_000_000_000;

fn decode(bytes: &[u8]) -> Decoded {
    Decoder::default().decode(bytes, SENDER, NOW)
}

fn faults(decoded: &Decoded) -> Vec<(Fault, u64)> {
    let mut faults: Vec<_> = decoded.faults.iter().map(|(found, count)| (found.fault, count)).collect();
    faults.sort();
    faults
}

/// All spans by process, and whether any has been decoded.
fn spans(decoded: Decoded) -> (Vec<(Resource, Vec<ScopeSpans>)>, bool) {
    let is_typed = !decoded.processes.is_empty();
    let mut all: Vec<_> = decoded
        .encoded
        .into_iter()
        .map(|(process, scopes)| {
            let summaries = scopes.spans.len();
            for (span, field) in scopes.iter() {
                let scope = ScopeSpans::decode(field).unwrap();
                assert!(span.fits(&Summary::of(&scope.spans[0]).unwrap()), "{span:?} {scope:?}");
            }
            let mut chunk = Chunk::encode(&process, &[]);
            chunk.add_encoded(scopes);
            let mut scopes = chunk.decode().unwrap().scope_spans;
            assert_eq!(scopes.iter().map(|scope| scope.spans.len()).sum::<usize>(), summaries);
            scopes.retain(|scope| !scope.spans.is_empty());
            (process.resource.clone(), scopes)
        })
        .collect();
    all.extend(decoded.processes.into_iter().map(|(process, scopes)| (process.resource.clone(), scopes)));
    (all, is_typed)
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn span() -> Span {
    Span {
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        name: "work".to_owned(),
        start_time_unix_nano: NOW - 1_000,
        end_time_unix_nano: NOW,
        ..Span::default()
    }
}

fn request_of(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope = Some(InstrumentationScope { name: "scope".to_owned(), ..InstrumentationScope::default() });
    let resource = Some(Resource {
        attributes: vec![attribute("service.name", Value::StringValue("shop".to_owned()))],
        ..Resource::default()
    });
    let scope_spans = vec![ScopeSpans { scope, spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        any::<String>().prop_map(Value::StringValue),
        any::<bool>().prop_map(Value::BoolValue),
        any::<i64>().prop_map(Value::IntValue),
        (-1e15..1e15).prop_map(Value::DoubleValue),
        prop::collection::vec(any::<u8>(), 0..4).prop_map(Value::BytesValue),
    ];
    let any = |value| AnyValue { value: Some(value) };
    leaf.prop_map(any).prop_recursive(4, 12, 3, move |inner| {
        let list = prop::collection::vec(inner, 0..3);
        prop_oneof![
            list.clone().prop_map(move |values| any(Value::ArrayValue(ArrayValue { values }))),
            list.prop_map(move |list| {
                let pair = |value| KeyValue { key: "key".into(), value: Some(value), ..KeyValue::default() };
                any(Value::KvlistValue(KeyValueList { values: list.into_iter().map(pair).collect() }))
            }),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let key = prop_oneof![4 => any::<String>(), 1 => Just("zipkin.id".to_owned())];
    let attribute =
        (key, value()).prop_map(|(key, value)| KeyValue { key, value: Some(value), ..KeyValue::default() });
    prop::collection::vec(attribute, 0..4)
}

/// Mostly an id; sometimes one of zeros, or of another length.
fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => prop::collection::vec(1_u8.., length),
        1 => Just(vec![0; length]),
        1 => prop::collection::vec(1_u8.., 1..length),
    ]
}

fn any_span() -> impl Strategy<Value = Span> {
    let time = || prop_oneof![10 => NOW - 1_000_000..NOW, 1 => Just(0), 1 => any::<u64>()];
    let events = prop::collection::vec((time(), any::<String>(), attributes()), 0..3);
    let links = prop::collection::vec((id(16), id(8), attributes(), any::<u32>()), 0..2);
    let status = prop::option::of((0..4, any::<String>()));
    (
        (id(16), id(8), prop_oneof![Just(vec![]), id(8)], any::<String>(), 0..6),
        (time(), 0_u64..1_000_000, attributes(), any::<(u32, u32, u32, u32)>()),
        (events, links, status),
    )
        .prop_map(|(ids, body, lists)| {
            let (trace_id, span_id, parent_span_id, name, kind) = ids;
            let (start, duration, attributes, numbers) = body;
            let (events, links, status) = lists;
            let event = |(time_unix_nano, name, attributes)| Event {
                time_unix_nano,
                name,
                attributes,
                ..Event::default()
            };
            let link = |(trace_id, span_id, attributes, flags)| Link {
                trace_id,
                span_id,
                attributes,
                flags,
                ..Link::default()
            };
            Span {
                trace_id,
                span_id,
                parent_span_id,
                name,
                kind,
                start_time_unix_nano: start,
                end_time_unix_nano: start.saturating_add(duration),
                attributes,
                dropped_attributes_count: numbers.0,
                events: events.into_iter().map(event).collect(),
                dropped_events_count: numbers.1,
                links: links.into_iter().map(link).collect(),
                dropped_links_count: numbers.2,
                flags: numbers.3,
                status: status.map(|(code, message)| Status { code, message }),
                ..Span::default()
            }
        })
}

/// Notes differ in their words: JSON has ids as digits.
fn without_notes(mut all: Vec<(Resource, Vec<ScopeSpans>)>) -> Vec<(Resource, Vec<ScopeSpans>)> {
    let spans = all.iter_mut().flat_map(|(_, scopes)| scopes).flat_map(|scope| &mut scope.spans);
    for span in spans {
        span.attributes.retain(|attribute| attribute.key != "spantap.odd");
    }
    all
}

proptest! {
    #[test]
    fn a_request_is_read_like_the_same_in_json(sent in prop::collection::vec(any_span(), 0..4)) {
        let request = request_of(sent);
        let (protobuf, json) = (decode(&request.encode_to_vec()), decode(&serde_json::to_vec(&request).unwrap()));
        // JSON's reader takes some ids of another length.
        let has_other_length = |(fault, _): &(Fault, u64)| matches!(fault, Fault::BadId | Fault::BadReference);
        let found = faults(&protobuf);
        if !found.iter().any(has_other_length) {
            // JSON's reader also reports what is odd about a span that it refuses later.
            if !found.iter().any(|(fault, _)| fault.refuses()) {
                prop_assert_eq!(&found, &faults(&json));
            }
            let ((protobuf, is_typed), (json, _)) = (spans(protobuf), spans(json));
            let read: Vec<Span> = protobuf
                .iter()
                .flat_map(|(_, scopes)| scopes)
                .flat_map(|scope| scope.spans.clone())
                .collect();
            // Spans are decoded only if one of them is reported or changed.
            let is_changed = read != request.resource_spans[0].scope_spans[0].spans;
            prop_assert_eq!(is_typed, !read.is_empty() && (is_changed || !found.is_empty()));
            prop_assert_eq!(without_notes(protobuf), without_notes(json));
        }
    }

    #[test]
    fn changed_bytes_cause_no_panic(
        sent in prop::collection::vec(any_span(), 1..3),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = request_of(sent).encode_to_vec();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        spans(decode(&bytes));
    }
}

#[test]
fn usual_spans_stay_as_they_were_sent() {
    let request = request_of(vec![span(), Span { parent_span_id: vec![8; 8], ..span() }]);
    let decoded = decode(&request.encode_to_vec());
    assert_eq!(faults(&decoded), []);
    let (found, is_typed) = spans(decoded);
    assert!(!is_typed);
    assert_eq!(found[0].1, request.resource_spans[0].scope_spans);
}

#[test]
fn a_span_that_can_not_be_read_does_not_affect_the_others() {
    let bad: [(&str, Span, Fault); 5] = [
        ("no trace id", Span { trace_id: vec![], ..span() }, Fault::WrongType),
        ("a short trace id", Span { trace_id: vec![1; 8], ..span() }, Fault::BadId),
        ("a trace id of zeros", Span { trace_id: vec![0; 16], ..span() }, Fault::ZeroId),
        ("a long span id", Span { span_id: vec![1; 9], ..span() }, Fault::BadId),
        ("a span id of zeros", Span { span_id: vec![0; 8], ..span() }, Fault::ZeroId),
    ];
    for (what, bad, fault) in bad {
        let decoded = decode(&request_of(vec![span(), bad, span()]).encode_to_vec());
        assert_eq!(faults(&decoded), [(fault, 1)], "{what}");
        assert_eq!(spans(decoded).0[0].1[0].spans, [span(), span()], "{what}");
    }
}

#[test]
fn a_text_that_is_not_utf8_refuses_only_its_span() {
    let marked = Span { name: "MARK".to_owned(), ..span() };
    let mut bytes = request_of(vec![span(), marked]).encode_to_vec();
    let at = bytes.windows(4).position(|window| window == b"MARK").unwrap();
    bytes[at] = 0xff;
    let decoded = decode(&bytes);
    assert_eq!(faults(&decoded), [(Fault::BadProtobuf, 1)]);
    assert_eq!(spans(decoded).0[0].1[0].spans, [span()]);
}

/// Accepted with a correction, and reported.
#[test]
fn odd_values_cost_only_themselves() {
    let deep = (0..31).fold(Value::IntValue(1), |value, _| {
        Value::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(value) }] })
    });
    let link = Link { trace_id: vec![1; 3], span_id: vec![1; 8], ..Link::default() };
    let odd: [(&str, Span, Fault, Span); 6] = [
        (
            "a value that is nested too deeply",
            Span { attributes: vec![attribute("deep", deep)], ..span() },
            Fault::TooDeep,
            Span { dropped_attributes_count: 1, ..span() },
        ),
        (
            "a parent's id of another length",
            Span { parent_span_id: vec![1; 4], ..span() },
            Fault::BadReference,
            span(),
        ),
        (
            "a link's id of another length",
            Span { links: vec![link], ..span() },
            Fault::BadReference,
            Span { dropped_links_count: 1, ..span() },
        ),
        (
            "an end before the start",
            Span { end_time_unix_nano: NOW - 2_000, ..span() },
            Fault::BadTime,
            Span { end_time_unix_nano: NOW - 1_000, ..span() },
        ),
        (
            "no end",
            Span { end_time_unix_nano: 0, ..span() },
            Fault::NoTime,
            Span { end_time_unix_nano: NOW - 1_000, ..span() },
        ),
        (
            "a time long ago",
            Span { start_time_unix_nano: 5, end_time_unix_nano: 6, ..span() },
            Fault::OddTime,
            Span { start_time_unix_nano: 5, end_time_unix_nano: 6, ..span() },
        ),
    ];
    for (what, sent, fault, expected) in odd {
        let decoded = decode(&request_of(vec![sent]).encode_to_vec());
        assert_eq!(faults(&decoded), [(fault, 1)], "{what}");
        assert_eq!(without_notes(spans(decoded).0)[0].1[0].spans, [expected], "{what}");
    }
    // Zeros stand for no parent, and a reserved name is changed: neither is a fault.
    let zeros = Span { parent_span_id: vec![0; 8], ..span() };
    let reserved = Span { attributes: vec![attribute("zipkin.id", Value::IntValue(1))], ..span() };
    let decoded = decode(&request_of(vec![zeros, reserved]).encode_to_vec());
    assert_eq!(faults(&decoded), []);
    let renamed = Span { attributes: vec![attribute("sent.zipkin.id", Value::IntValue(1))], ..span() };
    assert_eq!(spans(decoded).0[0].1[0].spans, [span(), renamed]);
}

#[test]
fn attributes_of_a_scope_are_checked_like_those_of_a_span() {
    let deep = (0..31).fold(Value::IntValue(1), |value, _| {
        Value::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(value) }] })
    });
    let mut request = request_of(vec![span()]);
    let scope = request.resource_spans[0].scope_spans[0].scope.as_mut().unwrap();
    scope.attributes = vec![attribute("deep", deep), attribute("zipkin.id", Value::IntValue(1))];
    let decoded = decode(&request.encode_to_vec());
    assert_eq!(faults(&decoded), [(Fault::TooDeep, 1)]);
    let scope = spans(decoded).0[0].1[0].scope.clone().unwrap();
    assert_eq!(scope.attributes, [attribute("sent.zipkin.id", Value::IntValue(1))]);
    assert_eq!(scope.dropped_attributes_count, 1);
}

/// Readers merge two values of an attribute, so the size of one is not that of the whole.
#[test]
fn an_attribute_with_two_values_is_decoded() {
    let list = |items: usize| {
        let values = vec![AnyValue::default(); items];
        AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) }
    };
    let of = |items| KeyValue { key: "k".to_owned(), value: Some(list(items)), ..KeyValue::default() };
    // The concatenation of two messages is their merge.
    let both = [of(100).encode_to_vec(), of(1).encode_to_vec()].concat();
    let mut encoded = span().encode_to_vec();
    encoded.extend([0x4a, 0x80 | (both.len() & 0x7f) as u8, (both.len() >> 7) as u8]);
    encoded.extend(&both);
    let field = |number: u8, bytes: &[u8]| {
        let length = [0x80 | (bytes.len() & 0x7f) as u8, (bytes.len() >> 7) as u8];
        [&[number << 3 | 2], &length[..], bytes].concat()
    };
    let decoded = decode(&field(1, &field(2, &field(2, &encoded))));
    assert_eq!(faults(&decoded), []);
    let (found, is_typed) = spans(decoded);
    assert!(is_typed);
    assert_eq!(found[0].1[0].spans[0].attributes, [of(101)]);
}

#[test]
fn the_name_of_scopes_until_2022_is_known() {
    let request = request_of(vec![span()]);
    let scope = request.resource_spans[0].scope_spans[0].encode_to_vec();
    // The field 1000 in the field 1.
    let length = u8::try_from(scope.len()).unwrap();
    assert!(length < 0x7d, "its length takes one byte");
    let old = [&[0x0a, length + 3, 0xc2, 0x3e, length], &scope[..]].concat();
    let decoded = decode(&old);
    assert_eq!(faults(&decoded), []);
    assert_eq!(spans(decoded).0[0].1, request.resource_spans[0].scope_spans);
}

#[test]
fn a_request_that_is_cut_short_is_refused() {
    let bytes = request_of(vec![span(), span()]).encode_to_vec();
    for length in 1..bytes.len() {
        let decoded = decode(&bytes[..length]);
        assert!(decoded.faults.iter().all(|(found, _)| found.fault.refuses()), "{length} bytes");
        assert_eq!(decoded.faults.iter().count(), 1, "{length} bytes");
        assert!(spans(decoded).0.is_empty(), "{length} bytes");
    }
}

#[test]
fn json_behind_a_line_break_is_json() {
    let json = serde_json::to_vec(&request_of(vec![span()])).unwrap();
    for before in ["\n", "\n\n", "\n  ", "\n\t"] {
        let decoded = decode(&[before.as_bytes(), &json].concat());
        assert_eq!((faults(&decoded), decoded.processes.len()), (vec![], 1), "{before:?}");
    }
}
