//! Datagrams of every format, valid and invalid, and the spans that are decoded from them.
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use proptest::prelude::*;
use prost::Message;
use serde_json::json;
use spantap::decode::{Decoded, Decoder, Fault};
use spantap::encode::{Chunk, request};
use spantap::process::Sender;
use spantap::process::Sequence;

const SENDER: Sender = Sender { pid: 4242, uid: 1000, gid: 100 };
/// 2026-01-01.
const NOW: u64 = 1_767_225_600_000_000_000;
const NOW_US: u64 = NOW / 1000;

fn decode(bytes: &[u8]) -> Decoded {
    Decoder::default().decode(bytes, SENDER, NOW)
}

fn spans(decoded: &Decoded) -> Vec<&Span> {
    let scopes = decoded.processes.iter().flat_map(|(_, scopes)| scopes);
    scopes.flat_map(|scope| &scope.spans).collect()
}

fn faults(decoded: &Decoded) -> Vec<(Fault, u64)> {
    decoded.faults.iter().map(|(found, count)| (found.fault, count)).collect()
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let mut found = attributes.iter().filter(|attribute| attribute.key == key);
    let value = found.next()?.value.clone()?.value?;
    assert!(found.next().is_none(), "{key} occurs twice");
    Some(match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => format!("int {number}"),
        any_value::Value::DoubleValue(number) => format!("double {number}"),
        any_value::Value::BoolValue(value) => format!("bool {value}"),
        other => format!("{other:?}"),
    })
}

/// A Zipkin span with `more` members.
fn zipkin(more: &str) -> String {
    format!(
        r#"{{"traceId":"0af7651916cd43dd8448eb211c80319c","id":"b7ad6b7169203331","name":"n","timestamp":{NOW_US},"duration":7{more}}}"#
    )
}

#[test]
fn a_zipkin_span_becomes_an_opentelemetry_span() {
    let span = zipkin(
        r#","parentId":"00f067aa0ba902b7","kind":"SERVER","localEndpoint":{"serviceName":"shop","ipv4":"10.0.0.1","port":80},
        "remoteEndpoint":{"serviceName":"db","ipv6":"::1","port":5432},
        "annotations":[{"timestamp":1767225600000003,"value":"plain"},
                       {"timestamp":1767225600000004,"value":"\"it \\\"happened\\\"\": {\"code\":7,\"level\":\"WARN\",\"ok\":true,\"f\":1.5,\"list\":[\"a\",1]}"}],
        "tags":{"k":"v","é\n":"\u00e9\"","otel.status_code":"ERROR","error":"it broke","otel.dropped_events_count":"3",
                "follows_from":"0af7651916cd43dd8448eb211c80319d-b7ad6b7169203332","busy_ns":"12"}"#,
    );
    let decoded = decode(format!("[{span}]").as_bytes());
    assert_eq!(faults(&decoded), []);
    let (process, scopes) = &decoded.processes[0];
    assert_eq!((process.sender, &*process.service), (SENDER, "shop"));
    let resource = &process.resource.attributes;
    for (key, value) in [
        ("service.name", "shop"),
        ("process.pid", "int 4242"),
        ("process.real_user.id", "int 1000"),
        ("process.real_group.id", "int 100"),
    ] {
        assert_eq!(text(resource, key).as_deref(), Some(value));
    }
    let span = &scopes[0].spans[0];
    assert_eq!(span.trace_id, u128::to_be_bytes(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c));
    assert_eq!(span.span_id, u64::to_be_bytes(0xb7ad_6b71_6920_3331));
    assert_eq!(span.parent_span_id, u64::to_be_bytes(0x00f0_67aa_0ba9_02b7));
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (NOW, NOW + 7000));
    assert_eq!((&*span.name, span.kind), ("n", SpanKind::Server as i32));
    let status = span.status.as_ref().unwrap();
    assert_eq!((status.code, &*status.message), (StatusCode::Error as i32, "it broke"));
    assert_eq!((span.dropped_events_count, span.links.len()), (3, 1));
    assert_eq!(span.links[0].span_id, u64::to_be_bytes(0xb7ad_6b71_6920_3332));
    let attributes = [
        ("k", "v"),
        ("é\n", "é\""),
        ("busy_ns", "12"),
        ("network.local.address", "10.0.0.1"),
        ("network.local.port", "int 80"),
        ("peer.service", "db"),
        ("network.peer.address", "::1"),
        ("network.peer.port", "int 5432"),
    ];
    for (key, value) in attributes {
        assert_eq!(text(&span.attributes, key).as_deref(), Some(value));
    }
    assert_eq!(span.attributes.len(), attributes.len(), "{:?}", span.attributes);
    let [plain, named] = &span.events[..] else { panic!("{:?}", span.events) };
    assert_eq!((&*plain.name, plain.time_unix_nano, plain.attributes.len()), ("plain", NOW + 3000, 0));
    assert_eq!(named.name, "it \"happened\"");
    for (key, value) in [("code", "int 7"), ("level", "WARN"), ("ok", "bool true"), ("f", "double 1.5")] {
        assert_eq!(text(&named.attributes, key).as_deref(), Some(value));
    }
}

