//! `--keep`: which traces spantap forwards and records, as a backend sees it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use e2e::{Build, Ended, Fixture, Linkage, Spantap, free_address, get, wait_until};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use serde_json::Value;
use spantap::capture::Capture;

/// 2026-01-01, in nanoseconds.
const START_NS: u64 = 1_767_225_600_000_000_000;

/// A span that a test sends.
#[derive(Clone, Copy)]
struct Sent {
    trace: u128,
    span: u64,
    /// 0 without a parent.
    parent: u64,
    is_error: bool,
}

fn span(trace: u128, span: u64, parent: u64) -> Sent {
    Sent { trace, span, parent, is_error: false }
}

impl Sent {
    fn failed(self) -> Self {
        Self { is_error: true, ..self }
    }

    fn proto(self) -> Span {
        let id = |id: u64| if id == 0 { Vec::new() } else { id.to_be_bytes().to_vec() };
        Span {
            trace_id: self.trace.to_be_bytes().to_vec(),
            span_id: id(self.span),
            parent_span_id: id(self.parent),
            name: format!("span {}", self.span),
            start_time_unix_nano: START_NS,
            end_time_unix_nano: START_NS + 1_000,
            status: self.is_error.then(|| Status { code: 2, message: "it broke".to_owned() }),
            ..Span::default()
        }
    }
}

/// Sends the spans as one service, 200 to a datagram. Waits while the socket is full.
fn send(path: &Path, spans: impl IntoIterator<Item = Sent>) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(path).unwrap();
    let name = AnyValue { value: Some(any_value::Value::StringValue("made up".to_owned())) };
    let name = KeyValue { key: "service.name".to_owned(), value: Some(name), ..KeyValue::default() };
    let mut spans = spans.into_iter().map(Sent::proto).peekable();
    while spans.peek().is_some() {
        let scope = ScopeSpans { spans: spans.by_ref().take(200).collect(), ..ScopeSpans::default() };
        let resource = Resource { attributes: vec![name.clone()], ..Resource::default() };
        let spans =
            ResourceSpans { resource: Some(resource), scope_spans: vec![scope], ..ResourceSpans::default() };
        socket.send(&ExportTraceServiceRequest { resource_spans: vec![spans] }.encode_to_vec()).unwrap();
    }
}

/// A span that spantap forwarded.
#[derive(Debug)]
struct Got {
    trace: u128,
    span: u64,
    pid: u64,
    attributes: BTreeMap<String, Value>,
}

impl Got {
    fn rule(&self) -> &str {
        self.attributes["spantap.sampling.rule"]["stringValue"].as_str().unwrap()
    }

    fn weight(&self) -> f64 {
        self.attributes["spantap.sampling.weight"]["doubleValue"].as_f64().unwrap()
    }
}

/// A file that spantap forwards to.
struct Lines {
    folder: tempfile::TempDir,
}

impl Lines {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("spans.jsonl")
    }

    fn to(&self) -> String {
        format!("jsonl={}", self.path().display())
    }

    fn spans(&self) -> Vec<Got> {
        let text = fs::read_to_string(self.path()).unwrap_or_default();
        let attributes = |of: &Value| -> BTreeMap<String, Value> {
            let list = of["attributes"].as_array().into_iter().flatten();
            list.map(|each| (each["key"].as_str().unwrap().to_owned(), each["value"].clone())).collect()
        };
        let hex = |id: &Value| u128::from_str_radix(id.as_str().unwrap(), 16).unwrap();
        let mut found = Vec::new();
        // The last line may be incomplete: spantap is still writing it.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let request: Value = serde_json::from_str(line).unwrap();
            for of_process in request["resourceSpans"].as_array().unwrap() {
                let pid = &attributes(&of_process["resource"])["process.pid"]["intValue"];
                let pid = pid.as_str().map_or_else(|| pid.as_u64().unwrap(), |pid| pid.parse().unwrap());
                let scopes = of_process["scopeSpans"].as_array().unwrap().iter();
                for span in scopes.flat_map(|scope| scope["spans"].as_array().unwrap()) {
                    let (trace, id) = (hex(&span["traceId"]), hex(&span["spanId"]) as u64);
                    found.push(Got { trace, span: id, pid, attributes: attributes(span) });
                }
            }
        }
        found
    }

    /// The ids of the spans of each trace.
    fn traces(&self) -> BTreeMap<u128, Vec<u64>> {
        let mut traces: BTreeMap<u128, Vec<u64>> = BTreeMap::new();
        self.spans().iter().for_each(|got| traces.entry(got.trace).or_default().push(got.span));
        traces.values_mut().for_each(|ids| ids.sort_unstable());
        traces
    }
}

