//! spantap reads the examples of `docs/wire.md`.

use e2e::Document;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message;
use spantap::decode::{Decoded, Decoder};
use spantap::encode::Chunk;
use spantap::process::{Sender, Sequence};

const SENDER: Sender = Sender { pid: 27705, uid: 1000, gid: 100 };
/// 2026-01-01, a second after the examples.
const NOW: u64 = 1_767_225_601_000_000_000;

fn decode(marker: &str) -> Decoded {
    decode_bytes(marker, Document::wire().example(marker).as_bytes())
}

fn decode_bytes(marker: &str, datagram: &[u8]) -> Decoded {
    let decoded = Decoder::default().decode(datagram, SENDER, NOW);
    assert_eq!(decoded.faults.iter().count(), 0, "{marker}: {:?}", decoded.faults);
    decoded
}

/// The example in protobuf, without its sequence.
fn protobuf(marker: &str) -> Vec<u8> {
    let request: ExportTraceServiceRequest = serde_json::from_str(Document::wire().example(marker)).unwrap();
    request.encode_to_vec()
}

/// The service and its spans.
fn spans(decoded: Decoded) -> (String, Vec<otlp::Span>) {
    let [(process, scopes)] = &decoded.processes[..] else { panic!("{:?}", decoded.processes) };
    (process.service.clone(), scopes.iter().flat_map(|scope| scope.spans.clone()).collect())
}

fn attributes(attributes: &[KeyValue]) -> Vec<(&str, String)> {
    let value =
        |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()).unwrap() {
            any_value::Value::StringValue(text) => format!("{text:?}"),
            any_value::Value::IntValue(number) => number.to_string(),
            any_value::Value::DoubleValue(number) => number.to_string(),
            any_value::Value::BoolValue(value) => value.to_string(),
            other => panic!("{other:?}"),
        };
    attributes.iter().map(|attribute| (&*attribute.key, value(&attribute.value))).collect()
}

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const CALLER: u64 = 0x5399_5c3f_42cd_8ad8;
const ORDER: u64 = 0x00f0_67aa_0ba9_02b7;
const QUERY: u64 = 0xb7ad_6b71_6920_3331;
/// When the order began.
const BEGIN: u64 = 1_767_225_600_000_000_000;

