//! Every build, and another processor, sends the same datagrams.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::process::Command;

use e2e::{Build, Collector, Fixture, Linkage, Span, need, text};

fn spans_of(command: &mut Command) -> Vec<Span> {
    let collector = Collector::start();
    let mut fixture = Fixture::spawn(command, Some(collector.path()));
    fixture.run("tree");
    fixture.run("threads 2 10");
    assert_eq!(fixture.run("stats"), "43 43 0");
    fixture.end();
    collector.spans()
}

fn assert_right(spans: &[Span]) {
    assert_eq!(spans.len(), 43);
    let named = |name: &str| spans.iter().find(|span| text(span, "name") == name).unwrap();
    let (parent, child) = (named("parent"), named("child"));
    assert_eq!(text(child, "parentId"), text(parent, "id"));
    assert_eq!(text(child, "traceId"), text(parent, "traceId"));
    assert!(child["duration"].as_u64().unwrap() >= 2000, "it slept for 2 ms: {child:?}");
    let tags = parent["tags"].as_object().unwrap();
    for (key, value) in [("number", "42"), ("text", "quote\" and é"), ("late", "second"), ("float", "1.5")] {
        assert_eq!(tags[key], value);
    }
    assert!(tags["thread.id"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
    let age_us = now - parent["timestamp"].as_u64().unwrap();
    assert!(age_us < 600_000_000, "{age_us} us old");
    for outer in spans.iter().filter(|span| text(span, "name") == "outer") {
        let inners = spans.iter().filter(|span| span.get("parentId") == outer.get("id"));
        assert_eq!(inners.count(), 1);
    }
}

#[test]
#[ignore = "deep: builds five times"]
fn every_build_sends_the_same_datagrams() {
    for build in Build::EVERYWHERE {
        assert_right(&spans_of(&mut Command::new(build.path(Linkage::Executable, 0))));
    }
}

#[test]
#[ignore = "deep: builds twice"]
fn static_executables_send_the_same_datagrams() {
    assert_right(&spans_of(&mut Command::new(Build::StaticGlibc.path(Linkage::Executable, 0))));
    if need(&["target:x86_64-unknown-linux-musl"]) {
        assert_right(&spans_of(&mut Command::new(Build::Musl.path(Linkage::Executable, 0))));
    }
}

#[test]
#[ignore = "deep: builds for another processor"]
fn aarch64_sends_the_same_datagrams() {
    let needs = ["aarch64-linux-gnu-gcc", "qemu-aarch64-static", "target:aarch64-unknown-linux-gnu"];
    if need(&needs) {
        let path = Build::Aarch64.path(Linkage::Executable, 0);
        let mut qemu = Command::new("qemu-aarch64-static");
        assert_right(&spans_of(qemu.args(["-L", "/usr/aarch64-linux-gnu"]).arg(path)));
    }
}
