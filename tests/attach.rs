//! Consumers attach at any time, by path and by pid, to binaries of every layout.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::{BPFTRACE, Bpftrace, Build, Collector, Fixture, Linkage, need, text};

/// A bpftrace script that prints id, name, duration and busy time of every `close`.
fn closes(path: &Path) -> String {
    Bpftrace::probe(path, "close", r#"printf("close %016llx %s %llu %llu\n", arg0, str(arg1), arg2, arg3);"#)
}

/// Attaches bpftrace, starts the program, and checks that bpftrace sees all of its spans.
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
fn attaches_by_path_before_the_process_starts() {
    if need(&BPFTRACE) {
        for build in [Build::Debug, Build::Release] {
            assert_seen_from_the_start(&build.path(Linkage::Executable, 0), Linkage::Executable);
        }
    }
}

#[test]
#[ignore = "deep: builds seven times"]
fn attaches_by_path_before_the_process_starts_with_every_linker() {
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
#[ignore = "deep: builds twice"]
fn attaches_by_path_before_a_static_process_starts() {
    if !need(&BPFTRACE) {
        return;
    }
    assert_seen_from_the_start(&Build::StaticGlibc.path(Linkage::Executable, 0), Linkage::Executable);
    if need(&["target:x86_64-unknown-linux-musl"]) {
        assert_seen_from_the_start(&Build::Musl.path(Linkage::Executable, 0), Linkage::Executable);
    }
}

/// A semaphore stays 0 if it shares a page with the end of the RELRO segment. Padding moves that end through a
/// whole page.
#[test]
#[ignore = "deep: builds and attaches 8 times"]
fn attaches_by_path_before_the_process_starts_in_every_layout() {
    if !need(&BPFTRACE) {
        return;
    }
    for pad in (0..256).step_by(32) {
        assert_seen_from_the_start(&Build::Release.path(Linkage::Executable, pad), Linkage::Executable);
    }
}

#[test]
fn attaches_to_a_running_process_by_path_and_by_pid() {
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
        // By pid, the kernel sets the semaphore of that process only.
        assert_eq!(seen, if pid.is_some() { 20 } else { 40 }, "attached to {pid:?}");
    }
    fixture.end();
    other.end();
}

#[test]
fn spans_open_at_the_attach_show_their_remaining_probes() {
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
        assert!(!line.contains("span_emit"), "a span without fields was emitted");
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
fn several_consumers_attach_and_detach() {
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
        let span = span.unwrap_or_else(|| panic!("{line}: no such span was sent"));
        assert!(line.contains(&format!(" {} ", text(span, "name"))), "{line} {span:?}");
        assert!(!line.ends_with(" 0 0"), "with a socket every duration is known: {line}");
    }
}

/// bpftrace attaches and detaches three times while eight threads make spans.
#[test]
fn attaching_under_load_keeps_enters_and_exits_paired() {
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
        // bpftrace attaches the two probes one after the other, so exits are checked from the first enter on.
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
                // bpftrace does not print a counter that was never set.
                lines.iter().find_map(|line| line.strip_prefix(name)).map_or(0, |n| n.parse::<u32>().unwrap())
            };
            assert_ne!(count("@exits: "), 0, "bpftrace saw no load: {lines:?}");
            // Each of the eight threads may have been inside two spans at the attach.
            let unmatched = count("@unmatched: ");
            assert!(unmatched <= 16, "{unmatched} exits without an enter");
        }
    });
}

/// Ends the load when dropped. The scope waits for the load, also when an assertion fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
