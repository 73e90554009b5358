//! The tools in `examples/bpftrace`, on programs whose spans are known.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{BPFTRACE, Bpftrace, Build, Collector, Fixture, Linkage, need, text};

fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bpftrace").join(format!("{name}.bt"))
}

/// Attaches the tool, runs `commands` in the fixture, and returns what the tool printed.
fn run(name: &str, args: &[&str], commands: &[&str]) -> Vec<String> {
    let path = Build::Release.path(Linkage::Executable, 0);
    let args = [&[path.to_str().unwrap()], args].concat();
    let tool = Bpftrace::attach_tool(&tool(name), &args);
    let mut fixture = Fixture::start(&path, Linkage::Executable, None);
    for command in commands {
        fixture.run(command);
    }
    fixture.end();
    tool.end()
}

/// Keys and values of lines `@map[key]: value`, trimmed.
fn map<'a>(lines: &'a [String], name: &str) -> BTreeMap<&'a str, &'a str> {
    let entry = |line: &'a String| line.strip_prefix(name)?.strip_prefix('[')?.split_once("]:");
    lines.iter().filter_map(entry).map(|(key, value)| (key, value.trim())).collect()
}

/// Reads `count 3, average 20, total 60`.
fn stats(value: &str) -> (u64, u64, u64) {
    let numbers: Vec<u64> =
        value.split(", ").map(|part| part.split_once(' ').unwrap().1.parse().unwrap()).collect();
    (numbers[0], numbers[1], numbers[2])
}

#[test]
fn spanlat_draws_a_histogram_for_each_name() {
    if !need(&BPFTRACE) {
        return;
    }
    let lines = run("spanlat", &[], &["wait", "wait", "wait"]);
    let from = lines.iter().position(|line| line.trim_end() == "@us[sleeper]:").unwrap();
    let buckets: Vec<&String> = lines[from + 1..].iter().take_while(|line| line.starts_with('[')).collect();
    let count = |line: &&String| {
        line.split(')').nth(1).unwrap().split('|').next().unwrap().trim().parse::<u32>().unwrap()
    };
    assert_eq!(buckets.iter().map(count).sum::<u32>(), 3, "{lines:?}");
    assert!(buckets[0].starts_with("[16K, 32K)"), "it slept for 20 ms: {lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("@us[")).count(), 3);
    assert!(!lines.iter().any(|line| line.starts_with("@unknown")), "{lines:?}");
}

#[test]
fn spanlat_keeps_unknown_durations_apart() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let mut fixture = Fixture::start(&path, Linkage::Executable, None);
    fixture.run("hold 4");
    let tool = Bpftrace::attach_tool(&tool("spanlat"), &[path.to_str().unwrap()]);
    fixture.run("release");
    fixture.end();
    let lines = tool.end();
    assert_eq!(map(&lines, "@unknown")["held"], "4");
    assert!(!lines.iter().any(|line| line.starts_with("@us[")), "{lines:?}");
}

#[test]
fn spancount_counts_by_level_target_and_name() {
    if !need(&BPFTRACE) {
        return;
    }
    let lines = run("spancount", &[], &["tree", "threads 4 25"]);
    let expected = BTreeMap::from([
        ("DEBUG, fixture, child", "1"),
        ("INFO, fixture, before", "1"),
        ("INFO, fixture, inner", "100"),
        ("INFO, fixture, outer", "100"),
        ("INFO, fixture, parent", "1"),
    ]);
    assert_eq!(map(&lines, "@"), expected, "{lines:?}");
}

#[test]
fn spanslow_prints_slow_spans_with_the_ids_of_the_datagrams() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let collector = Collector::start();
    let tool = Bpftrace::attach_tool(&tool("spanslow"), &[path.to_str().unwrap(), "30"]);
    let mut fixture = Fixture::start(&path, Linkage::Executable, Some(collector.path()));
    fixture.run("threads 2 10");
    fixture.run("wait");
    let pid = fixture.pid().to_string();
    fixture.end();
    let lines = tool.end();
    let spans = collector.spans();
    let at = lines.iter().position(|line| line.starts_with("TIME ")).unwrap();
    let shown: Vec<Vec<&str>> =
        lines[at + 1..].iter().map(|line| line.split_whitespace().collect()).collect();
    // On a busy machine other spans may be slow, too, so each line is checked.
    for line in &shown {
        let span = spans.iter().find(|span| text(span, "id") == line[6]).unwrap();
        assert_eq!(
            (line[1], line[5], &*line[7..].join(" ")),
            (&*pid, text(span, "traceId"), text(span, "name"))
        );
        let ms = line[3].parse::<f64>().unwrap();
        let us = span["duration"].as_u64().unwrap() as f64;
        assert!(ms >= 30.0 && (ms * 1000.0 - us).abs() <= 1.0, "{line:?} {span:?}");
    }
    let slow = spans.iter().filter(|span| span["duration"].as_u64() >= Some(30_000)).count();
    assert_eq!(shown.len(), slow, "{lines:?}");
    assert!(slow >= 2, "`outer wait` and `inner wait`");
}

#[test]
fn spanpoll_counts_the_polls_of_tasks_that_change_threads() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = env!("CARGO_BIN_EXE_tokio_hop");
    let tool = Bpftrace::attach_tool(&tool("spanpoll"), &[path]);
    assert!(Command::new(path).args(["100", "10"]).status().unwrap().success());
    let lines = tool.end();
    // A future is entered once more when it is dropped.
    for name in ["inner", "outer"] {
        assert_eq!(stats(map(&lines, "@polls")[name]), (100, 11, 1100), "{lines:?}");
    }
    assert_eq!(lines.iter().filter(|line| line.starts_with("@poll_us[")).count(), 2);
}