/// Checks the members that both formats have, as OTLP spans.
#[track_caller]
fn assert_spans(spans: &[otlp::Span], precision_ns: u64) {
    let [query, order] = spans else { panic!("{spans:?}") };
    let ids = |span: &otlp::Span| {
        let id = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
        (span.trace_id.clone(), id(&span.span_id), id(&span.parent_span_id))
    };
    let trace = TRACE.to_be_bytes().to_vec();
    assert_eq!(ids(query), (trace.clone(), QUERY, ORDER));
    assert_eq!(ids(order), (trace, ORDER, CALLER));
    assert_eq!([&*query.name, &*order.name], ["query", "POST /orders"]);
    assert_eq!([query.kind(), order.kind()], [otlp::span::SpanKind::Client, otlp::span::SpanKind::Server]);
    let times = |span: &otlp::Span| [span.start_time_unix_nano, span.end_time_unix_nano];
    let rounded = |ns: u64| ns / precision_ns * precision_ns;
    assert_eq!(times(order), [BEGIN, BEGIN + rounded(4_200_250)]);
    let begin = BEGIN + rounded(600_400);
    assert_eq!(times(query), [begin, begin + rounded(3_100_900)]);

    let [slow, failed] = &query.events[..] else { panic!("{:?}", query.events) };
    assert_eq!((&*slow.name, slow.time_unix_nano), ("slow", BEGIN + rounded(3_400_700)));
    let expected = [("level", "\"WARN\""), ("target", "\"shop::store\""), ("waited_ms", "3")];
    assert_eq!(attributes(&slow.attributes), expected.map(|(key, value)| (key, value.to_owned())));
    assert_eq!((&*failed.name, failed.time_unix_nano), ("not enough in stock", BEGIN + rounded(3_600_300)));
    assert_eq!(order.events, []);

    let [link] = &query.links[..] else { panic!("{:?}", query.links) };
    assert_eq!(link.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert_eq!(link.span_id, 0x6b3c_1f0a_7e5d_2948_u64.to_be_bytes());
    let status = query.status.as_ref().unwrap();
    assert_eq!((status.code(), &*status.message), (otlp::status::StatusCode::Error, ""));
    assert_eq!(order.status, None);
}

const EXPECTED_SEQUENCE: Sequence =
    Sequence { sender: 0x5d1c_a0f3_9b7e_4421, sent_before: 0, spans: 2, lost_before: 0 };

#[test]
fn spantap_reads_the_zipkin_example() {
    let decoded = decode("zipkin");
    assert_eq!(decoded.sequence, Some(EXPECTED_SEQUENCE));
    let (service, spans) = spans(decoded);
    assert_eq!(service, "shop");
    assert_spans(&spans, 1_000);
    let expected = [
        ("peer.service", "\"stock\""),
        ("server.address", "\"10.0.0.7\""),
        ("server.port", "\"5432\""),
        ("rows", "\"0\""),
        ("share", "\"0.25\""),
        ("cached", "\"false\""),
        ("level", "\"INFO\""),
        ("target", "\"shop::store\""),
        ("code.file.path", "\"src/store.rs\""),
        ("code.line.number", "\"52\""),
        ("code.module.name", "\"shop::store\""),
        ("thread.id", "\"27706\""),
        ("thread.name", "\"worker-1\""),
        ("busy_ns", "\"3090000\""),
        ("idle_ns", "\"10900\""),
        ("deployment.environment.name", "\"demo\""),
        // From `remoteEndpoint`; its name is already in the tags.
        ("network.peer.address", "\"10.0.0.7\""),
        ("network.peer.port", "5432"),
    ];
    assert_eq!(attributes(&spans[0].attributes), expected.map(|(key, value)| (key, value.to_owned())));
}

#[test]
fn spantap_reads_the_otlp_example() {
    let decoded = decode("otlp");
    assert_eq!(decoded.sequence, Some(EXPECTED_SEQUENCE));
    let resource = decoded.processes[0].0.resource.attributes.clone();
    let (service, spans) = spans(decoded);
    assert_eq!(service, "shop");
    assert_spans(&spans, 1);
    let expected = [
        ("peer.service", "\"stock\""),
        ("server.address", "\"10.0.0.7\""),
        ("server.port", "5432"),
        ("rows", "0"),
        ("share", "0.25"),
        ("cached", "false"),
        ("level", "\"INFO\""),
        ("target", "\"shop::store\""),
        ("code.file.path", "\"src/store.rs\""),
        ("code.line.number", "52"),
        ("code.module.name", "\"shop::store\""),
        ("thread.id", "27706"),
        ("thread.name", "\"worker-1\""),
        ("busy_ns", "3090000"),
        ("idle_ns", "10900"),
    ];
    assert_eq!(attributes(&spans[0].attributes), expected.map(|(key, value)| (key, value.to_owned())));
    assert_eq!([spans[0].flags, spans[1].flags, spans[0].links[0].flags], [0x101, 0x301, 0x103]);
    let resource = attributes(&resource);
    for expected in
        [("deployment.environment.name", "\"demo\""), ("process.pid", "27705"), ("os.type", "\"linux\"")]
    {
        let found = resource.iter().find(|(key, _)| *key == expected.0);
        assert_eq!(found.map(|(_, value)| &**value), Some(expected.1), "{}", expected.0);
    }

    // OpenTelemetry's own types decode the same spans.
    let request: ExportTraceServiceRequest = serde_json::from_str(Document::wire().example("otlp")).unwrap();
    let theirs: Vec<otlp::Span> = request.resource_spans[0].scope_spans[0].spans.clone();
    assert_eq!(theirs, spans);
}

#[test]
fn spantap_reads_the_examples_in_protobuf() {
    for marker in ["otlp", "otlp-losses"] {
        let (json, mut datagram) = (decode(marker), protobuf(marker));
        let sequence = json.sequence.unwrap();
        let sender = format!("{:016x}", sequence.sender);
        // The field 1017, and its content, whose fields have small numbers and values.
        let numbers = [0x10, sequence.sent_before as u8, 0x18, sequence.spans as u8];
        let content = [&[0x0a, 16], sender.as_bytes(), &numbers].concat();
        datagram.extend([&[0xca, 0x3f, content.len() as u8], &content[..]].concat());
        let mut decoded = decode_bytes(marker, &datagram);
        assert_eq!(decoded.sequence, json.sequence);
        let of_losses = marker == "otlp-losses";
        assert_eq!((decoded.processes.len(), decoded.encoded.len()), if of_losses { (1, 0) } else { (0, 1) });
        for (process, scopes) in decoded.encoded {
            let mut chunk = Chunk::encode(&process, &[]);
            chunk.add_encoded(scopes);
            let scopes = chunk.decode().unwrap().scope_spans;
            decoded.processes.push((process, scopes));
        }
        assert_eq!(decoded.processes[0].0.resource, json.processes[0].0.resource);
        assert_eq!(decoded.processes[0].1, json.processes[0].1);
    }
}

#[test]
fn spantap_reads_the_examples_of_losses() {
    for marker in ["zipkin-losses", "otlp-losses"] {
        let decoded = decode(marker);
        let sequence = Sequence { sender: 0x5d1c_a0f3_9b7e_4421, sent_before: 1, spans: 0, lost_before: 0 };
        assert_eq!(decoded.sequence, Some(sequence));
        let (service, spans) = spans(decoded);
        let [report] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&*service, &*report.name), ("shop", spantap::decode::LOSSES));
        assert_eq!((&*report.parent_span_id, report.start_time_unix_nano), (&[][..], BEGIN));
        let lost = attributes(&report.attributes);
        let [(reason, spans)] = &lost[..] else { panic!("{lost:?}") };
        assert_eq!((*reason, spans.trim_matches('"')), ("tracing_usdt.dropped.no_receiver", "3"));
    }
}

