//! spantap accepts every form that JSON, protobuf's JSON, OTLP and Zipkin allow. If a part can't be read, only
//! that part is left out and counted.
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use proptest::prelude::*;
use prost::Message;
use spantap::decode::{Decoded, Decoder, Fault};
use spantap::encode::{Chunk, request};
use spantap::process::Sender;

const SENDER: Sender = Sender { pid: 4242, uid: 1000, gid: 100 };
/// 2026-01-01.
const NOW: u64 = 1_767_225_600_000_000_000;
const MS: u64 = 1_000_000;

fn decode(text: &str) -> Decoded {
    decode_bytes(text.as_bytes())
}

fn decode_bytes(bytes: &[u8]) -> Decoded {
    Decoder::default().decode(bytes, SENDER, NOW)
}

fn spans(decoded: &Decoded) -> Vec<&Span> {
    decoded.processes.iter().flat_map(|(_, scopes)| scopes).flat_map(|scope| &scope.spans).collect()
}

fn faults(decoded: &Decoded) -> Vec<(Fault, u64)> {
    decoded.faults.iter().map(|(found, count)| (found.fault, count)).collect()
}

fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match find(attributes, key)? {
        Value::StringValue(text) => Some(text),
        other => panic!("{key} is {other:?}"),
    }
}

fn odd(span: &Span) -> &str {
    text(&span.attributes, "spantap.odd").unwrap_or("")
}

/// A Zipkin span with ids and these members.
fn zipkin(members: &str) -> String {
    format!(r#"[{{"traceId":"0af7651916cd43dd8448eb211c80319c","id":"b7ad6b7169203331",{members}}}]"#)
}

/// A request with one span, with ids and these members.
fn otlp(members: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331",{members}}}]}}]}}]}}"#
    )
}

