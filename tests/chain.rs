//! A request through several services makes one trace.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::{Headers, Process, Rotel, Spantap, need, program, receive_posts, wait_until};

/// A running service of `examples/` that has printed its address. Dropping the value kills it.
struct Service {
    _process: Process,
    address: String,
}

impl Service {
    fn start(name: &str, args: &[&str], socket: &Path) -> Self {
        let mut command = Command::new(program(name));
        command.args(args).env("TRACING_USDT_SOCKET", socket).stdout(Stdio::piped());
        let mut process = Process(command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{name}: {line:?}"));
        Self { address: address.to_owned(), _process: process }
    }
}

/// A span in the file of OTLP JSON that spantap writes.
#[derive(Clone, PartialEq, Debug)]
struct Found {
    id: String,
    parent: Option<String>,
    service: String,
}

/// The spans in the file by trace id, then by name.
fn read(path: &Path) -> BTreeMap<String, BTreeMap<String, Found>> {
    let mut traces: BTreeMap<String, BTreeMap<String, Found>> = BTreeMap::new();
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be incomplete: spantap is still writing it.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let data: serde_json::Value = serde_json::from_str(line).unwrap();
        let resource = &data["resourceSpans"][0];
        let span = &resource["scopeSpans"][0]["spans"][0];
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let attributes = resource["resource"]["attributes"].as_array().unwrap();
        let service = attributes.iter().find(|attribute| attribute["key"] == "service.name").unwrap();
        let found = Found {
            id: text(&span["spanId"]),
            parent: Some(text(&span["parentSpanId"])).filter(|id| !id.is_empty()),
            service: text(&service["value"]["stringValue"]),
        };
        traces.entry(text(&span["traceId"])).or_default().insert(text(&span["name"]), found);
    }
    traces
}

#[test]
fn a_request_through_three_services_is_one_trace() {
    if !need(&["rotel"]) {
        return;
    }
    const REQUESTS: usize = 20;
    let rotel = Rotel::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    let (to_rotel, to_file) =
        (format!("otlp=http://{}", rotel.http), format!("jsonl={}", file.path().display()));
    let spantap = Spantap::listen(&["--to", &to_rotel, "--to", &to_file, "--max-traces", "0"]);

    let last = Service::start("tonic_server", &["127.0.0.1:0"], spantap.socket());
    let upstream = format!("http://{}", last.address);
    let middle = Service::start("axum_server", &[&upstream, "127.0.0.1:0"], spantap.socket());
    let url = format!("http://{}/health/shop", middle.address);
    let mut first = Command::new(program("hyper_client"));
    first.args([&url, &REQUESTS.to_string()]).env("TRACING_USDT_SOCKET", spantap.socket());
    let output = first.output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.matches("200 OK: shop is serving").count(), REQUESTS, "{stdout} {:?}", output.stderr);

    let names = ["visit", "GET /health/{service}", "grpc.health.v1.Health/Check", "POST"].map(str::to_owned);
    wait_until("all spans are in the file", || {
        let traces = read(file.path());
        traces.len() == REQUESTS && traces.values().all(|trace| trace.len() == names.len())
    });
    let ended = spantap.terminate();
    for (id, trace) in read(file.path()) {
        let [visit, route, call, answer] = names.each_ref().map(|name| &trace[name]);
        assert_eq!(visit.parent, None, "{id}");
        for (child, parent) in [(route, visit), (call, route), (answer, call)] {
            assert_eq!(child.parent.as_ref(), Some(&parent.id), "{trace:?}");
        }
        let services = [visit, route, call, answer].map(|span| &*span.service);
        assert_eq!(services, ["hyper_client", "axum_server", "axum_server", "tonic_server"]);
        // spantap shows one tree, and rotel has each span once, with the same ids.
        assert!(ended.stdout.contains(&format!("trace {id}")), "{}", ended.stdout);
        let log = rotel.log();
        for span in trace.values() {
            let printed = &rotel.spans()[&span.id];
            assert_eq!(printed.len(), 1, "{printed:?}");
            assert!(printed[0].1.contains(&id), "{log}");
            let parent = span.parent.as_deref().unwrap_or_default();
            assert!(printed[0].1.contains(&format!("Parent ID      : {parent}")), "{:?}", printed[0].1);
        }
    }
    let trees = ended.stdout.matches("4 spans").count();
    assert_eq!(trees, REQUESTS, "{}", ended.stdout);
}

/// Some cases of W3C's test harness for Trace Context.
#[test]
fn the_service_for_w3cs_harness_continues_valid_contexts_only() {
    let spantap = Spantap::listen(&["--max-traces", "0"]);
    let service = Service::start("w3c_service", &["127.0.0.1:0"], spantap.socket());
    const GOOD: &str = "00-12345678901234567890123456789012-1234567890123456-01";
    let cases: [(&str, Headers<'_>, Option<&str>); 8] = [
        ("a parent", &[("traceparent", GOOD)], Some("")),
        ("a state", &[("traceparent", GOOD), ("tracestate", "foo=1,bar=2")], Some("foo=1,bar=2")),
        (
            "two headers of state",
            &[("traceparent", GOOD), ("tracestate", "foo=1"), ("tracestate", "bar=2")],
            Some("foo=1,bar=2"),
        ),
        ("an invalid state", &[("traceparent", GOOD), ("tracestate", "foo =1")], Some("")),
        ("no parent", &[("tracestate", "foo=1")], None),
        ("two parents", &[("traceparent", GOOD), ("traceparent", GOOD)], None),
        ("zeros", &[("traceparent", "00-00000000000000000000000000000000-1234567890123456-01")], None),
        (
            "a later version",
            &[(
                "traceparent",
                "cc-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like",
            )],
            Some(""),
        ),
    ];
    for (what, headers, continued) in cases {
        // Two calls, which are children of one span.
        let got = receive_posts(&service.address, "/test", headers, 2);
        let parents: Vec<&str> = got.iter().map(|headers| &*headers["traceparent"]).collect();
        let (trace, spans): (Vec<&str>, Vec<&str>) =
            parents.iter().map(|parent| (&parent[3..35], &parent[36..52])).unzip();
        assert_eq!(trace[0], trace[1], "{what}");
        assert!(spans[0] != spans[1] && !spans.contains(&"1234567890123456"), "{what}: {parents:?}");
        assert_eq!(
            trace[0] == "12345678901234567890123456789012",
            continued.is_some(),
            "{what}: {parents:?}"
        );
        for headers in &got {
            let state = headers.get("tracestate").map_or("", |state| state);
            assert_eq!(state, continued.unwrap_or_default(), "{what}");
        }
    }
}
