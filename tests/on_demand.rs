//! With an on-demand filter, callsites are disabled while nobody listens and enabled once someone does.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::process::Command;

use e2e::{BPFTRACE, Bpftrace, Build, Collector, Fixture, Linkage, need, text, wait_until};

fn fixture(stack: &str) -> Command {
    let mut command = Command::new(Build::Release.path(Linkage::Executable, 0));
    command.env("FIXTURE_STACK", stack);
    command
}

/// The fixture's command `enabled` answers whether a debug span is enabled. `fmt` does not want it.
fn assert_follows_attaches(stack: &str) {
    let mut command = fixture(stack);
    let path = command.get_program().to_owned();
    let mut fixture = Fixture::spawn(&mut command, None);
    let close = Bpftrace::probe(path.as_ref(), "close", r#"printf("close %s %llu\n", str(arg1), arg2);"#);
    assert_eq!(fixture.run("enabled"), "false", "{stack}");
    // Several rounds: the interest cache is rebuilt at each attach and detach.
    for round in 0..3 {
        let bpftrace = Bpftrace::attach(&close, None);
        wait_until("the attach is noticed", || fixture.run("enabled") == "true");
        fixture.run("tree");
        let lines = bpftrace.end();
        let seen = |name: &str| lines.iter().any(|line| line.starts_with(&format!("close {name} ")));
        assert!(seen("parent") && seen("child"), "{stack}, round {round}: {lines:?}");
        assert!(lines.iter().all(|line| !line.ends_with(" 0")), "a duration is unknown: {lines:?}");
        wait_until("the detach is noticed", || fixture.run("enabled") == "false");
    }
    fixture.end();
}

#[test]
fn a_global_filter_enables_callsites_while_a_consumer_is_attached() {
    if need(&BPFTRACE) {
        assert_follows_attaches("gate");
    }
}

#[test]
fn a_per_layer_filter_enables_callsites_while_a_consumer_is_attached() {
    if need(&BPFTRACE) {
        assert_follows_attaches("filter");
    }
}

#[test]
fn a_consumer_attached_before_the_start_sees_all_spans() {
    if !need(&BPFTRACE) {
        return;
    }
    for stack in ["gate", "filter"] {
        let mut command = fixture(stack);
        let path = command.get_program().to_owned();
        let close = Bpftrace::probe(path.as_ref(), "close", r#"printf("close %s %llu\n", str(arg1), arg2);"#);
        let bpftrace = Bpftrace::attach(&close, None);
        let mut fixture = Fixture::spawn(&mut command, None);
        fixture.run("threads 2 20");
        fixture.end();
        assert_eq!(bpftrace.end().len(), 80, "{stack}");
    }
}

#[test]
fn a_socket_keeps_callsites_enabled() {
    for stack in ["gate", "filter"] {
        let collector = Collector::start();
        let mut fixture = Fixture::spawn(&mut fixture(stack), Some(collector.path()));
        assert_eq!(fixture.run("enabled"), "true", "{stack}");
        fixture.run("tree");
        fixture.end();
        let spans = collector.spans();
        let names: Vec<_> = spans.iter().map(|span| text(span, "name")).collect();
        assert_eq!(names, ["child", "before", "parent"], "{stack}");
    }
}