/// Starts `spantap listen` with these rules.
fn listen(lines: &Lines, args: &[&str]) -> Spantap {
    let to = lines.to();
    Spantap::listen(&[&["--quiet", "--to", &to], args].concat())
}

/// The number before these words in what spantap printed.
fn number(text: &str, words: &str) -> u64 {
    let before = text.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {text}")).0;
    let digits = before.rsplit(|c: char| !c.is_ascii_digit() && c != ',').next().unwrap();
    digits.replace(',', "").parse().unwrap_or_else(|_| panic!("no number before {words:?} in {text}"))
}

/// Received = forwarded + dropped by the rules, and spantap has lost none.
fn assert_adds_up(ended: &Ended, received: u64) {
    // The counts at the end: there are others each minute.
    let (_, text) = ended.stderr.rsplit_once("spantap: ").unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(number(text, " spans in "), received, "{text}");
    let (_, sampling) = text.split_once("--keep: ").unwrap_or_else(|| panic!("no counts: {text}"));
    let dropped = number(sampling.split_once(" dropped (").unwrap().1, " span");
    let forwarded = number(text.split_once("→ ").unwrap().1, " span");
    assert_eq!(forwarded + dropped, received, "{text}");
    assert!(text.contains(", 0 dropped\n"), "{text}");
}

#[test]
fn an_error_that_comes_last_keeps_its_whole_trace_and_no_other() {
    let lines = Lines::new();
    // One rule has a mistake, and asks for an attribute that no span has.
    let spantap = listen(&lines, &["--keep", "error", "--keep", "eror", "--keep-quiet", "1s"]);
    send(spantap.socket(), [span(1, 12, 11), span(2, 22, 21), span(2, 21, 0), span(1, 13, 11)]);
    // The second is complete and quiet, so it is decided; the first has no root yet.
    sleep(Duration::from_secs(3));
    assert_eq!(lines.traces(), BTreeMap::new());
    send(spantap.socket(), [span(1, 11, 0).failed()]);
    wait_until("the trace is forwarded", || lines.traces() == BTreeMap::from([(1, vec![11, 12, 13])]));
    send(spantap.socket(), [span(1, 14, 11), span(2, 23, 21)]);
    wait_until("a late span is forwarded", || lines.spans().len() == 4);
    let ended = spantap.terminate();
    assert_eq!(lines.traces(), BTreeMap::from([(1, vec![11, 12, 13, 14])]));
    assert!(lines.spans().iter().all(|got| got.rule() == "error" && got.weight().to_string() == "1"));
    assert!(ended.stderr.contains("--keep: 1 trace kept (4 spans), 1 dropped (3 spans)"), "{}", ended.stderr);
    assert!(ended.stderr.contains("    kept nothing: eror\n"), "{}", ended.stderr);
    assert_adds_up(&ended, 7);
}

#[test]
fn a_trace_across_three_processes_is_one_trace() {
    let lines = Lines::new();
    let spantap = listen(&lines, &["--keep", "error"]);
    let trace = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    let mut pids = BTreeSet::from([u64::from(std::process::id())]);
    for format in ["zipkin", "otlp-protobuf"] {
        let mut command = Command::new(Build::Release.path(Linkage::Executable, 0));
        command
            .env("TRACEPARENT", format!("00-{trace:032x}-{:016x}-01", 1))
            .env("TRACING_USDT_FORMAT", format);
        let mut fixture = Fixture::spawn(&mut command, Some(spantap.socket()));
        pids.insert(fixture.pid().into());
        assert_eq!(fixture.run("threads 1 5"), "");
        fixture.end();
    }
    sleep(Duration::from_secs(2));
    assert_eq!(lines.spans().len(), 0);
    send(spantap.socket(), [span(trace, 1, 0).failed(), span(9, 1, 0)]);
    let ended = spantap.terminate();
    let spans = lines.spans();
    assert!(spans.iter().all(|got| got.trace == trace), "{spans:#?}");
    assert_eq!(spans.iter().map(|got| got.pid).collect::<BTreeSet<_>>(), pids);
    assert_adds_up(&ended, spans.len() as u64 + 1);
}

