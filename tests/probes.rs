//! Compares all probes but `batch_emit`, as bpftrace reads them, with the datagrams of the same run.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::Path;

use e2e::{BPFTRACE, Bpftrace, Build, Collector, Fixture, Linkage, Span, need, text};
use serde_json::{Value, json};

/// Each probe with the format and the values that bpftrace prints.
const PRINTED: [(&str, &str, &str); 9] = [
    ("new_span", "%016llx %s %s %d %016llx", "arg0, str(arg1), str(arg2), arg3, arg4"),
    ("new_span", "fields %016llx %s", "arg0, str(arg5)"),
    ("enter", "%016llx %s %016llx%016llx", "arg0, str(arg1), arg2, arg3"),
    ("exit", "%016llx %s %016llx%016llx", "arg0, str(arg1), arg2, arg3"),
    ("close", "%016llx %s %llu %llu %016llx%016llx", "arg0, str(arg1), arg2, arg3, arg4, arg5"),
    ("record", "%016llx %s %s", "arg0, str(arg1), str(arg2)"),
    ("follows_from", "%016llx %s %016llx", "arg0, str(arg1), arg2"),
    ("event", "%016llx %s %s %d", "arg0, str(arg1), str(arg2), arg3"),
    ("event", "fields %016llx %s", "arg0, str(arg4)"),
];

/// In pieces: bpftrace ends strings after 63 bytes, and three of them fill its stack.
const EMIT: (&str, &str, &str) =
    ("span_emit", "%016llx %d %s%s%s", "arg0, arg2, str(arg1), str(arg1 + 63), str(arg1 + 126)");

/// Prints a line for each hit: the probe and its arguments, separated by tabs because names contain blanks.
fn script(path: &Path) -> String {
    let print = |(probe, format, values): (&str, &str, &str)| {
        let format = format!("{probe} {format}").replace(' ', "\\t");
        Bpftrace::probe(path, probe, &format!("printf(\"{format}\\n\", {values});"))
    };
    PRINTED.into_iter().chain([EMIT]).map(print).collect()
}

/// The hits of one run, in the order in which they were printed.
struct Hits(Vec<Vec<String>>);

impl Hits {
    /// The arguments of every hit of `probe` for the span `id`.
    fn of(&self, probe: &str, id: &str) -> Vec<Vec<&str>> {
        let hits = self.0.iter().filter(|hit| hit[0] == probe && hit[1] == id);
        hits.map(|hit| hit[2..].iter().map(String::as_str).collect()).collect()
    }

    /// The fields in the only hit of `probe` for `id`.
    #[track_caller]
    fn fields(&self, probe: &str, id: &str) -> Value {
        let mut hits = self.0.iter().filter(|hit| hit[0] == probe && hit[1] == "fields" && hit[2] == id);
        let hit = hits.next().unwrap();
        assert!(hits.next().is_none(), "several {probe} of {id}");
        serde_json::from_str(&hit[3]).unwrap()
    }

    /// The arguments of the only hit of `probe` for `id`.
    #[track_caller]
    fn one(&self, probe: &str, id: &str) -> Vec<&str> {
        let mut hits = self.of(probe, id);
        assert_eq!(hits.len(), 1, "{probe} of {id}: {hits:?}");
        hits.remove(0)
    }
}

/// Runs `commands` under a bpftrace that was attached before the program began.
fn run(build: Build, linkage: Linkage, commands: &[&str]) -> (Hits, Vec<Span>, Vec<String>) {
    let path = build.path(linkage, 0);
    let collector = Collector::start();
    let bpftrace = Bpftrace::attach(&script(&path), None);
    let mut fixture = Fixture::start(&path, linkage, Some(collector.path()));
    for command in commands {
        assert_eq!(fixture.run(command), "");
    }
    fixture.end();
    let lines = bpftrace.end();
    let split = |line: &String| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    let datagrams = collector.datagrams();
    let spans = datagrams.iter().flat_map(|d| serde_json::from_str::<Vec<Span>>(d).unwrap()).collect();
    (Hits(lines.iter().map(split).collect()), spans, datagrams)
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut named = spans.iter().filter(|span| text(span, "name") == name);
    let span = named.next().unwrap_or_else(|| panic!("no span {name:?} in {spans:?}"));
    assert!(named.next().is_none(), "several spans {name:?}");
    span
}

