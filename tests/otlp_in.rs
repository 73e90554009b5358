//! `--otlp`: spans of any OpenTelemetry SDK, and clients that misbehave.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::{
    Build, Fixture, Headers, Linkage, MadeUp, Spantap, Terminal, get, idle_connections, need, otlp_request,
    post, post_spans, program, python_sdk, read_answer, send, wait_until,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::signal::{Signal, kill};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const TRACES: &str = "/v1/traces";
const PROTOBUF: (&str, &str) = ("Content-Type", "application/x-protobuf");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// The values of `key` of the spans in files of OTLP JSON, each with how many spans have it.
fn counts(files: &[&NamedTempFile], key: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for file in files {
        for line in std::fs::read_to_string(file.path()).unwrap().lines() {
            let data: Value = serde_json::from_str(line).unwrap();
            for resource in data["resourceSpans"].as_array().unwrap() {
                for scope in resource["scopeSpans"].as_array().unwrap() {
                    for span in scope["spans"].as_array().unwrap() {
                        *counts.entry(span[key].as_str().unwrap().to_owned()).or_default() += 1;
                    }
                }
            }
        }
    }
    counts
}

fn names(files: &[&NamedTempFile]) -> HashMap<String, usize> {
    counts(files, "name")
}

/// Checks that `spans` of `post_spans` are in the files, each once.
#[track_caller]
fn assert_once(files: &[&NamedTempFile], spans: u64) {
    let names = names(files);
    let wrong: Vec<_> =
        (0..spans).map(|n| format!("span {n}")).filter(|name| names.get(name) != Some(&1)).take(5).collect();
    assert_eq!((names.len() as u64, wrong), (spans, vec![]));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn jsonl(file: &NamedTempFile) -> String {
    format!("jsonl={}", file.path().display())
}

/// Exports spans with OpenTelemetry's SDK for Python.
#[track_caller]
fn export(transport: &str, spans: &str, environment: Headers<'_>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("otlp_export.py");
    let output = python_sdk(&script, &[transport, spans], environment);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{stderr}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn pythons_sdk_sends_over_both_transports_to_one_port() {
    if !need(&["python3", "opentelemetry"]) {
        return;
    }
    let file = NamedTempFile::new().unwrap();
    let (spantap, address) = Spantap::listen_otlp(&["--max-traces", "0", "--to", &jsonl(&file)]);
    let endpoint = format!("http://{address}");
    for transport in ["grpc", "http"] {
        let service = format!("by-{transport}");
        let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_SERVICE_NAME", &service)];
        export(transport, "1000", &environment);
        let service = format!("by-{transport}-gzip");
        let gzip = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_SERVICE_NAME", &service),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ];
        export(transport, "1000", &gzip);
    }
    let ended = spantap.terminate();
    assert!(ended.status.success());
    let names = names(&[&file]);
    assert_eq!(names.len(), 109, "100 requests and 9 steps have names: {names:?}");
    assert!((0..100).all(|n| names[&format!("request {n}")] == 4) && names["step 3"] == 400);
    let traces = counts(&[&file], "traceId");
    assert!(traces.len() == 400 && traces.values().all(|spans| *spans == 10), "{traces:?}");
    for service in ["by-grpc", "by-grpc-gzip", "by-http", "by-http-gzip"] {
        assert!(ended.stdout.contains(service), "{service}: {}", ended.stdout);
    }
    assert!(ended.stderr.contains("4,000 spans in 8 OTLP requests from 1 sender"), "{}", ended.stderr);
    assert!(ended.stderr.contains("\n  127.0.0.1 over OTLP   4,000 spans"), "{}", ended.stderr);
}

#[test]
fn spans_over_otlp_and_over_the_socket_make_one_trace() {
    let mut spantap = Spantap::listen(&["--otlp", "127.0.0.1:0", "--max-traces", "0"]);
    let address = spantap.otlp_address();
    let [root, child] = [0, 1].map(MadeUp);
    send(spantap.socket(), &[root]);
    let id = |made_up: MadeUp| made_up.id();
    let trace_id = format!("{:032x}", (0x00c0_ffee_u128 << 64) + 1);
    let body = json!({ "resourceSpans": [{
        "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "elsewhere" } }] },
        "scopeSpans": [{ "spans": [{
            "traceId": trace_id, "spanId": id(child), "parentSpanId": id(root), "name": "remote call",
            "startTimeUnixNano": "1767225600000000100", "endTimeUnixNano": "1767225600000000200",
        }] }],
    }] });
    let answer = post(address, TRACES, &[JSON], body.to_string().as_bytes()).unwrap();
    assert_eq!(
        (answer.status, &*answer.text(), &*answer.headers["content-type"]),
        (200, "{}", "application/json")
    );
    wait_until("both are shown", || spantap.stdout().contains("remote call"));
    let ended = spantap.terminate();
    let (_, tree) = ended.stdout.split_once(&format!("trace {trace_id}")).unwrap();
    assert!(tree.contains("2 spans") && tree.contains("elsewhere"), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("2 spans in 1 datagram and 1 OTLP request from 2 senders"),
        "{}",
        ended.stderr
    );
}

#[test]
fn many_clients_deliver_100_000_spans_once() {
    const CLIENTS: u64 = 8;
    const REQUESTS: u64 = 125;
    let file = NamedTempFile::new().unwrap();
    let (spantap, address) = Spantap::listen_otlp(&["--quiet", "--to", &jsonl(&file)]);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for request in 0..REQUESTS {
                    let first = (client * REQUESTS + request) * 100;
                    let body = otlp_request(first..first + 100).encode_to_vec();
                    let answer = if request % 2 == 0 {
                        post(address, TRACES, &[PROTOBUF], &body)
                    } else {
                        post(address, TRACES, &[PROTOBUF, ("Content-Encoding", "gzip")], &gzip(&body))
                    };
                    let answer = answer.unwrap();
                    assert_eq!((answer.status, &*answer.body), (200, &[][..]));
                }
            });
        }
    });
    let ended = spantap.terminate();
    assert!(ended.stderr.contains("100,000 spans in 1,000 OTLP requests"), "{}", ended.stderr);
    assert_once(&[&file], 100_000);
}