/// Written like `common/trace.c` of Core Lightning does: one span, with its order of members and its spaces.
#[test]
fn core_lightnings_spans_are_read() {
    let span = format!(
        r#"[{{"id": "6c6bd3f1a8bd5f0d", "name": "lightningd/jsonrpc", "timestamp": {NOW_US}, "duration": 10,"parentId": "4c6bd3f1a8bd5f0e", "localEndpoint": {{ "serviceName": "lightningd" }}, "tags": {{"method": "getinfo"}}, "traceId": "68d9b8fed8fa87b3"}}]"#
    );
    let decoded = decode(span.as_bytes());
    assert_eq!(faults(&decoded), []);
    assert_eq!(decoded.processes[0].0.service, "lightningd");
    let spans = spans(&decoded);
    assert_eq!(spans[0].trace_id, u128::to_be_bytes(0x68d9_b8fe_d8fa_87b3));
    assert_eq!(text(&spans[0].attributes, "method").as_deref(), Some("getinfo"));
    // Core Lightning's buffer may end within the span.
    for length in 1..span.len() {
        let decoded = decode(&span.as_bytes()[..length]);
        assert_eq!((faults(&decoded), decoded.processes.len()), (vec![(Fault::CutShort, 1)], 0), "{length}");
    }
}

#[test]
fn status_follows_the_tags() {
    let cases = [
        (r#"{}"#, None),
        (r#"{"otel.status_code":"OK"}"#, Some((StatusCode::Ok, ""))),
        (r#"{"otel.status_code":"ERROR"}"#, Some((StatusCode::Error, ""))),
        (r#"{"error":"true"}"#, Some((StatusCode::Error, ""))),
        (r#"{"error":"no such row"}"#, Some((StatusCode::Error, "no such row"))),
        (r#"{"error":"late","otel.status_code":"ERROR"}"#, Some((StatusCode::Error, "late"))),
    ];
    for (tags, expected) in cases {
        let decoded = decode(format!("[{}]", zipkin(&format!(r#","tags":{tags}"#))).as_bytes());
        let spans = spans(&decoded);
        let status = spans[0].status.as_ref().map(|status| (status.code, &*status.message));
        assert_eq!(status, expected.map(|(code, message)| (code as i32, message)), "{tags}");
        assert!(spans[0].attributes.is_empty(), "{tags}");
    }
}

/// OpenTelemetry's own types read the same request for comparison.
#[test]
fn an_otlp_request_decodes_like_with_opentelemetrys_types() {
    let request = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},
        {"key":"process.pid","value":{"intValue":"1"}}],"droppedAttributesCount":2},
      "scopeSpans":[{"scope":{"name":"lib","version":"1.2","attributes":[{"key":"s","value":{"boolValue":true}}]},"schemaUrl":"https://x/1",
       "spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","parentSpanId":"00f067aa0ba902b7",
        "traceState":"a=b","flags":257,"name":"GET \"/\"","kind":2,"startTimeUnixNano":"1767225600000000001","endTimeUnixNano":1767225600000000009,
        "attributes":[{"key":"i","value":{"intValue":"-5"}},{"key":"i2","value":{"intValue":5}},{"key":"d","value":{"doubleValue":1.5}},
         {"key":"d2","value":{"doubleValue":2}},{"key":"b","value":{"boolValue":false}},{"key":"none"},{"key":"empty","value":{}},
         {"key":"raw","value":{"bytesValue":"aGk="}},{"key":"list","value":{"arrayValue":{"values":[{"stringValue":"x"},{"intValue":"1"}]}}},
         {"key":"map","value":{"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"v"}}]}}}],
        "droppedAttributesCount":1,"events":[{"timeUnixNano":"1767225600000000002","name":"e","attributes":[{"key":"m","value":{"stringValue":"é"}}],"droppedAttributesCount":4}],
        "droppedEventsCount":5,"links":[{"traceId":"0af7651916cd43dd8448eb211c80319d","spanId":"b7ad6b7169203332","traceState":"","attributes":[],"flags":1}],
        "droppedLinksCount":6,"status":{"message":"bad","code":2}}]}]}]}"#;
    let decoded = decode(request.as_bytes());
    assert_eq!(faults(&decoded), []);
    let official: ExportTraceServiceRequest = serde_json::from_str(request).unwrap();
    let (process, scopes) = &decoded.processes[0];
    assert_eq!(*scopes, official.resource_spans[0].scope_spans);
    assert_eq!(process.service, "shop");
    assert_eq!(
        text(&process.resource.attributes, "process.pid").as_deref(),
        Some("int 4242"),
        "the pid comes from the kernel"
    );
    assert_eq!(process.resource.dropped_attributes_count, 2);
}

#[test]
fn only_text_that_is_not_json_and_spans_without_ids_are_refused() {
    let deep = "[".repeat(100_000);
    let with = |from: &str, to: &str| format!("[{}]", zipkin("").replace(from, to)).into_bytes();
    let cases: Vec<(&str, Vec<u8>, Fault)> = vec![
        ("nothing", vec![], Fault::Empty),
        ("spaces", b"  \n".to_vec(), Fault::NotJson),
        ("words", b"hello".to_vec(), Fault::NotJson),
        ("binary", vec![0, 159, 146, 150], Fault::NotUtf8),
        ("a NUL behind", b"[]\0".to_vec(), Fault::NotJson),
        ("a second value", b"[] []".to_vec(), Fault::NotJson),
        ("a control character in a name", with("\"n\"", "\"\u{1}\""), Fault::NotJson),
        ("a comma too many", with(":7}", ":7,}"), Fault::NotJson),
        ("a comma too few", with(",\"name\"", " \"name\""), Fault::NotJson),
        ("a key that is no text", with("\"name\"", "name"), Fault::NotJson),
        ("a bare NaN", with("\"n\"", "NaN"), Fault::NotJson),
        ("nul", with("\"n\"", "nul"), Fault::NotJson),
        ("two words", with("\"n\"", "\"n\",\"shared\":truefalse"), Fault::NotJson),
        ("a leading zero", with(":7}", ":07}"), Fault::NotJson),
        ("a number", b"17".to_vec(), Fault::UnknownFormat),
        ("another object", br#"{"a":1}"#.to_vec(), Fault::UnknownFormat),
        ("a request without spans", br#"{"resourceSpans":[{"scopes":[]}]}"#.to_vec(), Fault::UnknownFormat),
        ("brackets only", deep.into_bytes(), Fault::CutShort),
        ("a list of numbers", b"[1]".to_vec(), Fault::WrongType),
        ("a list of null", b"[null]".to_vec(), Fault::WrongType),
        ("no id", with("\"id\"", "\"di\""), Fault::WrongType),
        ("a number as an id", with("\"b7ad6b7169203331\"", "17"), Fault::WrongType),
        ("a long number as an id", with("\"b7ad6b7169203331\"", "12345678901234567890"), Fault::WrongType),
        ("null as an id", with("\"b7ad6b7169203331\"", "null"), Fault::WrongType),
        ("an empty id", with("b7ad6b7169203331", ""), Fault::BadId),
        ("0x before an id", with("b7ad6b7169203331", "0xad6b7169203331"), Fault::BadId),
        ("0x before a short id", with("b7ad6b7169203331", "0xad"), Fault::BadId),
        ("a long id", with("b7ad6b7169203331", "b7ad6b7169203331aa"), Fault::BadId),
        ("no hex", with("b7ad6b7169203331", "g7ad6b7169203331"), Fault::BadId),
        ("two-byte characters", with("b7ad6b7169203331", "éééééééé"), Fault::BadId),
        ("half a character", with("b7ad6b7169203331", "b7ad6b71692033\\ud800"), Fault::BadId),
        ("a zero id", with("b7ad6b7169203331", "0000000000000000"), Fault::ZeroId),
        ("a short zero id", with("b7ad6b7169203331", "0"), Fault::ZeroId),
        ("a zero trace id", with("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)), Fault::ZeroId),
    ];
    for (what, bytes, fault) in cases {
        let decoded = decode(&bytes);
        let found = faults(&decoded).into_iter().filter(|(fault, _)| fault.refuses()).collect::<Vec<_>>();
        assert_eq!((found, decoded.processes.len()), (vec![(fault, 1)], 0), "{what}");
    }
}

#[test]
fn odd_spans_are_accepted_and_reported() {
    let cases = [
        (
            "upper case",
            zipkin("")
                .to_uppercase()
                .replace("TRACEID", "traceId")
                .replace("\"ID\"", "\"id\"")
                .replace("NAME", "name")
                .replace("TIMESTAMP", "timestamp")
                .replace("DURATION", "duration"),
            Fault::UpperCaseId,
            2,
        ),
        ("1970", zipkin("").replace(&NOW_US.to_string(), "1"), Fault::OddTime, 1),
        (
            "in two days",
            zipkin("").replace(&NOW_US.to_string(), &(NOW_US + 172_800_000_000).to_string()),
            Fault::OddTime,
            1,
        ),
        (
            "200 kB of one tag",
            zipkin(&format!(r#","tags":{{"a":"{}"}}"#, "x".repeat(200_000))),
            Fault::LongValue,
            1,
        ),
    ];
    for (what, span, fault, count) in cases {
        let decoded = decode(format!("[{span}]").as_bytes());
        assert_eq!((faults(&decoded), spans(&decoded).len()), (vec![(fault, count)], 1), "{what}");
        assert!(!fault.refuses());
    }
}

#[test]
fn ids_that_differ_only_in_case_are_equal() {
    let upper = zipkin("").replace("b7ad6b7169203331", "B7AD6B7169203331");
    let decoded = decode(format!("[{},{upper}]", zipkin("")).as_bytes());
    let spans = spans(&decoded);
    assert_eq!((spans.len(), &spans[0].span_id), (2, &spans[1].span_id));
}

#[test]
fn an_invalid_span_is_refused_alone() {
    let bad = zipkin("").replace("\"b7ad6b7169203331\"", "17");
    let decoded = decode(format!("[{},{bad},{}]", zipkin(""), zipkin("")).as_bytes());
    assert_eq!((faults(&decoded), spans(&decoded).len()), (vec![(Fault::WrongType, 1)], 2));

    let span = |id: &str| {
        format!(
            r#"{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":{id},"startTimeUnixNano":"{NOW}","endTimeUnixNano":"{NOW}"}}"#
        )
    };
    let good = span("\"b7ad6b7169203331\"");
    let request = format!(
        r#"{{"resourceSpans":[7,{{"scopeSpans":[7,{{"spans":[{good},{},7,null,{good}]}}]}},{{"scopeSpans":7}},{{"scopeSpans":[{{"spans":{{"a":7}}}}]}}]}}"#,
        span("17")
    );
    let decoded = decode(request.as_bytes());
    assert_eq!((faults(&decoded), spans(&decoded).len()), (vec![(Fault::WrongType, 7)], 2));
}

/// The resource or the scope is invalid, but the spans are not.
#[test]
fn spans_are_accepted_with_an_invalid_resource_or_scope() {
    let span = format!(
        r#"{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"n","startTimeUnixNano":"{NOW}","endTimeUnixNano":"{NOW}"}}"#
    );
    let request = format!(
        r#"{{"resourceSpans":[{{"resource":7,"scopeSpans":[{{"scope":"x","spans":[{span}]}},{{"spans":null}}]}},
            {{"scopeSpans":null}},{{"scopeSpans":[{{"scope":{{"name":"s"}},"spans":[{span}]}}]}}]}}"#
    );
    let decoded = decode(request.as_bytes());
    assert_eq!((faults(&decoded), spans(&decoded).len()), (vec![(Fault::LeftOut, 2)], 2));
    assert_eq!(text(&decoded.processes[0].0.resource.attributes, "process.pid").as_deref(), Some("int 4242"));
}

/// Members that spantap does not read may hold any JSON.
#[test]
fn unknown_members_are_ignored() {
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    for odd in ["\"\\ud800\"", &deep, &"9".repeat(5000)] {
        let decoded = decode(format!("[{}]", zipkin(&format!(r#","x":{odd}"#))).as_bytes());
        assert_eq!((faults(&decoded), spans(&decoded).len()), (vec![], 1), "{odd:.20}");
        let request = otlp(&format!(r#""name":{odd},"version":3,"attributes":[{SHOP}]"#), "");
        let decoded = decode(request.as_bytes());
        assert_eq!((faults(&decoded), spans(&decoded).len()), (vec![], 1), "{odd:.20}");
        assert_eq!(decoded.processes[0].0.service, "shop");
    }
}

const SHOP: &str = r#"{"key":"service.name","value":{"stringValue":"shop"}}"#;

/// A request with one span with `more` members, from a resource with the members `resource`.
fn otlp(resource: &str, more: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"resource":{{{resource}}},"scopeSpans":[{{"spans":[{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"n","startTimeUnixNano":"{NOW}","endTimeUnixNano":"{NOW}"{more}}}]}}]}}]}}"#
    )
}

/// Protobuf decoders refuse a whole request if anything in it is nested deeper than 100 messages.
#[test]
fn accepted_values_are_not_nested_deeper_than_a_backend_reads() {
    let nested = |depth: usize, open: &str, close: &str| {
        format!("{}{}{}", open.repeat(depth), r#"{"intValue":1}"#, close.repeat(depth))
    };
    let mut accepted = 0;
    for depth in 0..40 {
        for (open, close) in [
            (r#"{"kvlistValue":{"values":[{"key":"k","value":"#, "}]}}"),
            (r#"{"arrayValue":{"values":["#, "]}}"),
        ] {
            let value = nested(depth, open, close);
            let event = format!(r#","events":[{{"name":"e","attributes":[{{"key":"k","value":{value}}}]}}]"#);
            let annotation = format!(
                r#","annotations":[{{"timestamp":1,"value":"\"e\": {{\"k\":{}1{}}}"}}]"#,
                "[".repeat(depth * 2),
                "]".repeat(depth * 2)
            );
            for datagram in [otlp("", &event), format!("[{}]", zipkin(&annotation))] {
                for (process, scopes) in decode(datagram.as_bytes()).processes {
                    let chunk = Chunk::encode(&process, &scopes);
                    ExportTraceServiceRequest::decode(request(&[chunk])).unwrap();
                    accepted += 1;
                }
            }
        }
    }
    assert!(accepted >= 80 + 60, "{accepted}");
}

#[test]
fn faults_of_a_process_are_reported_once() {
    let large = "x".repeat(20_000);
    let bytes = format!("[{}]", zipkin(&format!(r#","localEndpoint":{{"serviceName":"{large}"}}"#)));
    let mut decoder = Decoder::default();
    let mut decode = || faults(&decoder.decode(bytes.as_bytes(), SENDER, NOW));
    assert_eq!((decode(), decode()), (vec![(Fault::LongResource, 1)], vec![]));
}

#[test]
fn a_datagrams_position_in_its_senders_sequence_is_read() {
    let sequence = r#""tracingUsdt":{"sender":"00000000000000ff","sentBefore":12,"spans":"1"}"#;
    let span = zipkin("");
    let ids = r#""traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331""#;
    let otlp = format!(r#"{{{ids},"startTimeUnixNano":{NOW},"endTimeUnixNano":{NOW}}}"#);
    let in_otlp = |member: &str| {
        let more = if member.is_empty() { String::new() } else { format!(",{member}") };
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{otlp}]}}]}}]{more}}}"#)
    };
    let expected = Some(Sequence { sender: 255, sent_before: 12, spans: 1, lost_before: 0 });
    for text in [
        format!("[{span},{}]", zipkin(&format!(",{sequence}"))),
        in_otlp(sequence),
        in_otlp(&sequence.replace("12", "\"1.2e1\"")),
    ] {
        let decoded = decode(text.as_bytes());
        assert_eq!((decoded.sequence, faults(&decoded)), (expected, vec![]), "{text}");
    }
    // A member of that name with another content is ignored.
    for member in ["", r#""tracingUsdt":7"#, r#""tracingUsdt":{"sender":"x"}"#, r#""tracingUsdt":null"#] {
        let decoded = decode(in_otlp(member).as_bytes());
        assert_eq!(
            (decoded.sequence, spans(&decoded).len(), faults(&decoded).len()),
            (None, 1, 0),
            "{member}"
        );
    }
}

/// A large resource would take room in each request, and in memory with each trace.
#[test]
fn the_size_of_a_resource_is_limited() {
    let large = "x".repeat(100_000);
    let span = format!(
        r#"{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"n","startTimeUnixNano":"{NOW}","endTimeUnixNano":"{NOW}"}}"#
    );
    let request = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"large","value":{{"stringValue":"{large}"}}}},
            {{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#
    );
    let decoded = decode(request.as_bytes());
    assert!(faults(&decoded).contains(&(Fault::LongResource, 1)), "{:?}", faults(&decoded));
    let process = &decoded.processes[0].0;
    assert_eq!((&*process.service, process.resource.dropped_attributes_count), ("shop", 1));
    let decoded = decode(
        format!("[{}]", zipkin(&format!(r#","localEndpoint":{{"serviceName":"{large}"}}"#))).as_bytes(),
    );
    assert_eq!((faults(&decoded), spans(&decoded).len()), (vec![(Fault::LongResource, 1)], 1));
}

/// A fault's detail has at most 201 characters, whatever was sent.
#[test]
fn the_detail_of_a_fault_is_short() {
    let large = "x".repeat(200_000);
    for member in
        [format!(r#""timestamp":"{large}""#), format!(r#""kind":"{large}""#), format!(r#""id":"{large}""#)]
    {
        let decoded = decode(format!("[{{{member}}}]").as_bytes());
        assert!(decoded.faults.iter().all(|(found, _)| found.detail.chars().count() <= 201), "{member:.20}");
    }
}

#[test]
fn tags_that_are_numbers_keep_their_value() {
    let decoded = decode(
        format!("[{}]", zipkin(r#","tags":{"i":-3,"u":18446744073709551615,"f":0.5,"b":true,"inf":1e999}"#))
            .as_bytes(),
    );
    assert_eq!(faults(&decoded), []);
    let spans = spans(&decoded);
    for (key, value) in [
        ("i", "int -3"),
        ("u", "18446744073709551615"),
        ("f", "double 0.5"),
        ("b", "bool true"),
        ("inf", "1e999"),
    ] {
        assert_eq!(text(&spans[0].attributes, key).as_deref(), Some(value));
    }
}

/// A thousand senders and names exceed the decoder's cache. Spans must still get their own service.
#[test]
fn many_services_are_not_mixed_up() {
    let mut decoder = Decoder::default();
    for round in 0..3 {
        for n in 0..1000 {
            let sender = Sender { pid: n % 1500, ..SENDER };
            let span = zipkin(&format!(r#","localEndpoint":{{"serviceName":"s{n}"}}"#));
            let decoded = decoder.decode(format!("[{span}]").as_bytes(), sender, NOW);
            let (process, _) = &decoded.processes[0];
            assert_eq!((process.service.clone(), process.sender), (format!("s{n}"), sender), "{round}");
        }
    }
}

/// A value in OTLP/JSON.
fn any_value() -> impl Strategy<Value = serde_json::Value> {
    let text = prop_oneof!["[a-z ]{0,20}", any::<String>(), Just("\"}},{\"key\":\"x".to_owned())];
    let scalar = prop_oneof![
        4 => text.prop_map(|text| json!({ "stringValue": text })),
        2 => any::<i64>().prop_map(|int| json!({ "intValue": int.to_string() })),
        1 => any::<i64>().prop_map(|int| json!({ "intValue": int })),
        1 => any::<i32>().prop_map(|halves| json!({ "doubleValue": f64::from(halves) / 2.0 })),
        1 => any::<bool>().prop_map(|bool| json!({ "boolValue": bool })),
    ];
    prop_oneof![
        6 => scalar.clone(),
        1 => prop::collection::vec(scalar, 0..3).prop_map(|values| json!({ "arrayValue": { "values": values } })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// With any white space, escapes, and order of members.
    #[test]
    fn attributes_are_read_like_with_opentelemetrys_types(
        attributes in prop::collection::vec((".{0,12}", any_value(), any::<bool>()), 0..14),
        pretty in any::<bool>(),
        escaped in any::<bool>(),
    ) {
        let attribute = |(key, value, value_first): &(String, serde_json::Value, bool)| match value_first {
            true => format!(r#"{{"value":{value},"key":{}}}"#, json!(key)),
            false => format!(r#"{{"key":{},"value":{value}}}"#, json!(key)),
        };
        let list: Vec<String> = attributes.iter().map(attribute).collect();
        let mut text = otlp("", &format!(r#","attributes":[{}]"#, list.join(",")));
        if pretty {
            text = serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&text).unwrap()).unwrap();
        }
        if escaped {
            text = text.replace("{\"key\"", "{ \"\\u006bey\"");
        }
        let official: ExportTraceServiceRequest = serde_json::from_str(&text).unwrap();
        let decoded = decode(text.as_bytes());
        prop_assert_eq!(&decoded.processes[0].1, &official.resource_spans[0].scope_spans, "{}", text);
    }

    /// Never panics, and reports a fault.
    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let decoded = decode(&bytes);
        prop_assert!(decoded.processes.is_empty());
        prop_assert!(!faults(&decoded).is_empty() || bytes.trim_ascii() == b"[]");
    }

    /// A valid datagram with a few bytes changed gives at most its one span, with complete ids.
    #[test]
    fn changed_bytes_cause_no_panic(
        changes in prop::collection::vec((0usize..1000, prop_oneof![any::<u8>(), prop::sample::select(&b"\"\\{}[]:, 0n"[..])]), 1..4),
        otlp in any::<bool>(),
    ) {
        let mut bytes = if otlp {
            format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"n","startTimeUnixNano":"{NOW}","endTimeUnixNano":"{NOW}","attributes":[{{"key":"k","value":{{"intValue":"1"}}}},{{"key":"a longer key","value":{{"stringValue":"é"}}}},{{"key":"b","value":{{"boolValue":true}}}}]}}]}}]}}]}}"#)
        } else {
            format!("[{}]", zipkin(r#","localEndpoint":{"serviceName":"s","port":1},"tags":{"k":"v","a longer key":"é"}"#))
        }.into_bytes();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let decoded = decode(&bytes);
        for span in spans(&decoded) {
            prop_assert!(span.trace_id.len() == 16 && span.span_id.len() == 8);
            prop_assert!(span.trace_id.iter().any(|b| *b != 0) && span.span_id.iter().any(|b| *b != 0));
            prop_assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        }
        prop_assert!(spans(&decoded).len() <= 1);
        prop_assert!(spans(&decoded).len() == 1 || !faults(&decoded).is_empty() || otlp);
    }
}

/// An OTLP request in JSON with this report of open spans.
fn with_report(report: &str) -> Decoded {
    let resource = r#"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]}}"#;
    decode(format!(r#"{{"resourceSpans":[{resource}],"tracingUsdtOpen":{report}}}"#).as_bytes())
}

const OPEN_SPAN: &str = r#"{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7","name":"hangs","startTimeUnixNano":"1767225598000000000","endTimeUnixNano":"1767225600000000000"}"#;

#[test]
fn a_report_of_open_spans_is_apart_from_the_spans() {
    let decoded = with_report(&format!(r#"{{"count":3,"thresholdNano":"1000","spans":[{OPEN_SPAN}]}}"#));
    assert!(decoded.processes.is_empty() && decoded.encoded.is_empty() && faults(&decoded).is_empty());
    let (process, report) = decoded.open.unwrap();
    assert_eq!((&*process.service, report.count, report.threshold_ns), ("shop", 3, 1000));
    assert_eq!((report.spans.len(), &*report.spans[0].name), (1, "hangs"));
}

#[test]
fn what_cannot_be_read_of_a_report_of_open_spans_is_counted() {
    for report in ["7", "[7]", "\"x\"", r#"{"spans":7}"#, r#"{"count":"x"}"#] {
        let decoded = with_report(report);
        assert_eq!(faults(&decoded).len(), 1, "{report}: {decoded:?}");
        assert!(faults(&decoded)[0].0.refuses(), "{report}: {decoded:?}");
    }
    let spans = |spans: &str| with_report(&format!(r#"{{"count":1,"spans":[{spans}]}}"#));
    // Without ids, and without times: the others are kept, and all of them count.
    let without_id = OPEN_SPAN.replace("00f067aa0ba902b7", "0000000000000000");
    let decoded = spans(&format!("{without_id},{OPEN_SPAN}"));
    assert_eq!(faults(&decoded), [(Fault::ZeroId, 1)]);
    assert_eq!(decoded.open.unwrap().1.spans.len(), 1);
    let without_end = OPEN_SPAN.replace(r#","endTimeUnixNano":"1767225600000000000""#, "");
    let decoded = spans(&format!("{without_end},{OPEN_SPAN}"));
    assert!(faults(&decoded).contains(&(Fault::WrongType, 1)), "{decoded:?}");
    let report = decoded.open.unwrap().1;
    assert_eq!((report.spans.len(), report.count), (1, 2));
    let decoded = spans(&vec![OPEN_SPAN; 1500].join(","));
    assert_eq!(faults(&decoded), [(Fault::LeftOut, 1)]);
    let report = decoded.open.unwrap().1;
    assert_eq!((report.spans.len(), report.count), (1000, 1500));
    // Nobody knows whose spans these are.
    let decoded =
        decode(format!(r#"{{"resourceSpans":[],"tracingUsdtOpen":{{"spans":[{OPEN_SPAN}]}}}}"#).as_bytes());
    assert!(decoded.open.is_none());
    assert_eq!(faults(&decoded), [(Fault::WrongType, 1)]);
}

#[test]
fn rubbish_in_a_report_in_protobuf_is_counted() {
    let resource = ExportTraceServiceRequest { resource_spans: vec![Default::default()] }.encode_to_vec();
    // The field 1018 with a length, and then what it has.
    let report = |bytes: &[u8]| decode(&[&resource[..], &[0xd2, 0x3f, bytes.len() as u8], bytes].concat());
    let decoded = report(b"");
    assert_eq!((faults(&decoded).len(), decoded.open.unwrap().1.count), (0, 0));
    for rubbish in [&b"\x12\x05ab"[..], b"\xff\xff\xff", b"\x12\x02\xff\xff", b"\x12\x00"] {
        let decoded = report(rubbish);
        assert_eq!(faults(&decoded).len(), 1, "{rubbish:?}: {decoded:?}");
        assert!(faults(&decoded)[0].0.refuses(), "{rubbish:?}: {decoded:?}");
        assert!(decoded.open.is_none_or(|(_, report)| report.spans.is_empty()));
    }
}