#[test]
fn an_error_of_a_process_that_sends_seconds_after_the_root_keeps_the_whole_trace() {
    let lines = Lines::new();
    let spantap = listen(&lines, &["--keep", "error"]);
    let trace = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    send(spantap.socket(), [span(trace, 1, 0), span(9, 1, 0)]);
    sleep(Duration::from_secs(3));
    let mut command = Command::new(Build::Release.path(Linkage::Executable, 0));
    command.env("TRACEPARENT", format!("00-{trace:032x}-{:016x}-01", 1));
    let mut fixture = Fixture::spawn(&mut command, Some(spantap.socket()));
    assert_eq!(fixture.run("threads 1 1"), "");
    fixture.end();
    send(spantap.socket(), [span(trace, 2, 1).failed()]);
    let ended = spantap.terminate();
    let spans = lines.spans();
    assert!(spans.iter().all(|got| got.trace == trace), "{spans:#?}");
    assert_eq!(spans.iter().map(|got| got.pid).collect::<BTreeSet<_>>().len(), 2, "{spans:#?}");
    let incomplete = |got: &Got| got.attributes.contains_key("spantap.sampling.incomplete");
    assert!(!spans.iter().any(incomplete), "{spans:#?}");
    assert!(spans.iter().any(|got| got.span == 1) && spans.iter().any(|got| got.span == 2), "{spans:#?}");
    assert_adds_up(&ended, spans.len() as u64 + 1);
}

#[test]
fn a_trace_that_never_ends_is_decided_by_time_and_its_late_spans_follow() {
    let lines = Lines::new();
    let spantap =
        listen(&lines, &["--keep", "name == \"none\"", "--keep", "ratio(50%)", "--keep-wait", "1s"]);
    let (dropped, kept) = (1, u128::MAX);
    for id in 2..10 {
        send(spantap.socket(), [span(dropped, id, 1), span(kept, id, 1)]);
        sleep(Duration::from_millis(250));
    }
    wait_until("it is decided", || lines.traces().get(&kept).is_some_and(|ids| ids.len() == 8));
    assert_eq!(lines.traces().keys().collect::<Vec<_>>(), [&kept]);
    assert!(lines.spans().iter().all(|got| got.rule() == "ratio(50%)" && got.weight().to_string() == "2"));
    let ended = spantap.terminate();
    assert!(ended.stderr.contains("2 had waited for --keep-wait"), "{}", ended.stderr);
    assert_adds_up(&ended, 16);
}

#[test]
fn at_the_end_what_waits_is_decided_with_what_is_there() {
    let lines = Lines::new();
    let spantap = listen(&lines, &["--keep", "error", "--keep", "ratio(50%)"]);
    send(spantap.socket(), [span(1, 2, 1), span(u128::MAX, 2, 1), span(u128::MAX, 3, 1)]);
    let ended = spantap.terminate();
    assert_eq!(lines.traces(), BTreeMap::from([(u128::MAX, vec![2, 3])]));
    assert_adds_up(&ended, 3);
}

#[test]
fn a_late_error_in_a_dropped_trace_keeps_the_rest_and_says_what_is_missing() {
    let lines = Lines::new();
    let spantap = listen(&lines, &["--keep", "error", "--keep-quiet", "1s"]);
    send(spantap.socket(), [span(1, 1, 0), span(1, 2, 1)]);
    sleep(Duration::from_secs(3));
    send(spantap.socket(), [span(1, 3, 1), span(1, 4, 1).failed(), span(1, 5, 1)]);
    let ended = spantap.terminate();
    assert_eq!(lines.traces(), BTreeMap::from([(1, vec![4, 5])]));
    let incomplete = |got: &Got| got.attributes["spantap.sampling.incomplete"]["boolValue"] == true;
    assert!(lines.spans().iter().all(incomplete));
    assert!(ended.stderr.contains("incomplete: of 1 dropped trace"), "{}", ended.stderr);
    assert!(ended.stderr.contains("after the decision: 2 kept, 1 dropped"), "{}", ended.stderr);
    assert_adds_up(&ended, 5);
}