/// The first spantap takes datagrams of the layer, and forwards them to the second.
#[test]
fn another_spantap_forwards_to_this_one() {
    let path = Build::Debug.path(Linkage::Executable, 0);
    for scheme in ["http", "grpc"] {
        let file = NamedTempFile::new().unwrap();
        let (second, address) = Spantap::listen_otlp(&["--max-traces", "0", "--to", &jsonl(&file)]);
        let first = Spantap::listen(&["--quiet", "--to", &format!("otlp={scheme}://{address}")]);
        let mut fixture = Fixture::start(&path, Linkage::Executable, Some(first.socket()));
        fixture.run("threads 4 500");
        assert_eq!(fixture.run("stats"), "4000 4000 0");
        fixture.end();
        let first = first.terminate();
        assert!(first.stderr.contains("4,000 spans forwarded"), "{}", first.stderr);
        let second = second.terminate();
        assert!(second.stderr.contains("4,000 spans in "), "{scheme}: {}", second.stderr);
        assert_eq!(names(&[&file]).values().sum::<usize>(), 4000, "{scheme}");
    }
}

#[test]
fn bad_spans_are_refused_and_the_others_are_taken() {
    let (spantap, address) = Spantap::listen_otlp(&["--max-traces", "0"]);
    let mut request = otlp_request(0..5);
    let spans = &mut request.resource_spans[0].scope_spans[0].spans;
    spans[1].span_id = vec![0; 8];
    spans[3].trace_id = vec![7; 3];
    let answer = post(address, TRACES, &[PROTOBUF], &request.encode_to_vec()).unwrap();
    assert_eq!(answer.status, 200);
    let partial = ExportTraceServiceResponse::decode(&*answer.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 2);
    assert!(partial.error_message.contains("1 refused: "), "{}", partial.error_message);

    let json = serde_json::to_vec(&request).unwrap();
    let answer = post(address, TRACES, &[JSON], &json).unwrap();
    let partial: Value = serde_json::from_slice(&answer.body).unwrap();
    // JSON may leave out the zeros at the beginning of an id, so the short id is one.
    assert_eq!((answer.status, &partial["partialSuccess"]["rejectedSpans"]), (200, &json!("1")));

    // What can't be read at all.
    for (media_type, body) in
        [(PROTOBUF, &b"\x0a\xff"[..]), (JSON, b"{\"resourceSpans\": [{"), (JSON, b"[]"), (JSON, b"")]
    {
        let answer = post(address, TRACES, &[media_type], body).unwrap();
        assert_eq!((answer.status, &*answer.headers["content-type"]), (400, media_type.1), "{body:?}");
        assert!(answer.text().len() > 10, "it says why: {answer:?}");
    }
    // Requests without spans are fine.
    for (media_type, body) in [(PROTOBUF, &b""[..]), (JSON, b"{}"), (JSON, b"{\"resourceSpans\": []}")] {
        assert_eq!(post(address, TRACES, &[media_type], body).unwrap().status, 200, "{body:?}");
    }
    let ended = spantap.terminate();
    assert!(ended.stderr.contains("7 spans in 9 OTLP requests from 1 sender"), "{}", ended.stderr);
    assert!(ended.stderr.contains("from 127.0.0.1 over OTLP: "), "{}", ended.stderr);
}