/// A request with one span, with ids, valid times and these members.
fn timed(members: &str) -> String {
    otlp(&format!(r#""startTimeUnixNano":"{NOW}","endTimeUnixNano":"{NOW}",{members}"#))
}

/// Decodes a datagram that must have one span and no fault.
fn decode_one(text: &str) -> Span {
    let decoded = decode(text);
    assert_eq!(faults(&decoded), [], "{text}");
    let spans = spans(&decoded);
    assert_eq!(spans.len(), 1, "{text}");
    spans[0].clone()
}

#[test]
fn integers_may_have_any_form_of_json() {
    for (timestamp, duration) in [
        ("1767225600000001", "2000"),
        ("1.767225600000001e15", "2e3"),
        ("1.767225600000001E+15", "2000.0"),
        ("1767225600000001.0", "20000e-1"),
        ("\"1767225600000001\"", "\"2000\""),
        ("\"1.767225600000001e15\"", "\"2e3\""),
        // Fractions of a microsecond are dropped.
        ("1767225600000001.9", "2000.7"),
    ] {
        let span = decode_one(&zipkin(&format!(r#""timestamp":{timestamp},"duration":{duration}"#)));
        let times = (span.start_time_unix_nano, span.end_time_unix_nano);
        assert_eq!(times, (NOW + 1_000, NOW + 2_001_000), "{timestamp} {duration}");
    }
    for start in [
        "1767225600000000001",
        "\"1767225600000000001\"",
        "1.767225600000000001e18",
        "\"1767225600000000001.0\"",
    ] {
        let span = decode_one(&otlp(&format!(
            r#""startTimeUnixNano":{start},"endTimeUnixNano":1767225600000000002e0"#
        )));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (NOW + 1, NOW + 2), "{start}");
    }
    for (value, expected) in [
        ("5", 5),
        ("\"5\"", 5),
        ("5.0", 5),
        ("5e2", 500),
        ("\"5e2\"", 500),
        ("-9223372036854775808", i64::MIN),
        ("\"9.223372036854775807e18\"", i64::MAX),
    ] {
        let span = decode_one(&timed(&format!(
            r#""attributes":[{{"key":"k","value":{{"intValue":{value}}}}}],"droppedEventsCount":3.0"#
        )));
        assert_eq!(find(&span.attributes, "k"), Some(&Value::IntValue(expected)), "{value}");
        assert_eq!(span.dropped_events_count, 3);
    }
    for (value, expected) in [
        ("1", 1.0),
        ("\"1.5\"", 1.5),
        ("\"Infinity\"", f64::INFINITY),
        ("\"-Infinity\"", f64::NEG_INFINITY),
        ("1e-400", 0.0),
    ] {
        let span =
            decode_one(&timed(&format!(r#""attributes":[{{"key":"k","value":{{"doubleValue":{value}}}}}]"#)));
        assert_eq!(find(&span.attributes, "k"), Some(&Value::DoubleValue(expected)), "{value}");
    }
    let span = decode_one(&timed(r#""attributes":[{"key":"k","value":{"doubleValue":"NaN"}}]"#));
    assert!(matches!(find(&span.attributes, "k"), Some(Value::DoubleValue(number)) if number.is_nan()));
}

#[test]
fn ids_may_lack_leading_zeros_and_may_be_base64() {
    let cases = [
        ("1", "2", 1, 2),
        ("abc", "def", 0xabc, 0xdef),
        ("463ac35c9f6413ad", "63ac35c9f6413ad", 0x463a_c35c_9f64_13ad, 0x063a_c35c_9f64_13ad),
        (
            "63ac35c9f6413ad48485a3953bb6124",
            "63ac35c9f6413ad",
            0x063a_c35c_9f64_13ad_4848_5a39_53bb_6124,
            0x063a_c35c_9f64_13ad,
        ),
        (
            "CvdlGRbNQ92ESOshHIAxnA==",
            "t61rcWkgMzE=",
            0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            0xb7ad_6b71_6920_3331,
        ),
        ("_____________________w", "__________8", u128::MAX, u64::MAX),
    ];
    for (trace, id, trace_id, span_id) in cases {
        let zipkin = format!(
            r#"[{{"traceId":"{trace}","id":"{id}","parentId":"7","timestamp":1767225600000000,"duration":1}}]"#
        );
        let otlp = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{trace}","spanId":"{id}","parentSpanId":"7","startTimeUnixNano":"{NOW}","endTimeUnixNano":"{NOW}"}}]}}]}}]}}"#
        );
        for text in [zipkin, otlp] {
            let span = decode_one(&text);
            assert_eq!(span.trace_id, trace_id.to_be_bytes(), "{text}");
            assert_eq!(span.span_id, span_id.to_be_bytes(), "{text}");
            assert_eq!(span.parent_span_id, 7_u64.to_be_bytes(), "{text}");
        }
    }
}

#[test]
fn a_lone_surrogate_is_replaced_by_one_character() {
    let decoded = decode(&timed(
        r#""name":"cut \ud83d","traceState":"a=\udc00","status":{"message":"\ud800","code":2},
        "attributes":[{"key":"k\ud83d","value":{"stringValue":"v\ud83d"}},{"key":"whole","value":{"stringValue":"\ud83d\udc4d"}}],
        "events":[{"timeUnixNano":"1767225600000000000","name":"e\ud83d"}],"\ud83d":1"#,
    ));
    assert_eq!(faults(&decoded), [(Fault::BadText, 7)]);
    let span = spans(&decoded)[0];
    assert_eq!(
        (&*span.name, &*span.trace_state, &*span.events[0].name),
        ("cut \u{fffd}", "a=\u{fffd}", "e\u{fffd}")
    );
    assert_eq!(text(&span.attributes, "k\u{fffd}"), Some("v\u{fffd}"));
    assert_eq!(text(&span.attributes, "whole"), Some("👍"));

    let decoded = decode(&zipkin(
        r#""timestamp":1767225600000000,"duration":1,"name":"\ud83d","localEndpoint":{"serviceName":"shop\udc00"},
        "tags":{"k\ud83d":"v\ud83d"},"annotations":[{"timestamp":1767225600000000,"value":"a\ud83d"}]"#,
    ));
    assert_eq!(faults(&decoded), [(Fault::BadText, 5)]);
    assert_eq!(decoded.processes[0].0.service, "shop\u{fffd}");
    assert_eq!(text(&spans(&decoded)[0].attributes, "k\u{fffd}"), Some("v\u{fffd}"));
}

/// Such as Latin-1 from C, PHP or Lua.
#[test]
fn bytes_that_are_not_utf_8_are_replaced() {
    let text = zipkin(r#""timestamp":1767225600000000,"duration":1,"name":"caf~","tags":{"a":"1"}"#);
    let bytes: Vec<u8> = text.bytes().map(|byte| if byte == b'~' { 0xe9 } else { byte }).collect();
    let decoded = decode_bytes(&bytes);
    assert_eq!((faults(&decoded), &*spans(&decoded)[0].name), (vec![(Fault::BadText, 1)], "caf\u{fffd}"));
    // A byte order mark at the start, as some editors and Windows write it.
    assert_eq!(decode_one(&format!("\u{feff}{}", text.replace('~', "é"))).name, "café");
}

#[test]
fn base64_may_have_either_alphabet_and_padding_or_none() {
    for (value, expected) in [
        ("", &[][..]),
        ("+/8=", &[0xfb, 0xff]),
        ("-_8=", &[0xfb, 0xff]),
        ("+/8", &[0xfb, 0xff]),
        ("-_8", &[0xfb, 0xff]),
        ("aGk=", b"hi"),
        ("aGk", b"hi"),
        ("aGl=", b"hi"),
    ] {
        let span = decode_one(&timed(&format!(
            r#""attributes":[{{"key":"k","value":{{"bytesValue":"{value}"}}}}]"#
        )));
        assert_eq!(find(&span.attributes, "k"), Some(&Value::BytesValue(expected.to_vec())), "{value}");
    }
}

#[test]
fn kinds_and_codes_may_be_names_or_numbers_and_unknown_numbers_are_kept() {
    for (kind, code, expected) in [
        ("2", "2", 2),
        ("\"SPAN_KIND_SERVER\"", "\"STATUS_CODE_ERROR\"", 2),
        ("\"SERVER\"", "\"error\"", 2),
        ("\"2\"", "\"2\"", 2),
        ("2.0", "2e0", 2),
        ("17", "17", 17),
        ("null", "null", 0),
    ] {
        let span = decode_one(&timed(&format!(r#""kind":{kind},"status":{{"code":{code}}}"#)));
        assert_eq!((span.kind, span.status.unwrap().code), (expected, expected), "{kind} {code}");
    }
    let timed = r#""timestamp":1767225600000000,"duration":1"#;
    for (kind, expected) in [
        ("\"SERVER\"", SpanKind::Server),
        ("\"client\"", SpanKind::Client),
        ("\"\"", SpanKind::Internal),
        ("null", SpanKind::Internal),
    ] {
        assert_eq!(decode_one(&zipkin(&format!(r#"{timed},"kind":{kind}"#))).kind, expected as i32, "{kind}");
    }
    for unknown in [zipkin(&format!(r#"{timed},"kind":"ROOT""#)), zipkin(&format!(r#"{timed},"kind":7"#))] {
        let decoded = decode(&unknown);
        assert_eq!(
            (faults(&decoded), spans(&decoded)[0].kind),
            (vec![(Fault::LeftOut, 1)], SpanKind::Internal as i32)
        );
    }
}

#[test]
fn members_may_have_protobufs_names_and_those_of_2022() {
    let request = |text: &str| ExportTraceServiceRequest::decode(&*encoded(text)).unwrap();
    let usual = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"scope":{{"name":"lib"}},"schemaUrl":"u","spans":[{{
        "traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","parentSpanId":"b7ad6b7169203332","traceState":"a=b",
        "startTimeUnixNano":"{NOW}","endTimeUnixNano":"{NOW}","droppedAttributesCount":1,"droppedEventsCount":2,"droppedLinksCount":3,
        "attributes":[{{"key":"a","value":{{"stringValue":"s"}}}},{{"key":"b","value":{{"arrayValue":{{"values":[{{"intValue":"1"}},{{"doubleValue":1}}]}}}}}},
        {{"key":"c","value":{{"kvlistValue":{{"values":[{{"key":"d","value":{{"boolValue":true}}}},{{"key":"e","value":{{"bytesValue":"aGk="}}}}]}}}}}}],
        "events":[{{"timeUnixNano":"{NOW}","name":"e"}}],
        "links":[{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","traceState":"c=d"}}]}}]}}]}}]}}"#
    );
    let mut snake = String::new();
    for part in usual.split_inclusive('"') {
        // Only keys have capitals between small letters.
        let is_name = part.ends_with('"')
            && part.len() > 3
            && part[..part.len() - 1].bytes().all(|byte| byte.is_ascii_alphabetic());
        match is_name {
            true => part.chars().for_each(|c| match c.is_ascii_uppercase() {
                true => snake.extend(['_', c.to_ascii_lowercase()]),
                false => snake.push(c),
            }),
            false => snake.push_str(part),
        }
    }
    assert!(snake.contains("start_time_unix_nano") && snake.contains("kvlist_value"), "{snake}");
    assert_eq!(request(&snake), request(&usual));
    let of_2022 = usual
        .replace("scopeSpans", "instrumentationLibrarySpans")
        .replace("\"scope\"", "\"instrumentationLibrary\"");
    assert_eq!(request(&of_2022), request(&usual));
}

fn encoded(text: &str) -> Vec<u8> {
    let decoded = decode(text);
    assert_eq!(faults(&decoded), [], "{text}");
    let chunks: Vec<Chunk> =
        decoded.processes.iter().map(|(process, scopes)| Chunk::encode(process, scopes)).collect();
    request(&chunks).to_vec()
}

#[test]
fn a_member_that_is_null_counts_as_missing() {
    for member in [
        "name",
        "kind",
        "parentSpanId",
        "traceState",
        "flags",
        "attributes",
        "droppedAttributesCount",
        "events",
        "droppedEventsCount",
        "links",
        "droppedLinksCount",
        "status",
        "x",
    ] {
        decode_one(&timed(&format!("\"{member}\":null")));
    }
    for odd in [
        r#""events":[{"timeUnixNano":null,"name":null,"attributes":null,"droppedAttributesCount":null}]"#,
        r#""status":{"code":null,"message":null}"#,
        r#""attributes":[{"key":"k","value":null},{"key":"l","value":{"stringValue":null}},{"key":"m","value":{"arrayValue":null}}]"#,
        r#""attributes":[{"key":"k","value":{"arrayValue":{"values":[null,{"intValue":1}]}}},{"key":"l","value":{"kvlistValue":{"values":null}}}]"#,
    ] {
        decode_one(&timed(odd));
    }
    decode_one(&format!(
        r#"{{"x":null,"resourceSpans":[{{"resource":null,"scopeSpans":null}},{{"resource":{{"attributes":null}},"scopeSpans":[{{"scope":null,"schemaUrl":null,"spans":null}},
        {{"scope":{{"name":null,"version":null,"attributes":null}},"spans":[{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","startTimeUnixNano":"{NOW}","endTimeUnixNano":"{NOW}"}}]}}]}}]}}"#
    ));
    let timed = r#""timestamp":1767225600000000,"duration":1"#;
    for member in [
        "name",
        "kind",
        "parentId",
        "localEndpoint",
        "remoteEndpoint",
        "annotations",
        "binaryAnnotations",
        "tags",
        "shared",
        "debug",
    ] {
        decode_one(&zipkin(&format!("{timed},\"{member}\":null")));
    }
    let span = decode_one(&zipkin(&format!(
        r#"{timed},"localEndpoint":{{"serviceName":null,"ipv4":null,"ipv6":null,"port":null}},"tags":{{"none":null,"error":null}},
        "annotations":[{{"timestamp":null,"value":null,"endpoint":null}}]"#
    )));
    assert_eq!(
        span.attributes.iter().map(|attribute| &*attribute.key).collect::<Vec<_>>(),
        ["none", "error", "spantap.odd"]
    );
    assert!(span.status.is_none() && span.events.len() == 1);
}

/// PHP writes an empty map as a list, and Lua writes an empty list as a map.
#[test]
fn empty_lists_and_objects_may_stand_for_each_other() {
    let span = decode_one(&zipkin(
        r#""timestamp":1767225600000000,"duration":1,"localEndpoint":[],"remoteEndpoint":[ ],"tags":[],"annotations":{},"name":"n""#,
    ));
    assert_eq!((&*span.name, span.attributes.len(), span.events.len()), ("n", 0, 0));
    decode_one(&timed(r#""attributes":{},"events":{ },"links":{},"status":[]"#));
    let decoded = decode(&zipkin(
        r#""timestamp":1767225600000000,"duration":1,"tags":["a","b"],"annotations":{"a":1},"name":"n""#,
    ));
    assert_eq!((faults(&decoded), spans(&decoded).len()), (vec![(Fault::LeftOut, 2)], 1));
}

#[test]
fn port_0_means_none_and_only_an_invalid_port_is_left_out() {
    let members = |port: &str| {
        zipkin(&format!(
            r#""timestamp":1767225600000000,"duration":1,"localEndpoint":{{"serviceName":"s","ipv4":"10.0.0.1","port":{port}}}"#
        ))
    };
    assert_eq!(find(&decode_one(&members("0")).attributes, "network.local.port"), None);
    assert_eq!(
        find(&decode_one(&members("\"80\"")).attributes, "network.local.port"),
        Some(&Value::IntValue(80))
    );
    for port in ["70000", "-1", "\"http\"", "{}", "1.5"] {
        let decoded = decode(&members(port));
        assert_eq!(faults(&decoded), [(Fault::LeftOut, 1)], "{port}");
        assert_eq!(decoded.processes[0].0.service, "s");
        assert_eq!(text(&spans(&decoded)[0].attributes, "network.local.address"), Some("10.0.0.1"));
    }
}

#[test]
fn an_invalid_attribute_is_left_out_and_counted_where_it_was() {
    let deep = format!("{}{{\"intValue\":1}}{}", r#"{"arrayValue":{"values":["#.repeat(40), "]}}".repeat(40));
    for (odd, fault) in [
        ("7", Fault::LeftOut),
        ("null", Fault::LeftOut),
        ("[]", Fault::LeftOut),
        ("\"k\"", Fault::LeftOut),
        (r#"{"value":{"stringValue":"v"}}"#, Fault::LeftOut),
        (r#"{"key":7,"value":{"stringValue":"v"}}"#, Fault::LeftOut),
        (r#"{"key":{"a":1},"value":{"stringValue":"v"}}"#, Fault::LeftOut),
        (r#"{"key":"k","value":7}"#, Fault::LeftOut),
        (r#"{"key":"k","value":"v"}"#, Fault::LeftOut),
        (r#"{"key":"k","value":{"stringValue":7}}"#, Fault::LeftOut),
        (r#"{"key":"k","value":{"boolValue":"maybe"}}"#, Fault::LeftOut),
        (r#"{"key":"k","value":{"intValue":1.5}}"#, Fault::LeftOut),
        (r#"{"key":"k","value":{"intValue":"9223372036854775808"}}"#, Fault::LeftOut),
        (r#"{"key":"k","value":{"intValue":1e400}}"#, Fault::LeftOut),
        (r#"{"key":"k","value":{"doubleValue":1e400}}"#, Fault::LeftOut),
        (r#"{"key":"k","value":{"bytesValue":"?"}}"#, Fault::LeftOut),
        (r#"{"key":"k","value":{"arrayValue":{"values":7}}}"#, Fault::LeftOut),
        (
            r#"{"key":"k","value":{"kvlistValue":{"values":[{"key":"l","value":{"intValue":"x"}}]}}}"#,
            Fault::LeftOut,
        ),
        (r#"{"key":"k","value":{"stringValue":"a","intValue":1}}"#, Fault::LeftOut),
        (r#"{"key":"k","value":{"futureValue":1}}"#, Fault::LeftOut),
        (&*format!(r#"{{"key":"k","value":{deep}}}"#), Fault::TooDeep),
    ] {
        let list = format!(
            r#"[{{"key":"a","value":{{"intValue":"1"}}}},{odd},{{"key":"z","value":{{"stringValue":"26"}}}}]"#
        );
        let decoded = decode(&timed(&format!(
            r#""droppedAttributesCount":5,"attributes":{list},"events":[{{"timeUnixNano":"{NOW}","name":"e","attributes":{list}}}],
            "links":[{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","attributes":{list}}}]"#
        )));
        assert_eq!(faults(&decoded), [(fault, 3)], "{odd}");
        let span = spans(&decoded)[0];
        assert_eq!(span.dropped_attributes_count, 6, "{odd}");
        assert_eq!(
            (span.events[0].dropped_attributes_count, span.links[0].dropped_attributes_count),
            (1, 1),
            "{odd}"
        );
        for attributes in [&span.attributes, &span.events[0].attributes, &span.links[0].attributes] {
            assert_eq!(
                attributes.iter().map(|attribute| &*attribute.key).collect::<Vec<_>>(),
                ["a", "z"],
                "{odd}"
            );
        }
        let request = timed(r#""name":"n""#)
            .replace(r#"[{"scopeSpans""#, &format!(r#"[{{"resource":{{"attributes":{list}}},"scopeSpans""#));
        let decoded = decode(&request);
        assert_eq!((faults(&decoded), spans(&decoded).len()), (vec![(fault, 1)], 1), "{odd}");
        let resource = &decoded.processes[0].0.resource;
        assert_eq!(
            (resource.dropped_attributes_count, text(&resource.attributes, "z")),
            (1, Some("26")),
            "{odd}"
        );
    }
}

#[test]
fn invalid_events_and_links_are_left_out_and_counted() {
    let decoded = decode(&timed(
        r#""events":[7,{"name":"e"},null,{"timeUnixNano":"soon","name":"f"}],"droppedEventsCount":1,
        "links":[{},{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331"},{"traceId":"0","spanId":"1"},7]"#,
    ));
    let span = spans(&decoded)[0];
    assert_eq!((span.events.len(), span.dropped_events_count), (2, 3));
    assert_eq!((span.links.len(), span.dropped_links_count), (1, 3));
    // LeftOut: two events, a member of an event, and a link.
    assert_eq!(faults(&decoded), [(Fault::LeftOut, 4), (Fault::BadReference, 2)]);
    // Events without a time are put at the span's start.
    assert_eq!(odd(span), "2 events without a time: shown at the start");
    assert!(span.events.iter().all(|event| event.attributes.is_empty()));
    assert_eq!(span.events.iter().map(|event| event.time_unix_nano).collect::<Vec<_>>(), [NOW, NOW]);

    let decoded = decode(&zipkin(
        r#""timestamp":1767225600000000,"duration":1,"annotations":["a",{"timestamp":1767225600000000,"value":{"k":1}},7],"tags":{"otel.dropped_events_count":"4"}"#,
    ));
    let span = spans(&decoded)[0];
    assert_eq!((&*span.events[0].name, span.events.len(), span.dropped_events_count), (r#"{"k":1}"#, 1, 6));
}

#[test]
fn each_part_left_out_is_counted_once_with_its_reason() {
    let link = |ids: &str| timed(&format!(r#""links":[{{{ids}}}]"#));
    let annotation = |members: &str| {
        zipkin(&format!(r#""timestamp":1767225600000000,"duration":1,"binaryAnnotations":[{{{members}}}]"#))
    };
    for (text, fault) in [
        (link(r#""traceId":"0","spanId":"1""#), Fault::BadReference),
        (link(r#""traceId":"1","spanId":"x""#), Fault::BadReference),
        (link(r#""traceId":1,"spanId":"1""#), Fault::BadReference),
        (link(r#""traceId":"1""#), Fault::BadReference),
        (link(""), Fault::BadReference),
        (timed(r#""links":[7]"#), Fault::LeftOut),
        (timed(r#""parentSpanId":"x""#), Fault::BadReference),
        (timed(r#""parentSpanId":{}"#), Fault::BadReference),
        (timed(r#""flags":"x""#), Fault::LeftOut),
        (annotation(r#""key":7,"value":"v""#), Fault::LeftOut),
        (annotation(r#""value":"v""#), Fault::LeftOut),
    ] {
        let decoded = decode(&text);
        assert_eq!(faults(&decoded), [(fault, 1)], "{text}");
        assert_eq!(spans(&decoded).len(), 1);
    }
}

/// Otherwise spantap's notes could make a span many times as large as its datagram.
#[test]
fn a_fault_that_occurs_often_in_a_span_is_noted_once() {
    let many = 20_000;
    for (text, note) in [
        (timed(&format!(r#""events":[{}{{}}]"#, "{},".repeat(many - 1))), "20000 events without a time"),
        (
            zipkin(&format!(
                r#""timestamp":1767225600000000,"duration":1,"annotations":[{}{{}}]"#,
                "{},".repeat(many - 1)
            )),
            "20000 events without a time",
        ),
        (timed(&format!("{}\"name\":\"n\"", r#""parentSpanId":"x","#.repeat(many))), "its parent is unknown"),
        (
            zipkin(&format!(
                r#"{}"timestamp":1767225600000000,"duration":1"#,
                r#""parentId":1,"#.repeat(many)
            )),
            "its parent is unknown",
        ),
    ] {
        let decoded = decode(&text);
        let span = spans(&decoded)[0];
        assert!(odd(span).starts_with(note) && odd(span).len() < 200, "{}", odd(span).len());
        assert!(span.events.iter().all(|event| event.attributes.is_empty()));
        assert!(span.encoded_len() < 4 * text.len(), "{} of {}", span.encoded_len(), text.len());
    }
    // The last of several parents counts.
    let span = timed(r#""parentSpanId":"x","parentSpanId":"7""#);
    let decoded = decode(&span);
    assert_eq!(faults(&decoded), [(Fault::Duplicate, 1)]);
    let span = spans(&decoded)[0];
    assert_eq!((&*span.parent_span_id, odd(span)), (&7_u64.to_be_bytes()[..], ""));
}

/// spantap keeps the ids of shared spans under these keys, and trusts them.
#[test]
fn a_senders_attribute_with_a_key_of_spantaps_is_renamed() {
    let id = "00000000000000ff";
    for key in ["zipkin.id", "zipkin.parent_id"] {
        let tag = zipkin(&format!(
            r#""timestamp":1767225600000000,"duration":1,"kind":"SERVER","tags":{{"{key}":"{id}"}}"#
        ));
        let attribute =
            timed(&format!(r#""attributes":[{{"key":"{key}","value":{{"stringValue":"{id}"}}}}]"#));
        // The members in the other order.
        let other = timed(&format!(r#""attributes":[{{"value":{{"stringValue":"{id}"}},"key":"{key}"}}]"#));
        for text in [tag, attribute, other] {
            let span = decode_one(&text);
            assert_eq!(span.span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
            assert_eq!((text_of(&span, key), text_of(&span, &format!("sent.{key}"))), (None, Some(id)));
        }
    }
}

/// Only the form that the layer writes becomes links: all digits of both ids.
#[test]
fn a_tag_that_only_resembles_links_stays_a_tag() {
    let ids = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
    for own in ["cafe-babe", "1-2", "", "-", &format!("{ids},1-2"), &ids[1..], &ids[..48]] {
        let span = decode_one(&zipkin(&format!(
            r#""timestamp":1767225600000000,"duration":1,"tags":{{"follows_from":"{own}"}}"#
        )));
        assert_eq!((text_of(&span, "follows_from"), span.links.len()), (Some(own), 0));
    }
    let span = decode_one(&zipkin(&format!(
        r#""timestamp":1767225600000000,"duration":1,"tags":{{"follows_from":"{ids},{ids}"}}"#
    )));
    assert_eq!((text_of(&span, "follows_from"), span.links.len()), (None, 2));
}

#[test]
fn spans_are_accepted_beside_invalid_members() {
    let span = |id: u8| {
        format!(r#"{{"traceId":"a","spanId":"{id}","startTimeUnixNano":"{NOW}","endTimeUnixNano":"{NOW}"}}"#)
    };
    let (spans_of, more) =
        (format!(r#""spans":[{},{}]"#, span(1), span(2)), format!(r#""spans":[{}]"#, span(3)));
    let (scopes, resources) = (
        format!(r#""scopeSpans":[{{{spans_of}}}]"#),
        format!(r#""resourceSpans":[{{"scopeSpans":[{{{spans_of}}}]}}]"#),
    );
    let sequence = r#""tracingUsdt":{"sender":"7","sentBefore":0,"spans":2}"#;
    for odd in ["7", "\"x\"", r#"{"a":1}"#, "true"] {
        for (text, count) in [
            (
                format!(
                    r#"{{"resourceSpans":[{{"scopeSpans":[{{{spans_of},"spans":{odd},{more}}}]}}],{sequence}}}"#
                ),
                3,
            ),
            (format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":{odd},{more}}}]}}],{sequence}}}"#), 1),
            (format!(r#"{{"resourceSpans":[{{{scopes},"scopeSpans":{odd}}}],{sequence}}}"#), 2),
            (format!(r#"{{{resources},"resourceSpans":{odd},{sequence}}}"#), 2),
            (format!(r#"{{"resourceSpans":{odd},{sequence},"resourceSpans":null,{resources}}}"#), 2),
        ] {
            let decoded = decode(&text);
            assert_eq!(spans(&decoded).len(), count, "{text}");
            let found: Vec<_> = faults(&decoded).into_iter().filter(|(fault, _)| fault.refuses()).collect();
            assert_eq!(found, [(Fault::WrongType, 1)], "{text}");
            assert_eq!(decoded.sequence.map(|sequence| sequence.spans), Some(2), "{text}");
        }
    }
}

/// Some exporters send such requests when they have no spans.
#[test]
fn a_request_without_spans_is_valid() {
    for spans_of in [
        "",
        "{}",
        r#"{"scopeSpans":[]}"#,
        r#"{"resource":{"attributes":[]},"scopeSpans":[{"scope":{"name":"n"},"spans":[],"schemaUrl":"u"}],"schemaUrl":"u"}"#,
    ] {
        let text = format!(
            r#"{{"resourceSpans":[{spans_of}],"tracingUsdt":{{"sender":"7","sentBefore":5,"spans":0}}}}"#
        );
        let decoded = decode(&text);
        assert_eq!((faults(&decoded), spans(&decoded).len()), (vec![], 0), "{text}");
        assert_eq!(decoded.sequence.map(|sequence| sequence.sent_before), Some(5), "{text}");
    }
}

#[test]
fn the_first_invalid_part_is_reported_with_its_member() {
    let decoded = decode(&timed(r#""flags":"x","attributes":[{"key":"k","value":{"intValue":"x"}}]"#));
    let (found, count) = decoded.faults.iter().next().unwrap();
    assert_eq!(
        (found.fault, count, &*found.detail),
        (Fault::LeftOut, 2, r#"flags: "x" where an integer in its range belongs"#)
    );
    let decoded = decode(&timed(r#""attributes":[{"key":"k","value":{"intValue":"x"}}]"#));
    let (found, _) = decoded.faults.iter().next().unwrap();
    assert_eq!(found.detail, r#"k: "x" where an integer in its range belongs"#);
}

#[test]
fn duplicate_members_are_joined_if_lists_otherwise_the_last_counts() {
    let decoded = decode(&timed(
        r#""name":"a","attributes":[{"key":"a","value":{"intValue":1}}],"name":"b","attributes":[{"key":"b","value":{"intValue":2}}],"name":null"#,
    ));
    assert_eq!(faults(&decoded), [(Fault::Duplicate, 3)]);
    let span = spans(&decoded)[0];
    assert_eq!((&*span.name, span.attributes.len()), ("b", 2));
    let decoded = decode(&zipkin(
        r#""timestamp":1767225600000000,"duration":1,"id":"7","tags":{"a":"1"},"tags":{"b":"2"}"#,
    ));
    assert_eq!(faults(&decoded), [(Fault::Duplicate, 2)]);
    let span = spans(&decoded)[0];
    assert_eq!((&*span.span_id, span.attributes.len()), (&7_u64.to_be_bytes()[..], 2));
}

#[test]
fn an_invalid_parent_is_noted_in_the_span_as_unknown() {
    for (text, member) in [
        (zipkin(r#""timestamp":1767225600000000,"duration":1,"parentId":"root""#), "root"),
        (timed(r#""parentSpanId":17"#), "17"),
    ] {
        let decoded = decode(&text);
        assert_eq!(faults(&decoded), [(Fault::BadReference, 1)]);
        let span = spans(&decoded)[0];
        assert!(span.parent_span_id.is_empty() && odd(span).contains(member), "{}", odd(span));
    }
    for none in [r#""parentSpanId":"""#, r#""parentSpanId":"0000000000000000""#, r#""parentSpanId":"0""#] {
        assert!(decode_one(&timed(none)).parent_span_id.is_empty());
    }
}

#[test]
fn an_end_before_the_start_is_noted_in_the_span() {
    let decoded =
        decode(&otlp(&format!(r#""startTimeUnixNano":"{NOW}","endTimeUnixNano":"{}""#, NOW - 3 * MS)));
    assert_eq!(faults(&decoded), [(Fault::BadTime, 1)]);
    let span = spans(&decoded)[0];
    // Most backends would read a negative duration as a very long one.
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (NOW, NOW));
    assert!(
        odd(span).contains("3.00 ms") && odd(span).contains(&(NOW - 3 * MS).to_string()),
        "{}",
        odd(span)
    );
}

/// Both times are optional in Zipkin, and in protobuf 0 means no time.
#[test]
fn a_span_without_times_gets_the_most_likely_ones_and_a_note() {
    let us = |ms: u64| NOW / 1000 + ms * 1000;
    let event = |ms: u64| format!(r#"{{"timestamp":{},"value":"e"}}"#, us(ms));
    let own = r#""traceId":"a","id":"1","parentId":"9""#;
    let of = |id: &str, parent: &str, from: u64, ms: u64| {
        format!(
            r#"{{"traceId":"a","id":"{id}","parentId":"{parent}","timestamp":{},"duration":{}}}"#,
            us(from),
            ms * 1000
        )
    };
    let (child, parent, other) = (of("2", "1", 20, 5), of("9", "", 3, 90), of("3", "4", 7, 1));
    let cases = [
        // Only a start.
        (format!(r#"[{{{own},"timestamp":{}}}]"#, us(10)), (10, 10), "duration unknown"),
        (format!(r#"[{{{own},"timestamp":{},"duration":null}}]"#, us(10)), (10, 10), "duration unknown"),
        (format!(r#"[{{{own},"timestamp":{},"duration":-5}}]"#, us(10)), (10, 10), "duration unknown"),
        (
            format!(r#"[{{{own},"timestamp":{},"annotations":[{}]}}]"#, us(10), event(12)),
            (10, 12),
            "up to its last event or child",
        ),
        (format!(r#"[{{{own},"timestamp":{}}},{child}]"#, us(10)), (10, 25), "up to its last event or child"),
        // Only a duration.
        (format!(r#"[{{{own},"duration":4000}}]"#), (-4, 0), "when it arrived"),
        (
            format!(r#"[{{{own},"duration":4000,"annotations":[{},{}]}}]"#, event(12), event(11)),
            (11, 15),
            "first event",
        ),
        (format!(r#"[{child},{{{own},"duration":4000}}]"#), (20, 24), "first child"),
        (format!(r#"[{{{own},"duration":4000}},{parent}]"#), (3, 7), "with its parent"),
        (format!(r#"[{{{own},"duration":4000}},{other}]"#), (7, 11), "others of its trace"),
        // Neither.
        (format!("[{{{own}}}]"), (0, 0), "when it arrived"),
        (format!(r#"[{{{own},"timestamp":0,"duration":0}}]"#), (0, 0), "when it arrived"),
        (format!(r#"[{{{own},"timestamp":-1}}]"#), (0, 0), "when it arrived"),
        (format!(r#"[{{{own},"timestamp":"soon"}}]"#), (0, 0), "when it arrived"),
        (format!(r#"[{{{own},"timestamp":18446744073709551615}}]"#), (0, 0), "when it arrived"),
        (format!(r#"[{{{own},"timestamp":{}}}]"#, "9".repeat(400)), (0, 0), "when it arrived"),
        (format!(r#"[{{{own},"annotations":[{},{}]}}]"#, event(12), event(15)), (12, 15), "first event"),
        (format!("[{{{own}}},{child},{parent},{other}]"), (20, 25), "first child"),
        (format!("[{{{own}}},{other},{parent}]"), (3, 3), "with its parent"),
        (format!("[{{{own}}},{other}]"), (7, 7), "others of its trace"),
    ];
    let at = |ms: i64| NOW.checked_add_signed(ms * MS as i64).unwrap();
    for (text, (start, end), note) in cases {
        let decoded = decode(&text);
        let spans = spans(&decoded);
        let span = spans.iter().find(|span| span.span_id == 1_u64.to_be_bytes()).unwrap();
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (at(start), at(end)), "{text}");
        assert!(odd(span).contains(note), "{text}: {}", odd(span));
        assert!(faults(&decoded).contains(&(Fault::NoTime, 1)), "{text}: {:?}", faults(&decoded));
        let others = spans.iter().filter(|other| other.span_id != span.span_id);
        assert!(others.clone().all(|other| odd(other).is_empty()), "{text}");
    }
    // A child whose own time was derived still gives its parent an end, if nothing else does.
    let decoded = decode(&format!(
        r#"[{{"traceId":"a","id":"1","timestamp":{}}},{{"traceId":"a","id":"2","parentId":"1","duration":4000}}]"#,
        us(10)
    ));
    for span in spans(&decoded) {
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (at(10), at(14)), "{}", odd(span));
    }
    for (members, times, note) in [
        (format!(r#""startTimeUnixNano":"{NOW}""#), (0, 0), "duration unknown"),
        (format!(r#""startTimeUnixNano":"{NOW}","endTimeUnixNano":"0""#), (0, 0), "duration unknown"),
        (format!(r#""endTimeUnixNano":"{NOW}""#), (0, 0), "shown at its end"),
        (
            format!(r#""endTimeUnixNano":"{NOW}","events":[{{"timeUnixNano":"{}"}}]"#, NOW - MS),
            (-1, 0),
            "from its first event",
        ),
        (r#""name":"n""#.to_owned(), (0, 0), "when it arrived"),
    ] {
        let decoded = decode(&otlp(&members));
        let span = spans(&decoded)[0];
        assert_eq!(
            (span.start_time_unix_nano, span.end_time_unix_nano),
            (at(times.0), at(times.1)),
            "{members}"
        );
        assert!(odd(span).contains(note), "{members}: {}", odd(span));
    }
}

/// Version 1 has the endpoint, the kind and the times in annotations.
#[test]
fn a_span_of_zipkin_version_1_is_read() {
    let us = |ms: u64| NOW / 1000 + ms * 1000;
    let endpoint = r#"{"serviceName":"gateway","ipv4":"10.1.0.4","port":8080}"#;
    let text = format!(
        r#"[{{"traceId":"463ac35c9f6413ad","id":"a2fb4a1d1a96d312","name":"get","debug":true,
        "annotations":[{{"timestamp":{},"value":"cs","endpoint":{endpoint}}},{{"timestamp":{},"value":"cr","endpoint":{endpoint}}}],
        "binaryAnnotations":[{{"key":"http.path","value":"/api","endpoint":{endpoint}}},{{"key":"retries","value":2,"type":"I32"}},
        {{"key":"error","value":"no route"}},{{"key":"sa","value":true,"endpoint":{{"serviceName":"stock","ipv4":"10.1.0.5"}}}},7]}}]"#,
        us(1),
        us(4)
    );
    let decoded = decode(&text);
    assert_eq!(faults(&decoded), [(Fault::LeftOut, 1), (Fault::NoTime, 1)]);
    assert_eq!(decoded.processes[0].0.service, "gateway");
    let span = spans(&decoded)[0];
    assert_eq!((span.kind, span.dropped_attributes_count), (SpanKind::Client as i32, 1));
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (NOW + MS, NOW + 4 * MS));
    for (key, value) in [
        ("http.path", "/api"),
        ("peer.service", "stock"),
        ("network.peer.address", "10.1.0.5"),
        ("network.local.address", "10.1.0.4"),
    ] {
        assert_eq!(text_of(span, key), Some(value), "{key}");
    }
    assert_eq!(find(&span.attributes, "retries"), Some(&Value::IntValue(2)));
    assert_eq!(
        span.status.as_ref().map(|status| (status.code(), &*status.message)),
        Some((StatusCode::Error, "no route"))
    );
    for (value, kind) in [
        ("sr", SpanKind::Server),
        ("ss", SpanKind::Server),
        ("ms", SpanKind::Producer),
        ("mr", SpanKind::Consumer),
        ("lunch", SpanKind::Internal),
    ] {
        let text = zipkin(&format!(
            r#""timestamp":1767225600000000,"duration":1,"annotations":[{{"timestamp":{},"value":"{value}","endpoint":{endpoint}}}]"#,
            us(0)
        ));
        let decoded = decode(&text);
        assert_eq!((spans(&decoded)[0].kind, &*decoded.processes[0].0.service), (kind as i32, "gateway"));
    }
}

fn text_of<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    text(&span.attributes, key)
}

#[test]
fn an_error_tag_that_means_no_error_sets_no_status() {
    let timed_zipkin = r#""timestamp":1767225600000000,"duration":1"#;
    for value in
        ["\"false\"", "false", "\"False\"", "\"FALSE\"", "\" false \"", "0", "\"0\"", "\"None\"", "null"]
    {
        let span = decode_one(&zipkin(&format!(r#"{timed_zipkin},"tags":{{"error":{value}}}"#)));
        assert!(span.status.is_none(), "{value}");
        assert!(span.attributes.iter().any(|attribute| attribute.key == "error"), "{value}");
    }
    for (tags, message) in [
        (r#"{"error":"true"}"#, ""),
        (r#"{"error":true}"#, ""),
        (r#"{"error":""}"#, ""),
        (r#"{"error":500}"#, "500"),
        (r#"{"error":"none of them"}"#, "none of them"),
        (r#"{"error":"falsehood"}"#, "falsehood"),
        // The code overrides the error tag.
        (r#"{"error":"false","otel.status_code":"ERROR"}"#, ""),
    ] {
        let status = decode_one(&zipkin(&format!(r#"{timed_zipkin},"tags":{tags}"#))).status.unwrap();
        assert_eq!((status.code(), &*status.message), (StatusCode::Error, message), "{tags}");
    }
    for value in [r#"{"boolValue":false}"#, r#"{"stringValue":"false"}"#] {
        let span = decode_one(&timed(&format!(r#""attributes":[{{"key":"error","value":{value}}}]"#)));
        assert!(span.status.is_none() && span.attributes.len() == 1);
    }
}

#[test]
fn a_single_zipkin_span_needs_no_array() {
    let array = zipkin(r#""timestamp":1767225600000000,"duration":1,"name":"n""#);
    assert_eq!(decode_one(&array), decode_one(array.trim_start_matches('[').trim_end_matches(']')));
}

/// The text of any JSON value.
fn json() -> impl Strategy<Value = String> {
    let number = prop::sample::select(vec![
        "0",
        "-0",
        "-1",
        "7",
        "1.5",
        "2000.0",
        "1e3",
        "1e400",
        "-1E-400",
        "9223372036854775808",
        "18446744073709551616",
        "123456789012345678901234567890123456789012345678901234567890",
        "1767225600000000",
        "1767225600000000000",
        "70000",
    ]);
    let word = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "\"\"",
        "\"0\"",
        "\"\\ud800\"",
        "\"\\udc00\\ud800x\"",
        "\"\\u0000\"",
        "\"NaN\"",
        "\"-Infinity\"",
        "\"1e5\"",
        "\"SERVER\"",
        "\"SPAN_KIND_CLIENT\"",
        "\"b7ad6b7169203331\"",
        "\"0000000000000000\"",
        "\"aGk=\"",
        "\"false\"",
        "\"cs\"",
    ]);
    let text = any::<String>().prop_map(|text| serde_json::Value::from(text).to_string());
    let deep = (1usize..600, any::<bool>()).prop_map(|(depth, is_list)| match is_list {
        true => format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
        false => format!("{}1{}", r#"{"arrayValue":{"values":["#.repeat(depth), "]}}".repeat(depth)),
    });
    let leaf = prop_oneof![4 => number.prop_map(str::to_owned), 4 => word.prop_map(str::to_owned), 2 => text, 1 => deep];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![
            prop::sample::select(vec![
                "key",
                "value",
                "values",
                "stringValue",
                "intValue",
                "int_value",
                "boolValue",
                "doubleValue",
                "bytesValue",
                "arrayValue",
                "kvlistValue",
                "name",
                "timestamp",
                "timeUnixNano",
                "attributes",
                "droppedAttributesCount",
                "traceId",
                "spanId",
                "code",
                "serviceName",
                "port",
                "endpoint",
                "\\ud800",
            ])
            .prop_map(|key| format!("\"{key}\"")),
            any::<String>().prop_map(|key| serde_json::Value::from(key).to_string()),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(" , "))),
            prop::collection::vec((key, inner), 0..4).prop_map(|members| {
                let members: Vec<String> =
                    members.into_iter().map(|(key, value)| format!("{key} : {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// A place for an odd value in a span. Only the attribute or the member that holds it may be lost.
#[derive(Clone, Copy, Debug)]
enum Place {
    Attribute(&'static str),
    Member(&'static str),
}

const OTLP: [Place; 34] = [
    Place::Attribute("ODD"),
    Place::Attribute(r#"{"key":"odd","value":ODD}"#),
    Place::Attribute(r#"{"key":ODD,"value":{"stringValue":"v"}}"#),
    Place::Attribute(r#"{"key":"odd","value":{"stringValue":ODD}}"#),
    Place::Attribute(r#"{"key":"zipkin.id","value":{"stringValue":ODD}}"#),
    Place::Attribute(r#"{"key":"zipkin.parent_id","value":{"stringValue":ODD}}"#),
    Place::Attribute(r#"{"key":"spantap.odd","value":{"stringValue":ODD}}"#),
    Place::Attribute(r#"{"key":"odd","value":{"intValue":ODD}}"#),
    Place::Attribute(r#"{"key":"odd","value":{"doubleValue":ODD}}"#),
    Place::Attribute(r#"{"key":"odd","value":{"boolValue":ODD}}"#),
    Place::Attribute(r#"{"key":"odd","value":{"bytesValue":ODD}}"#),
    Place::Attribute(r#"{"key":"odd","value":{"arrayValue":ODD}}"#),
    Place::Attribute(r#"{"key":"odd","value":{"arrayValue":{"values":ODD}}}"#),
    Place::Attribute(r#"{"key":"odd","value":{"arrayValue":{"values":[ODD]}}}"#),
    Place::Attribute(r#"{"key":"odd","value":{"kvlistValue":{"values":[{"key":"k","value":ODD}]}}}"#),
    Place::Member(r#""name":ODD"#),
    Place::Member(r#""kind":ODD"#),
    Place::Member(r#""flags":ODD"#),
    Place::Member(r#""traceState":ODD"#),
    Place::Member(r#""parentSpanId":ODD"#),
    Place::Member(r#""startTimeUnixNano":ODD"#),
    Place::Member(r#""endTimeUnixNano":ODD"#),
    Place::Member(r#""droppedAttributesCount":ODD"#),
    Place::Member(r#""events":ODD"#),
    Place::Member(r#""events":[ODD]"#),
    Place::Member(r#""events":[{"name":ODD,"timeUnixNano":ODD,"attributes":ODD}]"#),
    Place::Member(r#""events":[{"name":"e","attributes":[{"key":"k","value":ODD}]}]"#),
    Place::Member(r#""links":ODD"#),
    Place::Member(r#""links":[ODD]"#),
    Place::Member(r#""links":[{"traceId":ODD,"spanId":ODD,"attributes":[ODD]}]"#),
    Place::Member(r#""status":ODD"#),
    Place::Member(r#""status":{"code":ODD,"message":ODD}"#),
    Place::Member(r#""unknown":ODD"#),
    Place::Member(r#""attributes":ODD"#),
];

const ZIPKIN: [Place; 22] = [
    Place::Attribute("ODD"),
    Place::Member(r#""name":ODD"#),
    Place::Member(r#""kind":ODD"#),
    Place::Member(r#""parentId":ODD"#),
    Place::Member(r#""timestamp":ODD"#),
    Place::Member(r#""duration":ODD"#),
    Place::Member(r#""localEndpoint":ODD"#),
    Place::Member(r#""localEndpoint":{"serviceName":ODD,"ipv4":ODD,"ipv6":ODD,"port":ODD}"#),
    Place::Member(r#""remoteEndpoint":ODD"#),
    Place::Member(r#""remoteEndpoint":{"serviceName":ODD,"ipv4":ODD,"ipv6":ODD,"port":ODD}"#),
    Place::Member(r#""annotations":ODD"#),
    Place::Member(r#""annotations":[ODD]"#),
    Place::Member(r#""annotations":[{"timestamp":ODD,"value":ODD,"endpoint":ODD}]"#),
    Place::Member(r#""binaryAnnotations":ODD"#),
    Place::Member(r#""binaryAnnotations":[ODD]"#),
    Place::Member(r#""binaryAnnotations":[{"key":ODD,"value":ODD,"endpoint":ODD}]"#),
    Place::Member(r#""shared":ODD"#),
    Place::Member(r#""debug":ODD"#),
    Place::Member(r#""unknown":ODD"#),
    Place::Member(
        r#""tags":{"error":ODD,"otel.status_code":ODD,"follows_from":ODD,"otel.dropped_links_count":ODD}"#,
    ),
    Place::Member(r#""tags":{"zipkin.id":ODD,"zipkin.parent_id":ODD,"spantap.odd":ODD}"#),
    Place::Member(r#""tags":ODD"#),
];

/// Members with a single value: at most this value may be lost.
const SINGLE: [&str; 9] =
    ["kind", "flags", "traceState", "parentSpanId", "parentId", "timestamp", "duration", "shared", "name"];

/// Three spans, the second with an odd value in `place`. If that is a member, it occurs `times` times.
fn with_odd(place: Place, odd: &str, is_otlp: bool, is_in_resource: bool, times: usize) -> String {
    let (attribute, member) = match place {
        Place::Attribute(attribute) => (attribute.replace("ODD", odd), String::new()),
        Place::Member(member) => (String::new(), format!(",{}", member.replace("ODD", odd)).repeat(times)),
    };
    let comma = if attribute.is_empty() { "" } else { "," };
    if is_otlp {
        let list = |odd: &str, comma: &str| {
            format!(
                r#"[{{"key":"a","value":{{"intValue":"1"}}}}{comma}{odd},{{"key":"z","value":{{"stringValue":"26"}}}}]"#
            )
        };
        let span = |id: u8, odd: &str, comma: &str, member: &str| {
            format!(
                r#"{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"0{id}","startTimeUnixNano":"{NOW}","endTimeUnixNano":"{NOW}","attributes":{}{member}}}"#,
                list(odd, comma)
            )
        };
        let (resource, span_odd, span_comma) = match is_in_resource {
            true => (list(&attribute, comma), "", ""),
            false => (list("", ""), &*attribute, comma),
        };
        return format!(
            r#"{{"resourceSpans":[{{"resource":{{"attributes":{resource}}},"scopeSpans":[{{"spans":[{},{},{}]}}]}}]}}"#,
            span(1, "", "", ""),
            span(2, span_odd, span_comma, &member),
            span(3, "", "", "")
        );
    }
    let odd = if attribute.is_empty() { attribute } else { format!(r#""odd":{attribute},"#) };
    let span = |id: u8, odd: &str, member: &str| {
        format!(
            r#"{{"traceId":"0af7651916cd43dd8448eb211c80319c","id":"0{id}","timestamp":{},"duration":7,"tags":{{"a":"1",{odd}"z":"26"}}{member}}}"#,
            NOW / 1000
        )
    };
    format!("[{},{},{}]", span(1, "", ""), span(2, &odd, &member), span(3, "", ""))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// For any JSON value, anywhere but in the ids, at most its attribute or member is left out and counted.
    /// The span, its other attributes and the other spans are kept.
    #[test]
    fn only_an_odd_value_itself_is_left_out(
        odd in json(),
        otlp_place in prop::sample::select(OTLP.to_vec()),
        zipkin_place in prop::sample::select(ZIPKIN.to_vec()),
        is_otlp in any::<bool>(),
        is_in_resource in any::<bool>(),
        times in prop::sample::select(vec![1, 1, 2, 50]),
    ) {
        let place = if is_otlp { otlp_place } else { zipkin_place };
        let text = with_odd(place, &odd, is_otlp, is_in_resource, times);
        // Deeply nested text is still JSON.
        prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{}", text);
        let decoded = decode(&text);
        prop_assert!(decoded.faults.iter().all(|(found, _)| !found.fault.refuses()), "{:?} for {}", decoded.faults, text);
        let spans = spans(&decoded);
        prop_assert_eq!(spans.len(), 3, "{}", text);
        for span in &spans {
            for (key, value) in [("a", "1"), ("z", "26")] {
                let found = find(&span.attributes, key).map(|value| match value {
                    Value::IntValue(number) => number.to_string(),
                    Value::StringValue(text) => text.clone(),
                    other => format!("{other:?}"),
                });
                prop_assert_eq!(found.as_deref(), Some(value), "{}", text);
            }
            prop_assert!(0 < span.start_time_unix_nano && span.start_time_unix_nano <= span.end_time_unix_nano, "{}", text);
            // spantap's notes are short, and the ids are those that were sent.
            prop_assert!(text.contains("spantap.odd") || self::odd(span).len() < 1_000, "{}", self::odd(span));
            prop_assert!(span.span_id[..7] == [0; 7] || text.contains("shared"), "{}", text);
            let is_marked = |key| find(&span.attributes, key).is_some();
            prop_assert!(text.contains("shared") || !is_marked("zipkin.id") && !is_marked("zipkin.parent_id"), "{}", text);
        }
        let left_out: u64 = decoded
            .faults
            .iter()
            .filter(|(found, _)| matches!(found.fault, Fault::LeftOut | Fault::TooDeep | Fault::BadReference | Fault::BadTime))
            .map(|(_, count)| count)
            .sum();
        if let Place::Member(member) = place {
            let is_single = SINGLE.iter().any(|name| member == format!(r#""{name}":ODD"#));
            prop_assert!(!is_single || left_out <= times as u64, "{:?} for {}", decoded.faults, text);
            let dropped = spans.iter().map(|span| {
                u64::from(span.dropped_attributes_count) + u64::from(span.dropped_events_count) + u64::from(span.dropped_links_count)
            });
            // Unless the sender set the counts itself.
            prop_assert!(text.to_lowercase().contains("dropped") || dropped.sum::<u64>() <= left_out, "{:?} for {}", decoded.faults, text);
        }
        if let Place::Attribute(_) = place {
            let (kept, dropped) = match is_otlp && is_in_resource {
                true => {
                    let resource = &decoded.processes[0].0.resource;
                    let theirs = resource.attributes.iter().filter(|known| {
                        !["process.pid", "process.real_user.id", "process.real_group.id", "host.name"].contains(&&*known.key)
                    });
                    (theirs.count(), resource.dropped_attributes_count)
                }
                false => {
                    let kept = spans[1].attributes.len() + usize::from(spans[1].status.is_some());
                    (kept, spans[1].dropped_attributes_count)
                }
            };
            prop_assert_eq!(kept + dropped as usize, 3, "{}", text);
            prop_assert_eq!(left_out, u64::from(dropped), "{:?} for {}", decoded.faults, text);
        }
        // Backends can decode it.
        let chunks: Vec<Chunk> = decoded.processes.iter().map(|(process, scopes)| Chunk::encode(process, scopes)).collect();
        let request = ExportTraceServiceRequest::decode(request(&chunks)).unwrap();
        let read: usize = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans).map(|scope| scope.spans.len()).sum();
        prop_assert_eq!(read, 3);
    }

    /// The same around spans: in their resource, their scope, and unknown members.
    #[test]
    fn an_odd_value_around_spans_loses_no_span(
        odd in json(),
        resource in prop::sample::select(vec![
            "ODD", "{}", r#"{"attributes":ODD,"droppedAttributesCount":ODD}"#, r#"{"attributes":[ODD],"x":ODD}"#,
        ]),
        scope in prop::sample::select(vec![
            "ODD", "{}", r#"{"name":ODD,"version":ODD,"droppedAttributesCount":ODD}"#, r#"{"attributes":ODD}"#, r#"{"attributes":[ODD]}"#,
        ]),
        url in prop::sample::select(vec!["ODD", "null"]),
    ) {
        let span = format!(
            r#"{{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","startTimeUnixNano":"{NOW}","endTimeUnixNano":"{NOW}"}}"#
        );
        let text = format!(
            r#"{{"x":ODD,"resourceSpans":[{{"y":ODD,"resource":{resource},"schemaUrl":{url},"scopeSpans":[
            {{"schemaUrl":{url},"scope":{scope},"z":ODD,"spans":[{span},{span}]}},{{"spans":[{span}]}}]}}]}}"#
        ).replace("ODD", &odd);
        let decoded = decode(&text);
        prop_assert_eq!(spans(&decoded).len(), 3, "{}", text);
        prop_assert!(decoded.faults.iter().all(|(found, _)| !found.fault.refuses()), "{:?} for {}", decoded.faults, text);
    }
}
