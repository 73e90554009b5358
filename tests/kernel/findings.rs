//! Findings in what `spantap record --pid` has of a program with a planted fault: with their cause.

use std::process::{Command, Stdio};

use e2e::{Spantap, program};
use serde_json::Value;

use crate::worker::Worker;
use crate::{repeat_if_unreported, with_kernel};

/// Attaches to the program with a fault, and returns what is found.
fn planted(mode: &str, requests: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("planted.spans");
    let mut planted = Command::new(env!("CARGO_BIN_EXE_planted"));
    // Not in memory, as /tmp may be.
    planted.args([mode, requests]).env("PLANTED_FOLDER", env!("CARGO_TARGET_TMPDIR"));
    let mut planted = Worker::spawn(&mut planted);
    let mut record = Command::new(program("spantap"));
    let spantap = Spantap::attach_by(record.arg("record").arg(&capture).args(["--pid", &planted.pid()]));
    planted.begin("go");
    planted.end();
    let ended = spantap.wait();
    assert!(ended.status.success(), "{ended:?}");
    let mut view = Command::new(program("spantap"));
    view.arg("view").arg(&capture).args(["--findings", "--json"]).stdin(Stdio::null());
    let output = view.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The kind, the name and a detail of each finding.
fn named<'a>(found: &'a [Value], detail: &str) -> Vec<[&'a str; 3]> {
    let texts = |of: &'a Value| {
        [&of["kind"], &of["name"], &of["details"][detail]].map(|of| of.as_str().unwrap_or_default())
    };
    found.iter().map(texts).collect()
}

/// Repeated if the kernel did not report what the threads did.
fn finds(mode: &str, requests: &str, detail: &str, expected: &[[&str; 3]]) {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let found = planted(mode, requests);
            assert_eq!(named(&found, detail), expected, "{found:#?}");
        });
    });
}

#[test]
fn nothing_is_found_in_a_healthy_program_with_its_kernel_activity() {
    finds("healthy", "200", "cause", &[]);
}

#[test]
fn a_worker_that_computes_is_held_by_what_computes() {
    finds("held-worker", "60", "cause", &[["held_thread", "render", "cpu"]]);
}

#[test]
fn a_worker_that_waits_for_the_disk_is_held_by_what_writes() {
    finds("disk-stall", "60", "cause", &[["held_thread", "write_audit", "disk"]]);
}

#[test]
fn a_lock_that_all_take_is_a_convoy_and_no_held_thread() {
    finds("lock-convoy", "150", "blocked_by", &[["blocked", "add_to_totals", "add_to_totals"]]);
}