#[test]
fn what_is_not_for_traces_is_told_so() {
    let metrics = e2e::free_address();
    let (spantap, address) = Spantap::listen_otlp(&["--quiet", "--metrics", &metrics.to_string()]);
    let status = |path, headers| post(address, path, headers, b"{}").unwrap().status;
    assert_eq!(status("/v1/metrics", &[JSON]), 404);
    assert_eq!(status("/v1/logs", &[PROTOBUF]), 404);
    assert_eq!(status(TRACES, &[("Content-Type", "text/plain")]), 415);
    assert_eq!(status(TRACES, &[JSON, ("Content-Encoding", "zstd")]), 415);
    assert!(get(address, TRACES).unwrap().starts_with("HTTP/1.1 405"));
    let page = get(metrics, "/metrics").unwrap();
    for line in [
        "spantap_refused_requests_total{reason=\"not_traces\"} 3",
        "spantap_refused_requests_total{reason=\"media_type\"} 2",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    assert_eq!(post_spans(address, 0..3).unwrap().status, 200);
    let received = "spantap_received_spans_total{address=\"127.0.0.1\"} 3";
    wait_until("the page is made again", || get(metrics, "/metrics").unwrap().contains(received));
    let ended = spantap.terminate();
    assert!(
        ended.stderr.contains("refused: an OTLP request from 127.0.0.1: there is nothing at /v1/metrics"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("3 OTLP requests refused for something other than traces"),
        "{}",
        ended.stderr
    );
}

#[test]
fn only_clients_with_the_token_may_send() {
    let token = NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "s3cret\n").unwrap();
    let file = NamedTempFile::new().unwrap();
    let path = token.path().to_str().unwrap();
    let (spantap, address) =
        Spantap::listen_otlp(&["--quiet", "--otlp-token-file", path, "--to", &jsonl(&file)]);
    let body = otlp_request(0..1).encode_to_vec();
    let with = |value: &str| post(address, TRACES, &[PROTOBUF, ("Authorization", value)], &body).unwrap();
    let missing = post_spans(address, 0..1).unwrap();
    assert_eq!((missing.status, &*missing.headers["www-authenticate"]), (401, "Bearer"));
    assert_eq!(with("Bearer s3cre").status, 401);
    assert_eq!(with("Basic s3cret").status, 401);
    assert_eq!(with("Bearer s3cret").status, 200);
    // Nobody waits for the rest of a request without it.
    let mut slow = TcpStream::connect(address).unwrap();
    let began = Instant::now();
    slow.write_all(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut slow).unwrap().status, 401);
    assert!(began.elapsed() < Duration::from_secs(4), "after {:?}", began.elapsed());
    assert_eq!(slow.read(&mut [0]).unwrap(), 0, "the connection is closed");
    // Such requests on all connections keep nobody out.
    let mut strangers = idle_connections(address, 256);
    for stream in &mut strangers {
        stream.write_all(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n").unwrap();
    }
    assert_eq!(with("Bearer s3cret").status, 200);
    drop(strangers);
    if need(&["python3", "opentelemetry"]) {
        let endpoint = format!("http://{address}");
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret"),
        ];
        export("grpc", "10", &environment);
        export("http", "10", &environment);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("otlp_export.py");
        let refused = python_sdk(&script, &["grpc", "10"], &environment[..1]);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && stderr.contains("UNAUTHENTICATED"), "{stderr}");
        assert_eq!(names(&[&file]).len(), 11);
    }
    let ended = spantap.terminate();
    assert!(ended.stderr.contains("refused without the right token"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("s3cre"), "the token is in no message: {}", ended.stderr);
}

