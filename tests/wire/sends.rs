//! The layer sends the examples of `docs/wire.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use e2e::{Collector, Document, TIMEOUT, quoted};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::{Value, json};
use tracing::{error, info_span, warn};
use tracing_subscriber::prelude::*;
use tracing_usdt::{Builder, Delivery, Format, Handle, SpanContext};

/// A value that differs between runs. Its form is checked, and the example's value replaces it.
#[derive(Clone, Copy)]
enum Varying {
    /// An id with this number of hex digits. Equal ids stay equal, and different ids stay different.
    Id(usize),
    /// A trace id and a span id, with a dash between.
    Ids,
    /// Digits.
    Number,
    /// Any text.
    Text,
}

fn varying(key: &str) -> Option<Varying> {
    Some(match key {
        "traceId" => Varying::Id(32),
        "id" | "parentId" | "spanId" | "parentSpanId" | "sender" => Varying::Id(16),
        "follows_from" => Varying::Ids,
        "timestamp" | "duration" | "startTimeUnixNano" | "endTimeUnixNano" | "timeUnixNano" => {
            Varying::Number
        }
        "busy_ns" | "idle_ns" | "thread.id" | "code.line.number" | "process.pid" => Varying::Number,
        "code.file.path" | "code.module.name" | "process.executable.name" | "process.executable.path" => {
            Varying::Text
        }
        "host.name" | "host.arch" | "os.type" | "version" | "telemetry.sdk.version" => Varying::Text,
        _ => return None,
    })
}

/// Replaces the varying values of what was sent by the example's.
#[derive(Default)]
struct Normaliser {
    /// The example's ids by the run's.
    ids: BTreeMap<String, String>,
}

impl Normaliser {
    /// Normalises `sent`, which is the value of `key`.
    fn normalise(&mut self, key: &str, sent: &mut Value, example: &Value) {
        match (sent, example) {
            (Value::Object(sent), Value::Object(example)) => {
                // Attributes of OTLP: `{"key": …, "value": {"stringValue": …}}`.
                let attribute = sent.get("key").and_then(Value::as_str).map(str::to_owned);
                for (member, sent) in sent {
                    let Some(example) = example.get(member) else { continue };
                    let key = match (member.as_str(), &attribute) {
                        ("value", Some(attribute)) => attribute,
                        ("stringValue" | "intValue" | "doubleValue", _) => key,
                        _ => member,
                    };
                    self.normalise(key, sent, example);
                }
            }
            (Value::Array(sent), Value::Array(example)) => {
                sent.iter_mut().zip(example).for_each(|(sent, example)| self.normalise(key, sent, example));
            }
            (Value::String(sent), Value::String(example)) => {
                let is_number =
                    |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                match varying(key) {
                    // OpenTelemetry's types write an empty text where there is no id.
                    Some(Varying::Id(_)) if sent.is_empty() => {}
                    Some(Varying::Id(digits)) => *sent = self.id(sent, digits, example),
                    Some(Varying::Ids) => {
                        let ids = sent.split_once('-').zip(example.split_once('-'));
                        let ((trace, span), (trace_example, span_example)) = ids.unwrap();
                        *sent = format!(
                            "{}-{}",
                            self.id(trace, 32, trace_example),
                            self.id(span, 16, span_example)
                        );
                    }
                    Some(Varying::Number) if is_number(sent) => sent.clone_from(example),
                    Some(Varying::Text) if !sent.is_empty() => sent.clone_from(example),
                    _ => {}
                }
            }
            (sent @ Value::Number(_), Value::Number(_)) if matches!(varying(key), Some(Varying::Number)) => {
                *sent = example.clone();
            }
            _ => {}
        }
    }

    #[track_caller]
    fn id(&mut self, sent: &str, digits: usize, example: &str) -> String {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        assert!(sent.len() == digits && sent.bytes().all(is_hex), "{sent:?} is not an id of {digits} digits");
        if let Some(known) = self.ids.get(sent) {
            return known.clone();
        }
        // Each id of the example replaces one id only.
        let is_free = self.ids.values().all(|known| known != example);
        let id = if is_free { example } else { sent };
        self.ids.insert(sent.to_owned(), id.to_owned());
        id.to_owned()
    }
}