/// Checks that probes and datagrams have the same ids, names and times for every span.
fn assert_agree(hits: &Hits, spans: &[Span], datagrams: &[String]) {
    for (span, datagram) in spans.iter().zip(datagrams) {
        let (id, name, trace) = (text(span, "id"), text(span, "name"), text(span, "traceId"));
        let root = "0".repeat(16);
        let parent = span.get("parentId").map_or(&*root, |id| id.as_str().unwrap());
        let level = if name == "child" { "4" } else { "3" };
        assert_eq!(hits.one("new_span", id), [name, "fixture", level, parent]);

        let close = hits.one("close", id);
        assert_eq!((close[0], close[3]), (name, trace));
        let duration_ns: u64 = close[1].parse().unwrap();
        let duration_us = span["duration"].as_u64().unwrap();
        assert!(duration_us.abs_diff(duration_ns / 1000) <= 1, "{duration_us} us, {duration_ns} ns");
        assert_eq!(span["tags"]["busy_ns"].as_str(), Some(close[2]));

        let (enters, exits) = (hits.of("enter", id), hits.of("exit", id));
        assert_eq!(enters.len(), exits.len());
        for step in enters.iter().chain(&exits) {
            assert_eq!(*step, [name, trace]);
        }

        // The probe's text lacks the position in the sender's sequence.
        let (before, position) = datagram.split_once(",\"tracingUsdt\":").unwrap();
        let datagram = format!("{before}{}", position.split_once('}').unwrap().1);
        let emit = hits.one("span_emit", id);
        assert_eq!(emit[0].parse::<usize>().unwrap(), datagram.len());
        assert!(emit[1].len() == 189 && datagram.starts_with(emit[1]), "{emit:?} {datagram}");
    }
}