#[test]
fn an_address_for_other_machines_needs_tls_and_a_token() {
    let listen = |args: &[&str]| {
        let mut command = Command::new(program("spantap"));
        let output = command.args(["listen", "--otlp", "0.0.0.0:0"]).args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, stderr) = listen(&[]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--otlp-cert") && stderr.contains("--otlp-insecure"), "{stderr}");
    let token = NamedTempFile::new().unwrap();
    let (code, stderr) = listen(&["--otlp-token-file", token.path().to_str().unwrap()]);
    assert!(code == Some(1) && stderr.contains("has no token"), "{stderr}");

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "the authority of this test");
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    std::fs::write(path("authority"), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
    certificate.use_authority_key_identifier_extension = true;
    let certificate = certificate.signed_by(&key, &Issuer::from_params(&authority, &authority_key)).unwrap();
    std::fs::write(path("cert"), certificate.pem()).unwrap();
    std::fs::write(path("key"), key.serialize_pem()).unwrap();
    std::fs::write(path("token"), "s3cret").unwrap();
    let (_, stderr) = listen(&["--otlp-cert", &path("cert"), "--otlp-key", &path("token")]);
    assert!(stderr.contains("can't read a private key"), "{stderr}");
    let (_, stderr) = listen(&["--otlp-cert", &path("cert"), "--otlp-key", &path("key")]);
    assert!(stderr.contains("without a token"), "{stderr}");

    let spantap = Spantap::listen(&[
        "--otlp",
        "0.0.0.0:0",
        "--quiet",
        "--otlp-cert",
        &path("cert"),
        "--otlp-key",
        &path("key"),
        "--otlp-token-file",
        &path("token"),
    ]);
    let mut spantap = spantap;
    let port = spantap.otlp_address().port();
    // A client that does not speak TLS is refused.
    assert!(post_spans(SocketAddr::from(([127, 0, 0, 1], port)), 0..1).is_err());
    if need(&["python3", "opentelemetry"]) {
        let (endpoint, certificate) = (format!("https://localhost:{port}"), path("authority"));
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", &*certificate),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret"),
        ];
        export("grpc", "100", &environment);
        export("http", "100", &environment);
        wait_until("the handshake is counted", || spantap.stderr().contains("TLS handshake failed"));
        let ended = spantap.terminate();
        assert!(ended.stderr.contains("200 spans in 2 OTLP requests"), "{}", ended.stderr);
    }
}

#[test]
fn spantap_does_not_forward_to_itself() {
    let address = e2e::free_address().to_string();
    for target in [format!("otlp=grpc://{address}"), format!("otlp=http://{address}")] {
        let mut command = Command::new(program("spantap"));
        let output = command.args(["listen", "--otlp", &address, "--to", &target]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && stderr.contains("is spantap itself"), "{stderr}");
    }
}

/// How much memory the process has, and had at most, in bytes.
fn peak_memory(spantap: &Spantap) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", spantap.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn a_request_that_is_too_large_is_refused_in_bounded_memory() {
    let (spantap, address) = Spantap::listen_otlp(&["--quiet"]);
    let large = vec![b' '; 100 << 20];
    let before = peak_memory(&spantap);
    assert_eq!(post(address, TRACES, &[JSON], &large).unwrap().status, 413);
    // Without saying so before.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for _ in 0..100 {
        write!(stream, "{:x}\r\n", 1 << 20).unwrap();
        stream.write_all(&large[..1 << 20]).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().status, 413);
    // Small, but not when it is uncompressed.
    let bomb = gzip(&vec![b' '; 1 << 30]);
    assert!(bomb.len() < 8 << 20, "{}", bomb.len());
    let answer = post(address, TRACES, &[JSON, ("Content-Encoding", "gzip")], &bomb).unwrap();
    assert_eq!(answer.status, 413, "{}", answer.text());
    let grown = peak_memory(&spantap) - before;
    assert!(grown < 96 << 20, "spantap grew by {grown} bytes");
    assert_eq!(post_spans(address, 0..1).unwrap().status, 200);
    let ended = spantap.terminate();
    assert!(ended.stderr.contains("3 OTLP requests refused for more than 16 MiB"), "{}", ended.stderr);
}