/// Checks the report of the example, and that there are no other spans.
#[track_caller]
fn assert_report(decoded: Decoded) {
    assert!(decoded.processes.is_empty() && decoded.encoded.is_empty(), "{decoded:?}");
    let sequence = Sequence { sender: 0x5d1c_a0f3_9b7e_4421, sent_before: 0, spans: 0, lost_before: 0 };
    assert_eq!(decoded.sequence, Some(sequence));
    let (process, report) = decoded.open.unwrap();
    assert_eq!((&*process.service, process.sender), ("shop", SENDER));
    assert_eq!((report.at_ns, report.threshold_ns, report.count), (BEGIN + 1_201_337_045, 100_000_000, 1));
    let [order] = &report.spans[..] else { panic!("{report:?}") };
    assert_eq!(order.span_id, ORDER.to_be_bytes());
    assert_eq!((&*order.name, order.start_time_unix_nano), ("POST /orders", BEGIN));
    assert_eq!(order.end_time_unix_nano, BEGIN + 1_201_337_045);
    assert!(attributes(&order.attributes).contains(&("tracing_usdt.unfinished", "true".to_owned())));
}

#[test]
fn spantap_reads_the_example_of_open_spans() {
    assert_report(decode("otlp-open"));
}

/// With the numbers of the table.
#[test]
fn spantap_reads_the_example_of_open_spans_in_protobuf() {
    #[derive(Clone, PartialEq, Message)]
    struct Extra {
        #[prost(message, optional, tag = "1017")]
        sequence: Option<SequenceMessage>,
        #[prost(message, optional, tag = "1018")]
        open: Option<Report>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct SequenceMessage {
        #[prost(string, tag = "1")]
        sender: String,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Report {
        #[prost(fixed64, tag = "1")]
        at_ns: u64,
        #[prost(message, repeated, tag = "2")]
        spans: Vec<otlp::Span>,
        #[prost(uint64, tag = "3")]
        threshold_ns: u64,
        #[prost(uint64, tag = "4")]
        count: u64,
    }
    let report = decode("otlp-open").open.unwrap().1;
    let report = Report {
        at_ns: report.at_ns,
        spans: report.spans,
        threshold_ns: report.threshold_ns,
        count: report.count,
    };
    let sequence = SequenceMessage { sender: "5d1ca0f39b7e4421".into() };
    let extra = Extra { sequence: Some(sequence), open: Some(report) };
    let datagram = [protobuf("otlp-open"), extra.encode_to_vec()].concat();
    assert_report(decode_bytes("otlp-open", &datagram));
}
