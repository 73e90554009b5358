//! Spans of tokio tasks, which are entered and exited on whatever thread polls them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use e2e::{BPFTRACE, Bpftrace, Collector, need, text};

const TASKS: usize = 200;
const POLLS: usize = 20;

#[test]
fn spans_of_tasks_that_change_threads_are_complete() {
    if !need(&BPFTRACE) {
        return;
    }
    let path = Path::new(env!("CARGO_BIN_EXE_tokio_hop"));
    let collector = Collector::start();
    let step = r#"printf("%llu %s %d %016llx\n", nsecs, probe, tid, arg0);"#;
    let script = ["enter", "exit"].map(|probe| Bpftrace::probe(path, probe, step)).concat();
    let bpftrace = Bpftrace::attach(&script, None);
    let status = Command::new(path)
        .args([TASKS.to_string(), POLLS.to_string()])
        .env("TRACING_USDT_SOCKET", collector.path())
        .env("TRACING_USDT_MAX_WAIT_MS", "10000")
        .status()
        .unwrap();
    assert!(status.success());
    // bpftrace prints one processor's buffer after the other, so lines are not in the order of the hits.
    let mut steps: Vec<(u64, bool, String, String)> = bpftrace
        .end()
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let enters = words[1].ends_with(":enter");
            (words[0].parse().unwrap(), enters, words[2].to_owned(), words[3].to_owned())
        })
        .collect();
    steps.sort();

    let spans = collector.spans();
    assert_eq!(spans.len(), 2 * TASKS);
    let by_id: BTreeMap<&str, _> = spans.iter().map(|span| (text(span, "id"), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "an id came twice");
    let traces: BTreeSet<&str> = spans.iter().map(|span| text(span, "traceId")).collect();
    assert_eq!(traces.len(), TASKS, "each task is a trace of its own");
    for span in spans.iter().filter(|span| text(span, "name") == "inner") {
        let parent = by_id[text(span, "parentId")];
        assert_eq!(parent["tags"]["task"], span["tags"]["task"], "a parent of another task");
        assert_eq!(parent["traceId"], span["traceId"]);
    }

    // Each span is exited on the thread where it was entered, innermost first.
    let mut stacks: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut polls: BTreeMap<&str, usize> = BTreeMap::new();
    let mut threads: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (_, enters, tid, id) in &steps {
        let stack = stacks.entry(tid).or_default();
        if *enters {
            stack.push(id);
            *polls.entry(id).or_default() += 1;
            threads.entry(id).or_default().insert(tid);
        } else {
            assert_eq!(stack.pop(), Some(&**id), "exited out of order");
        }
    }
    assert!(stacks.values().all(Vec::is_empty), "entered and never exited");
    for (id, span) in &by_id {
        // An instrumented future enters its span at each poll, and once more when it is dropped.
        assert_eq!(polls.get(id), Some(&(POLLS + 1)), "{span:?}");
    }
    assert!(threads.values().any(|threads| threads.len() > 1), "no task ever changed its thread");
}