fn assert_all(build: Build, linkage: Linkage) {
    let (hits, spans, datagrams) = run(build, linkage, &["tree", "reentrant", "outlive"]);
    assert_eq!(spans.len(), 6, "{spans:?}");
    assert_agree(&hits, &spans, &datagrams);
    let id = |name: &str| text(named(&spans, name), "id");

    let fields = json!({"number": 42, "text": "quote\" and é", "float": 1.5});
    assert_eq!(hits.fields("new_span", id("parent")), fields);
    assert_eq!(hits.fields("new_span", id("before")), json!({}));
    let records = [["parent", r#"{"late":"first"}"#], ["parent", r#"{"late":"second"}"#]];
    assert_eq!(hits.of("record", id("parent")), records);
    assert_eq!(named(&spans, "parent")["tags"]["late"], "second");
    assert_eq!(hits.one("follows_from", id("child")), ["child", id("before")]);
    assert_eq!(hits.one("event", id("parent")), ["something happened", "fixture", "2"]);
    assert_eq!(hits.fields("event", id("parent")), json!({"code": 7}));
    assert_eq!(hits.one("event", &"0".repeat(16)), ["outside of any span", "fixture", "3"]);

    // Entered again while entered: both enters fire, and the time counts once.
    let reentrant = named(&spans, "reentrant");
    assert_eq!(hits.of("enter", id("reentrant")).len(), 2);
    let close = hits.one("close", id("reentrant"));
    let (duration, busy): (u64, u64) = (close[1].parse().unwrap(), close[2].parse().unwrap());
    assert!(busy <= duration, "busy {busy} of {duration}: {reentrant:?}");

    // The child outlives its parent's work by 20 ms.
    let (short, long) = (named(&spans, "short parent"), named(&spans, "long child"));
    assert_eq!(short["id"], long["parentId"]);
    assert!(long["duration"].as_u64().unwrap() >= 20_000);
    assert!(short["duration"].as_u64() < long["duration"].as_u64());
    let order: Vec<&String> = hits.0.iter().filter(|hit| hit[0] == "close").map(|hit| &hit[1]).collect();
    let at = |name: &str| order.iter().position(|closed| *closed == id(name)).unwrap();
    assert!(at("long child") < at("short parent"), "the child keeps its parent open");
}

#[test]
fn all_probes_of_spans_fire_in_an_unoptimised_executable() {
    if need(&BPFTRACE) {
        assert_all(Build::Debug, Linkage::Executable);
    }
}

#[test]
fn all_probes_of_spans_fire_in_an_optimised_executable() {
    if need(&BPFTRACE) {
        assert_all(Build::Release, Linkage::Executable);
    }
}

#[test]
#[ignore = "deep: builds with fat LTO"]
fn all_probes_of_spans_fire_in_the_smallest_executable() {
    if need(&BPFTRACE) {
        assert_all(Build::Smallest, Linkage::Executable);
    }
}

#[test]
fn all_probes_of_spans_fire_in_c_libraries() {
    if need(&BPFTRACE) && need(&["python3"]) {
        assert_all(Build::Debug, Linkage::Cdylib);
        assert_all(Build::Release, Linkage::Cdylib);
    }
}

#[test]
fn spans_of_eight_threads_have_different_ids() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let collector = Collector::start();
    let action = r#"printf("%016llx %016llx%016llx %llu\n", arg0, arg4, arg5, arg2);"#;
    let bpftrace = Bpftrace::attach(&Bpftrace::probe(&path, "close", action), None);
    let mut fixture = Fixture::start(&path, Linkage::Executable, Some(collector.path()));
    fixture.run("threads 8 250");
    fixture.end();
    let mut closed = bpftrace.end();
    closed.sort();
    let mut sent: Vec<String> = collector
        .spans()
        .iter()
        .map(|span| format!("{} {} ", text(span, "id"), text(span, "traceId")))
        .collect();
    sent.sort();
    assert_eq!(sent.len(), 4000);
    sent.dedup();
    assert_eq!(sent.len(), 4000, "an id came twice");
    assert_eq!(closed.len(), 4000);
    for (closed, sent) in closed.iter().zip(&sent) {
        assert!(closed.starts_with(sent), "{closed} {sent}");
    }
}

#[test]
fn a_record_of_the_log_crate_has_its_own_target_in_the_probe() {
    if !need(&["bpftrace"]) {
        return;
    }
    let (hits, spans, _) = run(Build::Release, Linkage::Executable, &["log"]);
    let id = text(named(&spans, "logging"), "id");
    assert_eq!(hits.one("event", id), ["a query took 900 ms", "db::pool", "2"]);
    // bpftrace shows only the beginning: the record's own fields come first, and none of the bridge's.
    let fields = hits.0.iter().find(|hit| hit[0] == "event" && hit[1] == "fields" && hit[2] == id).unwrap();
    assert!(fields[3].starts_with(r#"{"code.module.name":"fixture","code.file.path":""#), "{fields:?}");
}

#[test]
fn probes_fire_for_traces_that_are_not_sampled() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let collector = Collector::start();
    let bpftrace = Bpftrace::attach(&Bpftrace::probe(&path, "close", r#"printf("%d\n", arg2);"#), None);
    let mut command = std::process::Command::new(&path);
    let mut fixture =
        Fixture::spawn(command.env("OTEL_TRACES_SAMPLER", "always_off"), Some(collector.path()));
    fixture.run("threads 2 10");
    assert_eq!(fixture.run("stats"), "40 0 40");
    fixture.end();
    let durations = bpftrace.end();
    assert_eq!(durations.len(), 40);
    assert!(durations.iter().all(|ns| ns.parse::<u64>().unwrap() > 0), "their durations are known");
    assert_eq!(collector.spans().len(), 0);
}