/// Ids as random as a generator makes them: the steps of SplitMix64.
fn random_ids() -> impl Iterator<Item = u128> {
    let mut state = 7_u64;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    std::iter::repeat_with(move || u128::from(next()) << 64 | u128::from(next()))
}

#[test]
fn two_collectors_keep_the_same_share_of_100000_traces() {
    let lines = [Lines::new(), Lines::new()];
    let spantaps = [
        listen(&lines[0], &["--keep", "ratio(1%)"]),
        listen(&lines[1], &["--keep", "ratio(1%)", "--keep", "error"]),
    ];
    // The one gets the roots, the other their children.
    for (spantap, (id, parent)) in spantaps.iter().zip([(1, 0), (2, 1)]) {
        send(spantap.socket(), random_ids().take(100_000).map(|trace| span(trace, id, parent)));
    }
    for spantap in spantaps {
        assert_adds_up(&spantap.terminate(), 100_000);
    }
    let [roots, children] = lines.each_ref().map(|lines| lines.traces().into_keys().collect::<Vec<_>>());
    assert_eq!(roots, children);
    // The mean is 1,000 and the standard deviation 31.5; five of them are one chance in two million.
    assert!((843..=1_157).contains(&roots.len()), "{}", roots.len());
    assert!(lines[0].spans().iter().all(|got| got.weight().to_string() == "100"));
}

#[test]
fn a_rate_keeps_so_many_traces_and_their_weights_add_up_to_all() {
    let lines = Lines::new();
    let spantap = listen(&lines, &["--keep", "rate(100/s)"]);
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < Duration::from_secs(3) {
        send(spantap.socket(), random_ids().skip(sent).take(20).map(|trace| span(trace, 1, 0)));
        sent += 20;
        sleep(Duration::from_millis(10));
    }
    let ended = spantap.terminate();
    let spans = lines.spans();
    let most = 100.0 + 100.0 * start.elapsed().as_secs_f64();
    assert!((350..=most as usize).contains(&spans.len()), "{} of {sent}, at most {most}", spans.len());
    let sum: f64 = spans.iter().map(Got::weight).sum();
    assert!((sent as f64 - 1_000.0..=sent as f64).contains(&sum), "{sum} of {sent}");
    assert_adds_up(&ended, sent as u64);
}