/// A datagram as JSON.
fn read(format: Format, datagram: &[u8]) -> Value {
    if format != Format::OtlpProtobuf {
        return serde_json::from_slice(datagram).unwrap();
    }
    let request = ExportTraceServiceRequest::decode(datagram).unwrap();
    let Some(SequenceMessage { sender, sent_before, spans, lost_before }) =
        WithSequence::decode(datagram).unwrap().sequence
    else {
        panic!("no sequence in {request:?}")
    };
    let mut sequence = json!({ "sender": sender, "sentBefore": sent_before, "spans": spans });
    if let Some(lost_before) = lost_before {
        sequence["lostBefore"] = lost_before.into();
    }
    let mut read = serde_json::to_value(request).unwrap();
    read["tracingUsdt"] = sequence;
    read
}

/// What a protobuf request has beside OpenTelemetry's fields.
#[derive(Clone, PartialEq, Message)]
struct WithSequence {
    #[prost(message, optional, tag = "1017")]
    sequence: Option<SequenceMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct SequenceMessage {
    #[prost(string, tag = "1")]
    sender: String,
    #[prost(uint64, tag = "2")]
    sent_before: u64,
    #[prost(uint64, tag = "3")]
    spans: u64,
    #[prost(uint64, optional, tag = "4")]
    lost_before: Option<u64>,
}

/// The example with this marker. For protobuf, with the members that OpenTelemetry's types write.
fn example(marker: &str, format: Format) -> Value {
    let example: Value = serde_json::from_str(Document::wire().example(marker)).unwrap();
    if format != Format::OtlpProtobuf {
        return example;
    }
    let request: ExportTraceServiceRequest = serde_json::from_value(example.clone()).unwrap();
    let mut read = serde_json::to_value(request).unwrap();
    read["tracingUsdt"] = example["tracingUsdt"].clone();
    read
}

/// Asserts that `sent` is the example with this marker, except for varying values.
#[track_caller]
fn assert_example(marker: &str, format: Format, sent: &[u8], normaliser: &mut Normaliser) {
    let example = example(marker, format);
    let mut sent = read(format, sent);
    normaliser.normalise("", &mut sent, &example);
    let pretty = |value| serde_json::to_string_pretty(value).unwrap();
    assert_eq!(pretty(&sent), pretty(&example), "left: sent by the layer; right: {marker} of docs/wire.md");
}

fn builder(socket: &Path, format: Format) -> Builder {
    let parent = SpanContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-53995c3f42cd8ad8-01");
    tracing_usdt::builder()
        .with_socket(socket)
        .with_format(format)
        .with_service_name("shop")
        .with_resource_attribute("deployment.environment.name", "demo")
        .with_remote_parent(parent.unwrap())
}

/// Runs `work` under a layer, in a thread called `worker-1`.
fn trace<T: Send>(builder: Builder, work: impl Send + FnOnce(&Handle) -> T) -> T {
    let layer = builder.build();
    let handle = layer.handle();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let work = || tracing::dispatcher::with_default(&dispatch, || work(&handle));
    std::thread::scope(|scope| {
        std::thread::Builder::new().name("worker-1".into()).spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

/// The spans of the examples, as one datagram. If the sender thread wakes up between the two spans, it sends
/// two datagrams, and the spans are made again.
fn send_spans(format: Format) -> Vec<u8> {
    (0..100).find_map(|_| send_spans_once(format)).unwrap()
}

fn send_spans_once(format: Format) -> Option<Vec<u8>> {
    let collector = Collector::start();
    trace(builder(collector.path(), format).with_delivery(Delivery::Background), |handle| {
        let other =
            SpanContext::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-03").unwrap();
        let checkout = other.in_scope(|| info_span!("checkout"));
        let order = info_span!(
            target: "shop::orders", "POST /orders", otel.kind = "server", http.request.method = "POST"
        );
        order.in_scope(|| {
            let query = info_span!(
                target: "shop::store", "query", otel.kind = "client", peer.service = "stock",
                server.address = "10.0.0.7", server.port = 5432, rows = 0, share = 0.25, cached = false
            );
            query.follows_from(&checkout);
            query.in_scope(|| {
                warn!(target: "shop::store", waited_ms = 3, "slow");
                error!(target: "shop::store", "not enough in stock");
            });
        });
        drop(order);
        handle.flush(TIMEOUT).unwrap();
        // In a second datagram, which is not part of the example.
        drop(checkout);
        handle.flush(TIMEOUT).unwrap();
    });
    let mut datagrams = collector.bytes();
    (datagrams.len() == 2).then(|| datagrams.remove(0))
}

#[test]
fn the_layer_sends_the_examples() {
    for (marker, format) in
        [("zipkin", Format::Zipkin), ("otlp", Format::OtlpJson), ("otlp", Format::OtlpProtobuf)]
    {
        assert_example(marker, format, &send_spans(format), &mut Normaliser::default());
    }
}

/// Makes three spans while there is no receiver. Returns the datagram of the next span, the report of the
/// losses, and the datagram after it.
fn send_losses(format: Format) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.sock");
    trace(builder(&path, format).with_delivery(Delivery::Inline).on_error(|_| {}), |_| {
        (0..3).for_each(|_| drop(info_span!("lost")));
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_read_timeout(Some(TIMEOUT)).unwrap();
        let receive = || {
            let mut buffer = vec![0; 1 << 18];
            let length = receiver.recv(&mut buffer).unwrap();
            buffer[..length].to_vec()
        };
        // The layer looks for a receiver four times a second, and reports losses once a second.
        std::thread::sleep(Duration::from_millis(1_200));
        drop(info_span!("first"));
        let mut datagrams = vec![receive(), receive()];
        drop(info_span!("second"));
        datagrams.push(receive());
        datagrams
    })
}

#[test]
fn the_layer_reports_losses_as_in_the_examples() {
    for (marker, format) in [
        ("zipkin-losses", Format::Zipkin),
        ("otlp-losses", Format::OtlpJson),
        ("otlp-losses", Format::OtlpProtobuf),
    ] {
        let datagrams = send_losses(format);
        let sequence = |datagram: &[u8]| {
            let datagram = read(format, datagram);
            let of = datagram.as_array().map_or(&datagram, |spans| spans.last().unwrap());
            of["tracingUsdt"].clone()
        };
        let [first, report, second] = &datagrams[..] else { panic!("{datagrams:?}") };
        assert_eq!(sequence(first)["lostBefore"], Value::Null);
        assert_example(marker, format, report, &mut Normaliser::default());
        assert_eq!(sequence(second)["lostBefore"], 3);
        let table = Document::wire().table("### `tracingUsdt`");
        let documented: BTreeSet<&str> = table.iter().flat_map(|row| quoted(&row[0])).collect();
        assert!(sequence(second).as_object().unwrap().keys().eq(documented), "{:?}", sequence(second));
        assert_eq!([report, second].map(|datagram| sequence(datagram)["sentBefore"].clone()), [1, 1]);
    }
}

#[test]
fn the_layer_reports_open_spans_as_in_the_example() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.sock");
    let receiver = UnixDatagram::bind(&path).unwrap();
    receiver.set_read_timeout(Some(TIMEOUT)).unwrap();
    let builder = builder(&path, Format::OtlpJson).with_open_spans(Duration::from_millis(100));
    let report = trace(builder.with_delivery(Delivery::Background), |_| {
        let _order = info_span!(
            target: "shop::orders", "POST /orders", otel.kind = "server", http.request.method = "POST"
        )
        .entered();
        let mut buffer = vec![0; 1 << 18];
        let length = receiver.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    });
    assert_example("otlp-open", Format::OtlpJson, &report, &mut Normaliser::default());
    let table = Document::wire().table("## Open spans");
    let documented: BTreeSet<&str> = table.iter().flat_map(|row| quoted(&row[0])).collect();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert!(report["tracingUsdtOpen"].as_object().unwrap().keys().eq(documented), "{report}");
}
