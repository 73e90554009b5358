#![allow(clippy::unwrap_used)] // a failing test is a panic

use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Status};
use serde_json::json;

use super::*;
use crate::span::attributes::attribute;

fn value(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn string(key: &str, text: &str) -> KeyValue {
    attribute(key, Value::StringValue(text.into()))
}

fn mapped(span: Span) -> serde_json::Value {
    let resource = Resource { attributes: vec![string("service.name", "shop")], ..Default::default() };
    let scopes = vec![ScopeSpans { spans: vec![span], ..Default::default() }];
    let spans = ResourceSpans { resource: Some(resource), scope_spans: scopes, ..Default::default() };
    serde_json::to_value(&all_of(&spans)[0]).unwrap()
}

#[test]
fn a_span_with_all_fields_is_converted() {
    let resource = Resource {
        attributes: vec![
            string("service.name", "shop"),
            attribute("process.pid", Value::IntValue(7)),
            string("both", "resource"),
        ],
        ..Default::default()
    };
    let scope = InstrumentationScope { name: "http".into(), version: "1.2".into(), ..Default::default() };
    let array = vec![value(Value::IntValue(1)), value(Value::StringValue("two".into()))];
    let list = vec![string("k", "v")];
    let span = Span {
        trace_id: (0..16).collect(),
        span_id: vec![0xab; 8],
        parent_span_id: vec![1; 8],
        name: "GET /".into(),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: 1_700_000_000_000_001_999,
        end_time_unix_nano: 1_700_000_000_000_004_998,
        attributes: vec![
            string("both", "span"),
            attribute("bool", Value::BoolValue(true)),
            attribute("double", Value::DoubleValue(1.5)),
            attribute("nan", Value::DoubleValue(f64::NAN)),
            attribute("array", Value::ArrayValue(ArrayValue { values: array })),
            attribute("list", Value::KvlistValue(KeyValueList { values: list })),
            attribute("bytes", Value::BytesValue(vec![0xff, 0])),
            string("server.address", "db.local"),
            attribute("server.port", Value::IntValue(5432)),
        ],
        dropped_attributes_count: 1,
        events: vec![
            Event {
                time_unix_nano: 1_700_000_000_000_003_500,
                name: "a \"quoted\" one".into(),
                attributes: vec![attribute("n", Value::IntValue(3)), string("s", "x")],
                ..Default::default()
            },
            Event { time_unix_nano: 1_700_000_000_000_004_000, name: "plain".into(), ..Default::default() },
        ],
        dropped_events_count: 2,
        links: vec![
            Link { trace_id: vec![2; 16], span_id: vec![3; 8], ..Default::default() },
            Link { trace_id: vec![4; 16], span_id: vec![5; 8], ..Default::default() },
        ],
        dropped_links_count: 3,
        status: Some(Status { code: StatusCode::Error.into(), message: "no route".into() }),
        ..Default::default()
    };
    let scopes = vec![ScopeSpans { scope: Some(scope), spans: vec![span], ..Default::default() }];
    let spans = ResourceSpans { resource: Some(resource), scope_spans: scopes, ..Default::default() };
    assert_eq!(
        serde_json::to_value(all_of(&spans)).unwrap(),
        json!([{
            "traceId": "000102030405060708090a0b0c0d0e0f",
            "id": "abababababababab",
            "parentId": "0101010101010101",
            "name": "GET /",
            "kind": "CLIENT",
            "timestamp": 1_700_000_000_000_001_u64,
            "duration": 2,
            "localEndpoint": {"serviceName": "shop"},
            "remoteEndpoint": {"serviceName": "db.local", "port": 5432},
            "annotations": [
                {"timestamp": 1_700_000_000_000_003_u64, "value": r#""a \"quoted\" one": {"n":3,"s":"x"}"#},
                {"timestamp": 1_700_000_000_000_004_u64, "value": "plain"},
            ],
            "tags": {
                "process.pid": "7",
                "both": "span",
                "bool": "true",
                "double": "1.5",
                "nan": "NaN",
                "array": r#"[1,"two"]"#,
                "list": r#"{"k":"v"}"#,
                "bytes": "/wA=",
                "server.address": "db.local",
                "server.port": "5432",
                "otel.scope.name": "http",
                "otel.scope.version": "1.2",
                "otel.status_code": "ERROR",
                "error": "no route",
                "otel.dropped_attributes_count": "1",
                "otel.dropped_events_count": "2",
                "otel.dropped_links_count": "3",
                "follows_from": "02020202020202020202020202020202-0303030303030303,\
                                 04040404040404040404040404040404-0505050505050505",
            },
        }])
    );
}

#[test]
fn unknown_fields_are_left_out() {
    let span = Span { trace_id: vec![1; 16], span_id: vec![2; 8], ..Default::default() };
    assert_eq!(
        mapped(Span { kind: SpanKind::Internal.into(), ..span }),
        json!({
            "traceId": "01010101010101010101010101010101",
            "id": "0202020202020202",
            "timestamp": 0,
            "duration": 1,
            "localEndpoint": {"serviceName": "shop"},
        })
    );
    let nameless = ResourceSpans {
        scope_spans: vec![ScopeSpans { spans: vec![Span::default()], ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(all_of(&nameless)[0].local_endpoint.service_name, "unknown_service");
}

#[test]
fn the_remote_endpoint_is_the_first_attribute_that_is_set() {
    let port = |key: &str| attribute(key, Value::IntValue(80));
    let cases = [
        (
            SpanKind::Client,
            vec![string("peer.service", "db"), string("server.address", "h")],
            json!({"serviceName": "db"}),
        ),
        (
            SpanKind::Client,
            vec![string("server.address", "10.0.0.1"), port("server.port")],
            json!({"ipv4": "10.0.0.1", "port": 80}),
        ),
        (
            SpanKind::Producer,
            vec![string("network.peer.address", "::1"), port("network.peer.port")],
            json!({"ipv6": "::1", "port": 80}),
        ),
        (
            SpanKind::Server,
            vec![string("server.address", "me"), string("network.peer.address", "1.2.3.4")],
            json!({"ipv4": "1.2.3.4"}),
        ),
        (SpanKind::Server, vec![string("server.address", "me")], json!(null)),
        (SpanKind::Internal, vec![attribute("peer.service", Value::StringValue(String::new()))], json!(null)),
    ];
    for (kind, attributes, expected) in cases {
        let span = mapped(Span { kind: kind.into(), attributes, ..Default::default() });
        assert_eq!(span["remoteEndpoint"], expected, "{span}");
    }
}

#[test]
fn the_status_takes_precedence_over_an_error_attribute() {
    let with = |code: StatusCode, message: &str, attributes| {
        let status = Some(Status { code: code.into(), message: message.into() });
        mapped(Span { status, attributes, ..Default::default() })["tags"].clone()
    };
    assert_eq!(with(StatusCode::Ok, "ignored", vec![]), json!({"otel.status_code": "OK"}));
    assert_eq!(with(StatusCode::Error, "", vec![]), json!({"otel.status_code": "ERROR", "error": ""}));
    assert_eq!(with(StatusCode::Unset, "", vec![attribute("error", Value::BoolValue(false))]), json!(null));
    for no_error in ["false", "False", "FALSE", " false ", "0", "None"] {
        assert_eq!(with(StatusCode::Unset, "", vec![string("error", no_error)]), json!(null), "{no_error}");
    }
    let null = KeyValue { key: "error".into(), value: Some(AnyValue { value: None }), ..Default::default() };
    for no_error in
        [null, KeyValue { key: "error".into(), ..Default::default() }, attribute("error", Value::IntValue(0))]
    {
        assert_eq!(with(StatusCode::Unset, "", vec![no_error.clone()]), json!(null), "{no_error:?}");
        let failed = json!({"otel.status_code": "ERROR", "error": "boom"});
        assert_eq!(with(StatusCode::Error, "boom", vec![no_error]), failed);
    }
    assert_eq!(with(StatusCode::Unset, "", vec![string("error", "")]), json!({"error": ""}));
    assert_eq!(with(StatusCode::Unset, "", vec![string("error", "boom")]), json!({"error": "boom"}));
}

/// Zipkin joins them by the id that they share.
#[test]
fn halves_of_a_shared_span_and_their_children_keep_their_original_ids() {
    let ids = |span: Span| {
        let span =
            mapped(Span { trace_id: vec![1; 16], span_id: vec![2; 8], parent_span_id: vec![3; 8], ..span });
        (span["id"].clone(), span["parentId"].clone(), span["shared"].clone(), span["tags"].clone())
    };
    let (shared, above) = (string("zipkin.id", &"0c".repeat(8)), string("zipkin.parent_id", &"0a".repeat(8)));
    let attributes = vec![shared.clone(), above.clone()];
    let server = Span { kind: SpanKind::Server.into(), attributes, ..Default::default() };
    assert_eq!(ids(server), (json!("0c".repeat(8)), json!("0a".repeat(8)), json!(true), json!(null)));
    let root = Span {
        kind: SpanKind::Server.into(),
        attributes: vec![string("zipkin.id", &"03".repeat(8))],
        ..Default::default()
    };
    assert_eq!(ids(root), (json!("03".repeat(8)), json!(null), json!(true), json!(null)));
    let client = Span { kind: SpanKind::Client.into(), attributes: vec![shared], ..Default::default() };
    assert_eq!(ids(client), (json!("0c".repeat(8)), json!("03".repeat(8)), json!(null), json!(null)));
    let child = Span { attributes: vec![above], ..Default::default() };
    assert_eq!(ids(child), (json!("02".repeat(8)), json!("0a".repeat(8)), json!(null), json!(null)));
    // A user's own attributes.
    let own = Span {
        attributes: vec![string("zipkin.id", "7"), string("zipkin.parent_id", "none")],
        ..Default::default()
    };
    let tags = json!({"zipkin.id": "7", "zipkin.parent_id": "none"});
    assert_eq!(ids(own), (json!("02".repeat(8)), json!("03".repeat(8)), json!(null), tags));
    // A resource says nothing about the ids of its spans.
    let resource = Resource { attributes: vec![string("zipkin.id", &"0f".repeat(8))], ..Default::default() };
    let span = Span { trace_id: vec![1; 16], span_id: vec![2; 8], ..Default::default() };
    let scopes = vec![ScopeSpans { spans: vec![span], ..Default::default() }];
    let spans = ResourceSpans { resource: Some(resource), scope_spans: scopes, ..Default::default() };
    let mapped = serde_json::to_value(&all_of(&spans)[0]).unwrap();
    assert_eq!((&mapped["id"], &mapped["shared"]), (&json!("02".repeat(8)), &json!(null)));
}