/// An empty item of a list has two bytes in a request, and up to a hundred in memory.
#[test]
fn a_request_that_becomes_large_when_it_is_decoded_is_refused_in_bounded_memory() {
    let (spantap, address) = Spantap::listen_otlp(&["--quiet"]);
    let before = peak_memory(&spantap);
    let field = |number: u32, content: &[u8]| {
        let mut bytes = Vec::new();
        prost::encoding::bytes::encode(number, &content.to_vec(), &mut bytes);
        bytes
    };
    let ids = [field(1, &[7; 16]), field(2, &[7; 8])].concat();
    let request = |spans: &[u8]| field(1, &field(2, spans));
    let span = |content: &[u8]| field(2, &[&ids, content].concat());
    let many = |item: &[u8]| item.repeat((6 << 20) / item.len());
    let most = |item: &[u8]| item.repeat((15 << 20) / item.len());
    let bodies = [
        // Links, attributes and events of one span.
        request(&span(&most(&[0x6a, 0]))),
        request(&span(&many(&[0x4a, 0]))),
        request(&span(&many(&[0x5a, 0]))),
        // Values in a list.
        request(&span(&field(9, &field(2, &field(5, &many(&[0x0a, 0])))))),
        // Links of many spans.
        request(&many(&span(&[0x6a, 0].repeat(5000)))),
        // A resource, a scope, and a report of open spans.
        field(1, &[field(1, &many(&[0x0a, 0])), field(2, &span(&[]))].concat()),
        request(&[field(1, &many(&[0x1a, 0])), span(&[])].concat()),
        [request(&span(&[])), field(1018, &field(2, &[&*ids, &many(&[0x6a, 0])].concat()))].concat(),
        // Spans of one process each.
        most(&request(&span(&[]))),
        // After something that prost skips, and others don't.
        request(&span(&[&[0xa3, 6, 0xa4, 6], &*many(&[0x6a, 0])].concat())),
    ];
    let mut refused = Vec::new();
    for body in &bodies {
        let body = gzip(body);
        assert!(body.len() < 1 << 20, "{}", body.len());
        let answer = post(address, TRACES, &[PROTOBUF, ("Content-Encoding", "gzip")], &body).unwrap();
        assert_eq!(answer.status, 200);
        refused.push(ExportTraceServiceResponse::decode(&*answer.body).unwrap().partial_success);
    }
    let grown = peak_memory(&spantap) - before;
    assert!(grown < 400 << 20, "spantap grew by {} MiB", grown >> 20);
    // A resource and a scope that can't be read are left out.
    let is_refused: Vec<_> = refused.iter().map(Option::is_some).collect();
    assert_eq!(is_refused, [true, true, true, true, true, false, false, true, true, true]);
    let why = &refused[0].as_ref().unwrap().error_message;
    assert!(why.contains("decoded, the request would take more than 128 MiB"), "{why}");
    spantap.terminate();
}

/// The time of a request grows with its size, and not with the square of how many processes and scopes are in it.
#[test]
fn a_request_of_many_processes_or_scopes_is_answered_soon() {
    let (spantap, address) = Spantap::listen_otlp(&["--quiet"]);
    let one = |number: u64, is_scope: bool| {
        let mut request = otlp_request(number..number + 1);
        let name = format!("{number}");
        if is_scope {
            let scope = InstrumentationScope { name, ..InstrumentationScope::default() };
            request.resource_spans[0].scope_spans[0].scope = Some(scope);
        } else {
            let value = Some(AnyValue { value: Some(any_value::Value::StringValue(name)) });
            let resource = request.resource_spans[0].resource.as_mut().unwrap();
            resource.attributes.push(KeyValue { key: "n".to_owned(), value, ..KeyValue::default() });
            // Not a usual span, so it is decoded.
            request.resource_spans[0].scope_spans[0].spans[0].end_time_unix_nano = 0;
        }
        request.encode_to_vec()
    };
    for is_scope in [false, true] {
        let body: Vec<u8> = (0..50_000).flat_map(|number| one(number, is_scope)).collect();
        let began = Instant::now();
        let answer = post(address, TRACES, &[PROTOBUF], &body).unwrap();
        assert_eq!((answer.status, answer.text()), (200, String::new()));
        // With a build for debugging, on a busy machine.
        assert!(began.elapsed() < Duration::from_secs(25), "{is_scope}: {:?}", began.elapsed());
    }
    spantap.terminate();
}

