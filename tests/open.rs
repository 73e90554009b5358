//! Spans that hang are shown while they hang, and when their process dies.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use e2e::{Build, Collector, Fixture, Linkage, Rotel, Spantap, need, wait_until};
use serde_json::Value;

/// A fixture whose open spans are reported soon.
fn fixture(socket: &Path, format: &str) -> Fixture {
    let mut command = Command::new(Build::Release.path(Linkage::Executable, 0));
    command.env("TRACING_USDT_DELIVERY", "background").env("TRACING_USDT_FORMAT", format);
    Fixture::spawn(command.env("TRACING_USDT_OPEN_SPANS", "200ms"), Some(socket))
}

/// How often each span of a file of OTLP JSON is in it, by its id.
fn forwarded(file: &Path) -> BTreeMap<String, u32> {
    let mut spans = BTreeMap::new();
    for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
        let request: Value = serde_json::from_str(line).unwrap();
        let resources = request["resourceSpans"].as_array().unwrap().iter();
        let scopes = resources.flat_map(|of| of["scopeSpans"].as_array().unwrap());
        for span in scopes.flat_map(|scope| scope["spans"].as_array().unwrap()) {
            *spans.entry(span["spanId"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    spans
}

#[test]
fn a_hang_is_shown_while_it_lasts_and_its_spans_are_forwarded_once_when_they_close() {
    for format in ["otlp-protobuf", "otlp-json"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("spans.jsonl");
        let address = e2e::free_address();
        let spantap = Spantap::listen(&[
            "--to",
            &format!("jsonl={}", file.display()),
            "--metrics",
            &address.to_string(),
        ]);
        let mut fixture = fixture(spantap.socket(), format);
        fixture.run("hold 2");
        let ids = fixture.run("enter");
        let (trace, _) = ids.split_once(' ').unwrap();
        let line = format!("fixture[{}] entered (trace {trace})", fixture.pid());
        wait_until("the hang is shown", || spantap.stderr().contains(&line));
        let shown = spantap.stderr();
        assert!(shown.contains("spantap: still open after "), "{shown}");
        assert_eq!(shown.matches("] held {n=").count(), 2, "with their fields: {shown}");
        // More reports come, and nothing else is said or done.
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert_eq!(spantap.stderr(), shown);
        assert!(spantap.stdout().is_empty() && forwarded(&file).is_empty());
        let metrics = e2e::get(address, "/metrics").unwrap();
        assert!(!metrics.contains("entered") && !metrics.contains("held"), "{metrics}");

        fixture.run("leave");
        fixture.run("release");
        fixture.end();
        wait_until("the spans arrive", || forwarded(&file).len() == 3);
        let ended = spantap.terminate();
        assert!(forwarded(&file).values().all(|times| *times == 1));
        assert!(ended.stderr.contains("spantap: 3 spans in "), "{}", ended.stderr);
        assert!(
            !ended.stderr.contains("has ended") && !ended.stderr.contains(" open for "),
            "{}",
            ended.stderr
        );
        assert!(!ended.stdout.contains("open") && !ended.stdout.contains("unfinished"), "{}", ended.stdout);
    }
}

#[test]
fn what_was_open_when_a_process_was_killed_is_shown_and_counts_as_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spans.jsonl");
    let spantap = Spantap::listen(&["--to", &format!("jsonl={}", file.display())]);
    let mut fixture = fixture(spantap.socket(), "otlp-protobuf");
    // Another process, which goes on.
    let mut other = self::fixture(spantap.socket(), "otlp-protobuf");
    other.run("hold 1");
    let ids = fixture.run("enter");
    fixture.run("enter");
    let (trace, pid) = (ids.split_once(' ').unwrap().0.to_owned(), fixture.pid());
    wait_until("the hang is shown", || spantap.stderr().matches("] entered (trace ").count() == 2);
    wait_until("that of the other, too", || spantap.stderr().contains("] held {n=0}"));
    assert!(spantap.stdout().is_empty());
    // Ends it with SIGKILL.
    drop(fixture);
    wait_until("its open spans are shown", || spantap.stdout().contains("still open when the process ended"));
    let (shown, notices) = (spantap.stdout(), spantap.stderr());
    assert!(
        shown.contains(&format!("trace {trace}")) && shown.contains(&format!("fixture[{pid}]")),
        "{shown}"
    );
    assert_eq!(shown.matches("entered (still open)").count(), 2, "{shown}");
    let ended =
        format!("spantap: fixture (pid {pid}, uid {}) has ended; 2 spans were open", nix::unistd::getuid());
    assert!(notices.contains(&ended), "{notices}");
    let ended = spantap.terminate();
    assert!(ended.stderr.contains("spantap: 1 span is still open for more than 200 ms"), "{}", ended.stderr);
    assert!(ended.stderr.contains("spantap: 0 spans in "), "{}", ended.stderr);
    assert!(forwarded(&file).is_empty() && !ended.stdout.contains("held"), "{}", ended.stdout);
    drop(other);
}

/// `spantap run` asks for reports by itself.
#[test]
fn what_was_open_when_a_program_aborted_is_shown_by_run() {
    let fixture = Build::Release.path(Linkage::Executable, 0);
    let script = format!("(echo enter; sleep 3; echo abort) | exec {}", fixture.display());
    let spantap = Spantap::run(&[], &["sh", "-c", &script]);
    wait_until("the hang is shown", || spantap.stderr().contains("] entered (trace "));
    let ended = spantap.wait();
    assert_eq!(ended.status.code(), Some(128 + 6), "{ended:?}");
    assert!(ended.stderr.contains(" has ended; 1 span was open by its last report, "), "{}", ended.stderr);
    assert!(ended.stderr.contains("entered (still open)"), "{}", ended.stderr);
    assert!(ended.stderr.contains("still open when the process ended"), "{}", ended.stderr);
}

/// It shows no traces, so there is a line for each span.
#[test]
fn what_was_open_when_a_program_aborted_is_listed_by_record() {
    let fixture = Build::Release.path(Linkage::Executable, 0);
    let script = format!("(echo enter; sleep 3; echo abort) | exec {}", fixture.display());
    let folder = tempfile::tempdir().unwrap();
    let spantap = Spantap::record_program(&folder.path().join("capture.spans"), &["sh", "-c", &script]);
    let ended = spantap.wait();
    assert_eq!(ended.status.code(), Some(128 + 6), "{ended:?}");
    assert!(ended.stderr.contains(" has ended; 1 span was open by its last report, "), "{}", ended.stderr);
    let listed = ended.stderr.lines().filter(|line| line.starts_with("spantap: it was open for "));
    let listed: Vec<_> = listed.collect();
    assert!(listed.len() == 1 && listed[0].contains("] entered (trace "), "{}", ended.stderr);
}

/// At a normal end, the layer itself sends what is open.
#[test]
fn spans_that_are_sent_at_the_end_of_the_program_are_not_shown_twice() {
    let fixture = Build::Release.path(Linkage::Executable, 0);
    let script = format!("(echo enter; sleep 3; echo exit) | exec {}", fixture.display());
    let ended = Spantap::run(&[], &["sh", "-c", &script]).wait();
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert!(ended.stderr.contains("still open after "), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches(" entered (unfinished)").count(), 1, "{}", ended.stderr);
    assert!(
        !ended.stderr.contains("has ended") && !ended.stderr.contains("still open when"),
        "{}",
        ended.stderr
    );
}

#[test]
fn of_a_million_short_spans_none_is_shown_as_open() {
    let spantap = Spantap::listen(&["--max-traces", "1"]);
    let mut command = Command::new(Build::Release.path(Linkage::Executable, 0));
    command.env("TRACING_USDT_DELIVERY", "background").env("TRACING_USDT_FORMAT", "otlp-protobuf");
    command.env("TRACING_USDT_OPEN_SPANS", "20s");
    let mut fixture = Fixture::spawn(&mut command, Some(spantap.socket()));
    assert_eq!(fixture.run("burst 1000000"), "");
    fixture.run("flush");
    fixture.end();
    let ended = spantap.terminate();
    assert!(ended.stderr.contains("spantap: 1,000,000 spans in "), "{}", ended.stderr);
    assert!(!ended.stderr.contains("still open"), "{}", ended.stderr);
}

/// Who forwards datagrams untouched forwards no open span.
#[test]
fn a_real_collector_takes_a_report_for_a_request_without_spans() {
    if !need(&["rotel"]) {
        return;
    }
    for (format, content_type) in
        [("otlp-json", "application/json"), ("otlp-protobuf", "application/x-protobuf")]
    {
        let (rotel, collector) = (Rotel::start(), Collector::start());
        let mut fixture = fixture(collector.path(), format);
        fixture.run("enter");
        std::thread::sleep(std::time::Duration::from_secs(1));
        fixture.run("leave");
        fixture.end();
        let datagrams = collector.bytes();
        assert!(datagrams.len() >= 4, "{} datagrams", datagrams.len());
        for datagram in &datagrams {
            let mut stream = TcpStream::connect(rotel.http).unwrap();
            let head = "POST /v1/traces HTTP/1.1\r\nHost: rotel\r\nConnection: close\r\nContent-Type";
            write!(stream, "{head}: {content_type}\r\nContent-Length: {}\r\n\r\n", datagram.len()).unwrap();
            stream.write_all(datagram).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        }
        wait_until("the closed span is there", || rotel.log().contains("Span #0"));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let log = rotel.log();
        assert_eq!(log.matches("\nSpan #").count(), 1, "only the one that has ended: {log}");
        assert!(!log.contains("tracing_usdt.unfinished"), "{log}");
    }
}