#[test]
fn a_recording_has_the_kept_traces_and_the_metrics_have_all_spans() {
    let (folder, metrics) = (tempfile::tempdir().unwrap(), free_address());
    let capture = folder.path().join("kept.spans");
    let rules = ["--keep", "error", "--keep", "name == \"none\"", "--keep-quiet", "1s"];
    let address = metrics.to_string();
    let args = [&rules[..], &["--metrics", &address]].concat();
    let spantap = Spantap::record(&capture, &args);
    send(spantap.socket(), [span(1, 1, 0), span(2, 2, 3), span(2, 3, 0).failed()]);
    let mut page = String::new();
    wait_until("all spans are in the metrics", || {
        page = get(metrics, "/metrics").unwrap_or_default();
        page.contains("spantap_sampling_kept_spans_total{rule=\"error\"} 2")
            && page.contains("spantap_sampling_dropped_spans_total{} 1")
    });
    for line in [
        "spantap_sampling_kept_traces_total{rule=\"name == \\\"none\\\"\"} 0",
        "spantap_sampling_dropped_traces_total{} 1",
        "spantap_sampling_early_decisions_total{reason=\"no_room\"} 0",
        "spantap_sampling_waiting_spans{} 0",
        "spantap_span_duration_seconds_count{service=\"made up\",span=\"span 1\"} 1",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    let ended = spantap.terminate();
    assert_adds_up(&ended, 3);
    let mut found: Vec<u128> = Vec::new();
    for spans in &mut Capture::open(&capture).unwrap() {
        let spans = spans.unwrap();
        found.extend(spans.iter().map(|(_, field)| {
            let span = ScopeSpans::decode(field).unwrap().spans.remove(0);
            u128::from_be_bytes(span.trace_id.try_into().unwrap())
        }));
    }
    assert_eq!(found, [2, 2]);
}

/// The spans that a spantap reports as never received.
fn missing(ended: &Ended) -> u64 {
    match ended.stderr.contains(" sent and never received (") {
        true => number(&ended.stderr, " sent and never received ("),
        false => 0,
    }
}

/// Decisions are in memory only, as the manual says.
#[test]
fn a_restart_decides_a_trace_in_flight_anew() {
    let lines = Lines::new();
    let args = ["--keep", "error", "--keep", "name == \"none\""];
    let first = listen(&lines, &args);
    send(first.socket(), [span(1, 1, 0), span(1, 2, 1), span(2, 1, 0).failed()]);
    first.terminate();
    assert_eq!(lines.traces(), BTreeMap::from([(2, vec![1])]));
    let second = listen(&lines, &args);
    send(second.socket(), [span(1, 3, 1).failed(), span(2, 2, 1)]);
    assert_adds_up(&second.terminate(), 2);
    assert_eq!(lines.traces(), BTreeMap::from([(1, vec![3]), (2, vec![1])]));
    let incomplete = |got: &Got| got.attributes.contains_key("spantap.sampling.incomplete");
    assert!(!lines.spans().iter().any(incomplete));
}

/// What a rule has dropped is not missing, whether spantap ends or is killed; what waited at a kill is.
#[test]
fn after_a_restart_exactly_the_spans_that_waited_at_a_kill_are_missing() {
    let spool = tempfile::tempdir().unwrap();
    let lines = Lines::new();
    let (to, metrics) = (lines.to(), [free_address(), free_address()]);
    let args = ["--quiet", "--to", &to, "--keep", "error", "--spool", spool.path().to_str().unwrap()];
    let [one, other] = metrics.map(|address| address.to_string());
    let has = |address, line: &str| get(address, "/metrics").is_some_and(|page| page.contains(line));
    let start = || {
        let mut command = Command::new(Build::Release.path(Linkage::Executable, 0));
        command.env("TRACING_USDT_FORMAT", "otlp-protobuf");
        command
    };
    let first = Spantap::listen(&[&args[..], &["--keep-quiet", "100ms", "--metrics", &one]].concat());
    let socket = first.socket().to_owned();
    let mut fixture = Fixture::spawn(&mut start(), Some(&socket));
    // Spans of complete traces, none with an error.
    fixture.run("burst 100");
    fixture.run("flush");
    wait_until("all are decided", || has(metrics[0], "spantap_sampling_dropped_spans_total{} 100\n"));
    // The progress is written a tenth of a second later.
    sleep(Duration::from_secs(2));
    let killed = first.kill();
    let waits = ["--keep-quiet", "1h", "--keep-wait", "1h", "--metrics", &other];
    let second = Spantap::listen_after(killed, &[&args[..], &waits].concat());
    fixture.run("burst 50");
    fixture.run("flush");
    wait_until("all wait", || has(metrics[1], "spantap_sampling_waiting_spans{} 50\n"));
    let killed = second.kill();
    let third = Spantap::listen_after(killed, &args);
    fixture.run("burst 1");
    fixture.run("flush");
    fixture.end();
    let ended = third.terminate();
    assert_eq!(missing(&ended), 50, "{}", ended.stderr);
}

/// The most memory that spantap has used, in MiB.
fn most_memory(spantap: &Spantap) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", spantap.pid())).unwrap();
    number(status.lines().find(|line| line.starts_with("VmHWM")).unwrap(), " kB") >> 10
}