#[test]
#[ignore = "deep: decodes over a million events one by one"]
fn json_that_becomes_large_when_it_is_decoded_is_refused_in_bounded_memory() {
    let (spantap, address) = Spantap::listen_otlp(&["--quiet"]);
    let before = peak_memory(&spantap);
    let events = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{:032x}","spanId":"{:016x}","events":[{}{{}}]}}]}}]}}]}}"#,
        7,
        7,
        "{},".repeat(5 << 20)
    );
    let json = [JSON, ("Content-Encoding", "gzip")];
    assert_eq!(post(address, TRACES, &json, &gzip(events.as_bytes())).unwrap().status, 200);
    let grown = peak_memory(&spantap) - before;
    assert!(grown < 300 << 20, "spantap grew by {} MiB", grown >> 20);
    spantap.terminate();
}

/// A message just below the limit, with many spans, also as a recording and for a target.
#[test]
fn the_largest_request_is_taken_whole() {
    let (file, folder) = (NamedTempFile::new().unwrap(), tempfile::tempdir().unwrap());
    let capture = folder.path().join("c.spans");
    let (spantap, address) =
        Spantap::record_otlp(&capture, &["--to", &jsonl(&file), "--flush-timeout", "60s"]);
    let mut spans = 0;
    let mut body = Vec::new();
    while body.len() < 15 << 20 {
        otlp_request(spans..spans + 10_000).encode(&mut body).unwrap();
        spans += 10_000;
    }
    assert!(body.len() < 16 << 20);
    assert_eq!(post(address, TRACES, &[PROTOBUF], &body).unwrap().status, 200);
    let ended = spantap.terminate();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_once(&[&file], spans);
    let mut view = Command::new(program("spantap"));
    let output = view.args(["graph", "--json"]).arg(&capture).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(&spans.to_string()), "{text} {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn thousands_of_idle_connections_keep_nobody_out() {
    let (spantap, address) = Spantap::listen_otlp(&["--quiet"]);
    let files = || std::fs::read_dir(format!("/proc/{}/fd", spantap.pid())).unwrap().count();
    let before = files();
    let mut open = Vec::new();
    for round in 0..4 {
        let mut new = idle_connections(address, 500);
        // Half of them begin a request.
        for stream in new.iter_mut().step_by(2) {
            let _ = stream.write_all(b"POST /v1/traces HTTP/1.1\r\nHo");
        }
        open.extend(new);
        let began = Instant::now();
        assert_eq!(post_spans(address, round * 10..round * 10 + 10).unwrap().status, 200);
        // Not a tenth of a second for each of the others.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(files() <= before + 256 + 8, "{} files", files());
    }
    drop(open);
    let ended = spantap.terminate();
    assert!(ended.stderr.contains("40 spans in 4 OTLP requests"), "{}", ended.stderr);
}

#[test]
#[ignore = "deep: waits for the time limit of a request"]
fn a_client_that_sends_a_byte_a_second_is_cut_off() {
    let (spantap, address) = Spantap::listen_otlp(&["--quiet"]);
    let mut slow = TcpStream::connect(address).unwrap();
    slow.write_all(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
        .unwrap();
    let mut reader = slow.try_clone().unwrap();
    let is_answered = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_answered.load(Ordering::Relaxed) && slow.write_all(b" ").is_ok() {
                assert_eq!(post_spans(address, 0..1).unwrap().status, 200, "others are served meanwhile");
                thread::sleep(Duration::from_secs(1));
            }
        });
        let answer = read_answer(&mut reader);
        is_answered.store(true, Ordering::Relaxed);
        assert_eq!(answer.unwrap().status, 408);
    });
    assert!(
        spantap.terminate().stderr.contains("1 OTLP request refused because they did not arrive within 10 s")
    );
}

