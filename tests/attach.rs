//! Consumers that come at any time, in every way, to every layout of a binary.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::{BPFTRACE, Bpftrace, Build, Collector, Fixture, Linkage, need, text};

/// Name and duration of every close.
fn closes(path: &Path) -> String {
    Bpftrace::probe(path, "close", r#"printf("close %016llx %s %llu %llu\n", arg0, str(arg1), arg2, arg3);"#)
}

/// The program starts under a consumer that is attached already, and must be seen whole.
#[track_caller]
fn assert_seen_from_the_start(path: &Path, linkage: Linkage) {
    let bpftrace = Bpftrace::attach(&closes(path), None);
    let mut fixture = Fixture::start(path, linkage, None);
    fixture.run("threads 2 20");
    fixture.end();
    let lines = bpftrace.end();
    assert_eq!(lines.len(), 80, "of 80 spans of {path:?}");
    assert!(lines.iter().all(|line| !line.ends_with(" 0 0")), "a duration is unknown: {lines:?}");
}

#[test]
fn by_path_before_the_process_starts_with_every_linker() {
    if !need(&BPFTRACE) {
        return;
    }
    for build in Build::EVERYWHERE {
        assert_seen_from_the_start(&build.path(Linkage::Executable, 0), Linkage::Executable);
    }
    if need(&["python3"]) {
        for build in [Build::Debug, Build::Release] {
            assert_seen_from_the_start(&build.path(Linkage::Cdylib, 0), Linkage::Cdylib);
        }
    }
}

#[test]
fn by_path_before_a_static_process_starts() {
    if !need(&BPFTRACE) {
        return;
    }
    assert_seen_from_the_start(&Build::StaticGlibc.path(Linkage::Executable, 0), Linkage::Executable);
    if need(&["target:x86_64-unknown-linux-musl"]) {
        assert_seen_from_the_start(&Build::Musl.path(Linkage::Executable, 0), Linkage::Executable);
    }
}

/// Semaphores that share a page with the end of the read-only-after-relocation data stay 0. Whether
/// they do depends on where that data ends, so its end is moved through a whole page.
#[test]
fn by_path_before_the_process_starts_in_every_layout() {
    if !need(&BPFTRACE) {
        return;
    }
    for build in [Build::Debug, Build::Release] {
        for pad in (0..256).step_by(32) {
            assert_seen_from_the_start(&build.path(Linkage::Executable, pad), Linkage::Executable);
        }
    }
}

#[test]
fn to_a_running_process_by_path_and_by_pid() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let mut fixture = Fixture::start(&path, Linkage::Executable, None);
    let mut other = Fixture::start(&path, Linkage::Executable, None);
    for pid in [None, Some(fixture.pid())] {
        let bpftrace = Bpftrace::attach(&closes(&path), pid);
        fixture.run("threads 1 10");
        other.run("threads 1 10");
        let seen = bpftrace.end().len();
        // The semaphore tells one process from another, so by pid only the one is seen.
        assert_eq!(seen, if pid.is_some() { 20 } else { 40 }, "attached to {pid:?}");
    }
    fixture.end();
    other.end();
}

#[test]
fn spans_alive_before_the_attach_show_what_is_left_of_them() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let step = r#"printf("%s %016llx %s\n", probe, arg0, str(arg1));"#;
    let script: String = ["enter", "exit"].map(|probe| Bpftrace::probe(&path, probe, step)).concat()
        + &closes(&path)
        + &Bpftrace::probe(&path, "span_emit", r#"printf("span_emit\n");"#);
    let mut fixture = Fixture::start(&path, Linkage::Executable, None);
    fixture.run("hold 3");
    fixture.run("step");
    let bpftrace = Bpftrace::attach(&script, None);
    fixture.run("step");
    fixture.run("release");
    fixture.end();

    let mut spans: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in bpftrace.end() {
        assert!(!line.contains("span_emit"), "half a span");
        let words: Vec<&str> = line.split(' ').collect();
        let probe = words[0].rsplit(':').next().unwrap();
        spans.entry(words[1].to_owned()).or_default().push(format!("{probe} {}", words[2..].join(" ")));
    }
    assert_eq!(spans.len(), 3, "{spans:?}");
    for (id, life) in &spans {
        assert_ne!(id, "0000000000000000");
        assert_eq!(life, &["enter held", "exit held", "close held 0 0"], "its duration is unknown");
    }
}

#[test]
fn consumers_come_and_go_several_at_once() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let collector = Collector::start();
    let mut fixture = Fixture::start(&path, Linkage::Executable, Some(collector.path()));
    fixture.run("hold 1");
    let first = Bpftrace::attach(&closes(&path), None);
    fixture.run("threads 1 5");
    let second = Bpftrace::attach(&closes(&path), Some(fixture.pid()));
    fixture.run("threads 1 5");
    let mut seen_first = first.end();
    fixture.run("threads 1 5");
    fixture.run("release");
    let seen_second = second.end();
    fixture.run("threads 1 5");
    fixture.end();

    assert_eq!(seen_first.len(), 20);
    assert_eq!(seen_second.len(), 21);
    seen_first.extend(seen_second);
    let spans = collector.spans();
    assert_eq!(spans.len(), 41, "the socket has all of them");
    for line in &seen_first {
        let id = line.split(' ').nth(1).unwrap();
        let span = spans.iter().find(|span| text(span, "id") == id);
        let span = span.unwrap_or_else(|| panic!("{line} is of no span that was sent"));
        assert!(line.contains(&format!(" {} ", text(span, "name"))), "{line} {span:?}");
        assert!(!line.ends_with(" 0 0"), "with a socket every duration is known: {line}");
    }
}

/// Attached and detached again and again while eight threads are at work.
#[test]
fn attaching_under_load_harms_nothing() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let mut fixture = Fixture::start(&path, Linkage::Executable, None);
    let pid = fixture.pid();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fixture.run("threads 8 1000");
            }
            fixture.end();
        });
        let _stop = StopAtEnd(&stop);
        // The two probes are attached one after the other: only from the first enter on must
        // every exit have one.
        let enter = "@on = 1; @entered[tid, arg0] = 1;";
        let exit = "@exits = count(); \
                    if (@on == 1 && @entered[tid, arg0] != 1) { @unmatched = count(); } \
                    delete(@entered[tid, arg0]);";
        let script = Bpftrace::probe(&path, "enter", enter) + &Bpftrace::probe(&path, "exit", exit);
        for _ in 0..3 {
            let bpftrace = Bpftrace::attach(&script, Some(pid));
            std::thread::sleep(Duration::from_millis(50));
            let lines = bpftrace.end();
            let count = |name: &str| {
                // A count that never began is not printed.
                lines.iter().find_map(|line| line.strip_prefix(name)).map_or(0, |n| n.parse::<u32>().unwrap())
            };
            assert_ne!(count("@exits: "), 0, "the load was seen: {lines:?}");
            // Each thread may have been inside of two spans at the attach, or none of them if it
            // fell between two rounds of the load.
            let unmatched = count("@unmatched: ");
            assert!(unmatched <= 16, "{unmatched} exits without an enter");
        }
    });
}

/// Ends the load, also when an assertion fails: the scope waits for it.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