#[test]
#[ignore = "deep: a million spans"]
fn a_trace_of_a_million_spans_takes_bounded_memory_and_starves_no_other() {
    let lines = Lines::new();
    let spantap = listen(&lines, &["--keep", "error"]);
    let (large, small) = (u128::MAX, 1_000_u128);
    for part in 0..small {
        let of_large = (0..1_000).map(|n| span(large, 2 + n + 1_000 * part as u64, 1));
        send(spantap.socket(), of_large.chain([span(part + 1, 2, 1), span(part + 1, 1, 0).failed()]));
    }
    wait_until("all small traces are forwarded", || lines.traces().len() == small as usize);
    assert!(lines.traces().values().all(|ids| ids == &[1, 2]));
    let memory = most_memory(&spantap);
    let ended = spantap.terminate();
    assert_adds_up(&ended, 1_002_000);
    assert!(ended.stderr.contains("1 had too many spans to wait"), "{}", ended.stderr);
    eprintln!("{memory} MiB");
    assert!(memory < 250, "{memory} MiB");
}

#[test]
#[ignore = "deep: a million traces"]
fn a_million_undecided_traces_take_bounded_memory() {
    let (lines, metrics) = (Lines::new(), free_address());
    let args = ["--keep", "error", "--keep", "ratio(1%)", "--keep-wait", "1h", "--metrics"];
    let spantap = listen(&lines, &[&args[..], &[&metrics.to_string()]].concat());
    let traces = 1_000_000;
    send(spantap.socket(), random_ids().take(traces).map(|trace| span(trace, 2, 1)));
    wait_until("all are kept, dropped or waiting", || {
        let page = get(metrics, "/metrics").unwrap_or_default();
        let counts = ["kept_spans_total{", "dropped_spans_total{", "waiting_spans{"];
        let of = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap();
        let is_count = |line: &&str| {
            let name = line.strip_prefix("spantap_sampling_");
            name.is_some_and(|name| counts.iter().any(|count| name.starts_with(count)))
        };
        page.lines().filter(is_count).map(of).sum::<usize>() == traces
    });
    let memory = most_memory(&spantap);
    let ended = spantap.terminate();
    assert_adds_up(&ended, traces as u64);
    assert!(ended.stderr.contains(" had to make room for others"), "{}", ended.stderr);
    let kept = lines.traces().len();
    assert!((9_500..=10_500).contains(&kept), "{kept}");
    eprintln!("{memory} MiB");
    assert!(memory < 400, "{memory} MiB");
}

#[test]
fn useless_rules_get_an_error_or_a_note() {
    let run = |args: &[&str]| {
        let mut command = Command::new(e2e::program("spantap"));
        command.args(["run", "--to", "jsonl=/dev/null"]).args(args).args(["--", "true"]);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    for (args, expected) in [
        (&["--keep", "ratio(0%)"][..], "keeps no trace"),
        (&["--keep", "ratio(150%)"], "more than all traces"),
        (&["--keep", "error", "--keep", "error "], "is given twice"),
        (&["--keep", "error or ratio(1%)"], "a --keep of their own"),
    ] {
        let (success, stderr) = run(args);
        assert!(!success && stderr.contains(expected), "{args:?}: {stderr}");
    }
    for (args, expected) in [
        (
            &["--keep", "kernel.disk > 1ms"][..],
            "only spans of spantap attach with --kernel sched have the values",
        ),
        (&["--keep", "ratio(1%)", "--keep", "ratio(2%)"], "'ratio(1%)' adds nothing"),
        (&["--keep", "ratio(100%)"], "keeps every trace"),
        (&["--keep", "error", "--keep", "error and ratio(10%)"], "'error and ratio(10%)' adds nothing"),
        (&["--keep", "error", "--keep", "not error"], "keep every trace, so nothing is dropped"),
        (&["--keep", "not (error or root)", "--keep", "error or root"], "keep every trace"),
    ] {
        let (success, stderr) = run(args);
        assert!(success && stderr.contains(expected), "{args:?}: {stderr}");
    }
    let output =
        Command::new(e2e::program("spantap")).args(["run", "--keep", "error", "--", "true"]).output();
    let output = output.unwrap();
    assert!(
        !output.status.success()
            && String::from_utf8_lossy(&output.stderr).contains("give a target with --to")
    );
}