/// What was answered with success is in the spool.
#[test]
fn spans_are_kept_when_spantap_is_killed_after_its_answer() {
    let (file, folder, target) =
        (NamedTempFile::new().unwrap(), tempfile::tempdir().unwrap(), e2e::free_address());
    let spool = folder.path().to_str().unwrap();
    let to = format!("otlp=http://{target}");
    let (killed, address) = Spantap::listen_otlp(&["--quiet", "--to", &to, "--spool", spool]);
    assert_eq!(post_spans(address, 0..20_000).unwrap().status, 200);
    kill(killed.pid(), Signal::SIGKILL).unwrap();
    killed.wait();
    let receiver = Spantap::listen(&["--quiet", "--otlp", &target.to_string(), "--to", &jsonl(&file)]);
    let (next, _) =
        Spantap::listen_otlp(&["--quiet", "--to", &to, "--spool", spool, "--flush-timeout", "60s"]);
    next.terminate();
    receiver.terminate();
    assert_once(&[&file], 20_000);
}

/// Clients send all the time, and send again what was not answered with success, while one spantap ends and the next one
/// takes its place.
#[test]
fn spans_are_taken_once_across_a_restart() {
    const CLIENTS: u64 = 4;
    const REQUESTS: u64 = 200;
    let address = e2e::free_address();
    let start = |file: &NamedTempFile| {
        let spantap = Spantap::listen(&["--quiet", "--otlp", &address.to_string(), "--to", &jsonl(file)]);
        wait_until("it takes OTLP requests", || TcpStream::connect(address).is_ok());
        spantap
    };
    let files = [NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap()];
    let first = start(&files[0]);
    let (mut unanswered, mut again) = (0, 0);
    thread::scope(|scope| {
        let client = |client: u64| {
            let (mut unanswered, mut again) = (0, 0);
            for request in 0..REQUESTS {
                let first = (client * REQUESTS + request) * 10;
                loop {
                    match post_spans(address, first..first + 10) {
                        Ok(answer) if answer.status == 200 => break,
                        Ok(answer) => {
                            assert_eq!(
                                (answer.status, &*answer.headers["retry-after"]),
                                (503, "1"),
                                "{}",
                                answer.text()
                            );
                            again += 1;
                        }
                        // Nothing listens, or the connection was closed before the request was read.
                        Err(_) => unanswered += 1,
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            }
            (unanswered, again)
        };
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        wait_until("the first has a part", || std::fs::metadata(files[0].path()).unwrap().len() > 200_000);
        kill(first.pid(), Signal::SIGTERM).unwrap();
        assert!(first.wait().status.success());
        let second = start(&files[1]);
        for client in clients {
            let (not_answered, refused) = client.join().unwrap();
            unanswered += not_answered;
            again += refused;
        }
        assert!(second.terminate().status.success());
    });
    assert!(unanswered + again > 0, "the restart met no request");
    assert_once(&[&files[0], &files[1]], CLIENTS * REQUESTS * 10);
}

/// The exporters of another spantap send again what was refused or not answered.
#[test]
fn exporters_send_again_across_a_restart() {
    let path = Build::Debug.path(Linkage::Executable, 0);
    for scheme in ["http", "grpc"] {
        let address = e2e::free_address();
        let files = [NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap()];
        let start = |file: &NamedTempFile| {
            let spantap = Spantap::listen(&["--quiet", "--otlp", &address.to_string(), "--to", &jsonl(file)]);
            wait_until("it takes OTLP requests", || TcpStream::connect(address).is_ok());
            spantap
        };
        let receiver = start(&files[0]);
        let target = format!("otlp={scheme}://{address}");
        let sender = Spantap::listen(&["--quiet", "--to", &target, "--flush-timeout", "60s"]);
        let mut fixture = Fixture::start(&path, Linkage::Executable, Some(sender.socket()));
        fixture.run("threads 2 500");
        wait_until("the first has a part", || std::fs::metadata(files[0].path()).unwrap().len() > 0);
        kill(receiver.pid(), Signal::SIGTERM).unwrap();
        fixture.run("threads 2 500");
        assert!(receiver.wait().status.success());
        fixture.run("threads 2 500");
        let receiver = start(&files[1]);
        assert_eq!(fixture.run("stats"), "6000 6000 0");
        fixture.end();
        let sender = sender.terminate();
        assert!(sender.stderr.contains("6,000 spans forwarded"), "{scheme}: {}", sender.stderr);
        receiver.terminate();
        let ids = counts(&[&files[0], &files[1]], "spanId");
        assert!(ids.len() == 6000 && ids.values().all(|count| *count == 1), "{scheme}: {}", ids.len());
    }
}

/// Requests that are almost complete take all the memory there is. One more is refused, and is taken later.
#[test]
fn requests_beyond_the_memory_are_refused_for_now() {
    const CLIENTS: u64 = 40;
    let file = NamedTempFile::new().unwrap();
    let (spantap, address) = Spantap::listen_otlp(&["--quiet", "--to", &jsonl(&file)]);
    let before = peak_memory(&spantap);
    let padding = vec![0_u8; 2 << 20];
    let body = |number: u64| {
        let mut body = otlp_request(number..number + 1).encode_to_vec();
        // A field that OTLP does not have.
        prost::encoding::bytes::encode(100, &padding, &mut body);
        body
    };
    let begin = |number: u64| {
        let body = body(number);
        let mut stream = TcpStream::connect(address).unwrap();
        let head =
            "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length";
        write!(stream, "{head}: {}\r\n\r\n", body.len()).unwrap();
        stream.write_all(&body[..body.len() - 1]).unwrap();
        stream
    };
    let clients: Vec<TcpStream> = (0..CLIENTS).map(begin).collect();
    // 80 MiB do not fit into 64.
    wait_until("one is refused", || spantap.stderr().contains("too many requests wait"));
    let mut refused = Vec::new();
    for (number, mut stream) in (0..CLIENTS).zip(clients) {
        stream.write_all(&[0]).unwrap();
        let answer = read_answer(&mut stream).unwrap();
        match answer.status {
            200 => continue,
            503 => assert_eq!(answer.headers["retry-after"], "1"),
            // On a busy machine, a request may take more than its time.
            status => assert_eq!(status, 408, "{}", answer.text()),
        }
        refused.push(number);
    }
    for number in &refused {
        assert_eq!(post(address, TRACES, &[PROTOBUF], &body(*number)).unwrap().status, 200);
    }
    assert!(!refused.is_empty());
    let grown = peak_memory(&spantap) - before;
    assert!(grown < 128 << 20, "spantap grew by {grown} bytes");
    let ended = spantap.terminate();
    assert!(ended.stderr.contains("refused for now because too many waited"), "{}", ended.stderr);
    assert_once(&[&file], CLIENTS);
}

/// A client may say any pid.
#[test]
fn a_recorded_pid_is_the_word_of_its_client() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("c.spans");
    let (spantap, address) = Spantap::record_otlp(&capture, &[]);
    let mut request = otlp_request(0..1);
    let resource = request.resource_spans[0].resource.as_mut().unwrap();
    for (key, id) in [("process.pid", 42), ("process.real_user.id", 0), ("process.real_group.id", 0)] {
        let value = Some(AnyValue { value: Some(any_value::Value::IntValue(id)) });
        resource.attributes.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
    assert_eq!(post(address, TRACES, &[PROTOBUF], &request.encode_to_vec()).unwrap().status, 200);
    assert!(spantap.terminate().status.success());
    let output = Command::new(program("spantap")).arg("view").arg(&capture).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("shop[42?]"), "{shown} {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn top_shows_spans_over_otlp() {
    let address = e2e::free_address();
    let mut command = Command::new(program("spantap"));
    command.args(["top", "--otlp", &address.to_string()]);
    let mut terminal = Terminal::start(command, 100, 30);
    wait_until("it takes OTLP requests", || TcpStream::connect(address).is_ok());
    assert_eq!(post_spans(address, 0..8).unwrap().status, 200);
    let screen = terminal.wait_for("span 7");
    assert!(screen.contains(&format!("OTLP at {address}")) && screen.contains("shop"), "{screen}");
    terminal.press("q");
    let (status, _) = terminal.wait();
    assert!(status.success());
}