#[test]
fn spanoffcpu_charges_the_innermost_span() {
    if !need(&BPFTRACE) || !need(&["unshare"]) {
        return;
    }
    let lines = run("spanoffcpu", &[], &["wait", "wait"]);
    let blocked = map(&lines, "@blocked_us");
    let (count, _, total) = stats(blocked["sleeper"]);
    assert!(count >= 2 && total >= 40_000, "2 sleeps of 20 ms: {lines:?}");
    let (count, _, total) = stats(blocked["inner wait"]);
    assert!(count >= 2 && total >= 80_000, "2 sleeps of 40 ms: {lines:?}");
    let (count, average, total) = stats(blocked["outer wait"]);
    assert!(count >= 4 && total >= 20_000, "4 sleeps of 5 ms: {lines:?}");
    assert!(average < 40_000, "the inner span's time is not the outer's: {lines:?}");
}

#[test]
fn spansyscall_counts_the_calls_of_the_innermost_span() {
    if !need(&BPFTRACE) || !need(&["unshare"]) {
        return;
    }
    const GETPPID: u32 = 110;
    let lines = run("spansyscall", &[], &["call 100", "call 100"]);
    let calls = map(&lines, "@");
    let of = |name: &str| calls.get(&*format!("{name}, {GETPPID}")).copied();
    assert_eq!((of("caller"), of("callee")), (Some("200"), Some("20")), "{lines:?}");
    assert!(calls.keys().all(|key| key.starts_with("caller, ") || key.starts_with("callee, ")), "{lines:?}");
}

/// A user starts a tool with nothing but a path. It prints how to end it, and ends on Ctrl-C.
#[test]
fn every_tool_starts_without_options() {
    if !need(&BPFTRACE) || !need(&["unshare"]) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    for name in ["spanlat", "spancount", "spanslow", "spanpoll", "spanoffcpu", "spansyscall"] {
        assert!(tool(name).with_file_name(format!("{name}_example.txt")).is_file(), "{name} has no example");
        let mut tool = Bpftrace::run_tool(&tool(name), &[path.to_str().unwrap()]);
        tool.wait_for("Hit Ctrl-C to end.");
        tool.end();
    }
}
