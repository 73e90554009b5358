//! A real OpenTelemetry collector accepts OTLP datagrams as bodies of POST requests.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use e2e::{Build, Collector, Fixture, Linkage, Rotel, need, wait_until};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::Value;

/// Posts `body` and returns rotel's answer.
fn post(rotel: &Rotel, content_type: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(rotel.http).unwrap();
    let head = "POST /v1/traces HTTP/1.1\r\nHost: rotel\r\nConnection: close\r\nContent-Type";
    write!(stream, "{head}: {content_type}\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_real_collector_accepts_every_datagram_unchanged() {
    if !need(&["rotel"]) {
        return;
    }
    for (format, content_type) in
        [("otlp-json", "application/json"), ("otlp-protobuf", "application/x-protobuf")]
    {
        assert_accepted(format, content_type);
    }
}

/// Asserts that rotel accepts all datagrams of the format, and prints the spans that are in them.
#[track_caller]
fn assert_accepted(format: &str, content_type: &str) {
    let path = Build::Release.path(Linkage::Executable, 0);
    let collector = Collector::start();
    let mut command = Command::new(path);
    command.env("TRACING_USDT_FORMAT", format).env("OTEL_RESOURCE_ATTRIBUTES", "host.name=box");
    let mut fixture = Fixture::spawn(&mut command, Some(collector.path()));
    fixture.run("tree");
    fixture.run("threads 2 10");
    fixture.end();
    let datagrams = collector.bytes();
    assert_eq!(datagrams.len(), 43);

    let rotel = Rotel::start();
    for datagram in &datagrams {
        let answer = post(&rotel, content_type, datagram);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer} to {datagram:?}");
        // The answer in protobuf is empty.
        if format == "otlp-json" {
            assert!(answer.contains(r#"{"partialSuccess":null}"#), "{answer} to {datagram:?}");
        }
    }
    wait_until("rotel has printed all spans", || rotel.log().matches("Span #0").count() == 43);

    // In rotel's log, each request begins with `ResourceSpans #0`.
    let log = rotel.log();
    for datagram in &datagrams {
        let request: Value = match format {
            "otlp-json" => serde_json::from_slice(datagram).unwrap(),
            _ => serde_json::to_value(ExportTraceServiceRequest::decode(&**datagram).unwrap()).unwrap(),
        };
        let span = &request["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        let member = |key: &str| span[key].as_str().unwrap_or_default();
        let printed = log
            .split("ResourceSpans #0")
            .find(|part| part.contains(&format!("\n    ID             : {}\n", member("spanId"))));
        let printed = printed.unwrap_or_else(|| panic!("{span} is not in {log}"));
        for line in [
            "-> service.name: Str(fixture)".to_owned(),
            "-> host.name: Str(box)".to_owned(),
            format!("Trace ID       : {}", member("traceId")),
            format!("Parent ID      : {}", member("parentSpanId")),
            format!("Name           : {}", member("name")),
            format!("Start time: {}", member("startTimeUnixNano")),
            format!("End time: {}", member("endTimeUnixNano")),
        ] {
            assert!(printed.contains(&line), "no {line:?} in {printed}");
        }
    }
    let parent = log.split("ResourceSpans #0").find(|part| part.contains(": parent\n")).unwrap();
    for line in ["number: Int(42)", "text: Str(quote\" and é)", "float: Double(1.5)", "late: Str(second)"] {
        assert!(parent.contains(&format!("-> {line}\n")), "no {line:?} in {parent}");
    }
    assert!(
        parent.contains("-> Name: something happened\n") && parent.contains("-> code: Int(7)\n"),
        "{parent}"
    );
    let child = log.split("ResourceSpans #0").find(|part| part.contains(": child\n")).unwrap();
    let before = log.split("ResourceSpans #0").find(|part| part.contains(": before\n")).unwrap();
    let id = before.lines().find_map(|line| line.trim().strip_prefix("ID             : ")).unwrap();
    assert!(child.contains("SpanLink #0") && child.contains(&format!("-> ID: {id}\n")), "{child}");
}
