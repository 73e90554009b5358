//! Spans that began before spantap attached: they are counted like others, and have the right parents.

use std::process::Command;

use e2e::{Spantap, wait_until};

use crate::found::{Found, Spans};
use crate::with_kernel;
use crate::worker::{Attached, Output, Worker};

/// The number before `words` in the stats at the end; 0 if they do not contain `words`.
fn stat(stderr: &str, words: &str) -> u64 {
    let line = stderr.lines().find(|line| line.contains(words)).unwrap_or_default();
    let before = line.split(words).next().unwrap_or_default();
    let number: String = before.split_whitespace().next_back().unwrap_or_default().replace(',', "");
    if number.is_empty() { 0 } else { number.parse().unwrap_or_else(|_| panic!("{number:?} in {line:?}")) }
}

/// Spans received from the program plus spans of the kernel are the spans forwarded.
#[track_caller]
fn assert_stats_add_up(stderr: &str, spans: &Spans) {
    let (kernels, own): (Vec<_>, Vec<_>) = spans.0.iter().partition(|span| span.is_kernels);
    let received = stat(stderr, " spans from 1 sender");
    let of_kernel = stat(stderr, " spans of kernel activity");
    let forwarded = stat(stderr, " spans forwarded");
    assert_eq!((received, of_kernel), (own.len() as u64, kernels.len() as u64), "{stderr}");
    assert_eq!(received + of_kernel, forwarded, "{stderr}");
}

/// spantap attaches to a busy program with long open spans. Some of them end while it is attached, and it
/// detaches while the program continues.
#[test]
fn stats_add_up_for_a_busy_program_with_spans_open_before_the_attach() {
    with_kernel(&[], || {
        let mut worker = Worker::start();
        worker.run("open 30");
        worker.run("busy");
        let output = Output::new();
        let args = ["--pid", &worker.pid(), "--to", &output.to(), "--flush-timeout", "60s", "--min", "20us"];
        let spantap = Spantap::attach(&args);
        worker.run("below 20");
        worker.run("close 10");
        worker.run("below 20");
        worker.run("close 10");
        wait_until("some of the busy spans are forwarded", || output.spans().own("busy").count() > 1_000);
        let ended = spantap.terminate();
        assert!(ended.status.success(), "{ended:?}");
        worker.run("close 10");
        worker.end();

        let spans = output.spans();
        assert_eq!(spans.own("outer of long").count(), 20, "{}", ended.stderr);
        assert_eq!(spans.own("inner of long").count(), 20);
        assert_stats_add_up(&ended.stderr, &spans);
    });
}

/// All spans of the program began before the attach, and do not carry its name. spantap has to find the name
/// itself.
#[test]
fn stats_add_up_if_no_other_span_ends() {
    with_kernel(&[], || {
        for kernel in ["sched,block,net,exec", "none"] {
            let mut worker = Worker::start();
            worker.run("open 3");
            worker.run("enter");
            let mut attached = Attached::to(worker, &["--kernel", kernel, "--min", "0s"]);
            attached.run("close 3");
            attached.run("leave");
            let (spans, ended) = attached.end();
            assert_eq!(spans.0.iter().filter(|span| !span.is_kernels).count(), 7, "{:#?}", spans.0);
            assert!(spans.0.iter().all(|span| span.service == "kernel_work"), "{:#?}", spans.0);
            assert_stats_add_up(&ended.stderr, &spans);
        }
    });
}

#[test]
fn a_child_that_began_before_the_attach_is_below_its_parent() {
    with_kernel(&[], || {
        let mut worker = Worker::start();
        worker.run("open 2");
        let mut attached = Attached::to(worker, &["--kernel", "none"]);
        attached.run("below 3");
        attached.run("close 2");
        let (spans, _) = attached.end();
        let (outer, inner): (Vec<&Found>, Vec<&Found>) =
            (spans.own("outer of long").collect(), spans.own("inner of long").collect());
        assert_eq!((outer.len(), inner.len()), (2, 2), "{:#?}", spans.0);
        for inner in inner {
            let above = outer.iter().find(|outer| outer.id == inner.parent).expect("its parent is forwarded");
            assert!(above.trace == inner.trace && above.parent.is_empty(), "{above:#?} {inner:#?}");
            assert_eq!(inner.text("kernel.partial"), "it began before spantap attached");
            let below = spans.own("short").filter(|short| short.parent == inner.id);
            assert_eq!(below.count(), 3, "{:#?}", spans.0);
        }
    });
}

/// The parent is a span of another process, or is still open.
#[test]
fn a_partial_span_keeps_a_parent_that_was_not_collected() {
    with_kernel(&[], || {
        let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kernel_work"));
        let mut worker = Worker::spawn(command.env("TRACEPARENT", format!("00-{trace}-{parent}-01")));
        worker.run("enter");
        // The process's first span, and spans inside it.
        worker.run("open 1");
        let mut attached = Attached::to(worker, &["--kernel", "none"]);
        attached.run("close 1");
        attached.run("leave");
        let (spans, _) = attached.end();
        let (early, outer) = (spans.one("early"), spans.one("outer of long"));
        assert_eq!((&*early.parent, &*early.trace), (parent, trace), "{early:#?}");
        assert_eq!((&outer.parent, &outer.trace), (&early.id, &early.trace), "{outer:#?}");
    });
}
