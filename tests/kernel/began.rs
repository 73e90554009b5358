//! Spans that began before spantap attached: they are counted as others are, and hang where they belong.

use std::process::Command;

use e2e::{Spantap, wait_until};

use crate::found::{Found, Spans};
use crate::with_kernel;
use crate::worker::{Attached, Output, Worker};

/// The number before `words` in the figures at the end; 0 where they say nothing of it.
fn figure(stderr: &str, words: &str) -> u64 {
    let line = stderr.lines().find(|line| line.contains(words)).unwrap_or_default();
    let before = line.split(words).next().unwrap_or_default();
    let number: String = before.split_whitespace().next_back().unwrap_or_default().replace(',', "");
    if number.is_empty() { 0 } else { number.parse().unwrap_or_else(|_| panic!("{number:?} in {line:?}")) }
}

/// What is counted as received, from the program and of the kernel, is what is forwarded.
#[track_caller]
fn assert_figures_add_up(stderr: &str, spans: &Spans) {
    let (kernels, own): (Vec<_>, Vec<_>) = spans.0.iter().partition(|span| span.is_kernels);
    let received = figure(stderr, " spans from 1 sender");
    let of_kernel = figure(stderr, " spans of what the kernel did");
    let forwarded = figure(stderr, " spans forwarded");
    assert_eq!((received, of_kernel), (own.len() as u64, kernels.len() as u64), "{stderr}");
    assert_eq!(received + of_kernel, forwarded, "{stderr}");
}

/// It attaches to a busy program that has long spans open, some of which end while it looks, and detaches while the
/// program goes on.
#[test]
fn figures_add_up_for_a_busy_program_with_spans_open_since_before() {
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
        wait_until("some of the busy ones were seen", || output.spans().own("busy").count() > 1_000);
        let ended = spantap.terminate();
        assert!(ended.status.success(), "{ended:?}");
        worker.run("close 10");
        worker.end();

        let spans = output.spans();
        assert_eq!(spans.own("outer of long").count(), 20, "{}", ended.stderr);
        assert_eq!(spans.own("inner of long").count(), 20);
        assert_figures_add_up(&ended.stderr, &spans);
    });
}

/// A program whose only spans are such: its name is then spantap's to find.
#[test]
fn figures_add_up_where_no_other_span_ends() {
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
            assert_figures_add_up(&ended.stderr, &spans);
        }
    });
}

#[test]
fn a_child_that_began_before_hangs_below_its_parent() {
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
            let above = outer.iter().find(|outer| outer.id == inner.parent).expect("its parent is there");
            assert!(above.trace == inner.trace && above.parent.is_empty(), "{above:#?} {inner:#?}");
            assert_eq!(inner.text("kernel.partial"), "it began before spantap attached");
            let below = spans.own("short").filter(|short| short.parent == inner.id);
            assert_eq!(below.count(), 3, "{:#?}", spans.0);
        }
    });
}

/// Its parent is a span of another process, or one that is still open.
#[test]
fn a_partial_span_keeps_a_parent_that_was_not_collected() {
    with_kernel(&[], || {
        let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kernel_work"));
        let mut worker = Worker::spawn(command.env("TRACEPARENT", format!("00-{trace}-{parent}-01")));
        worker.run("enter");
        // A root in its own process, and what is in it.
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

#[test]
fn a_parent_that_an_older_layer_does_not_tell_is_marked_as_unknown() {
    with_kernel(&[], || {
        let (_, spans, ended) =
            Attached::start(&["--kernel", "none"]).run_all(["sleep 1 1", "close_without_parent"]);
        let span = spans.one("of an older layer");
        let why = "it began before spantap attached, and its parent is unknown";
        assert_eq!((&*span.parent, span.text("kernel.partial")), ("", why), "{span:#?}");
        // Over two lines, as narrow as it is.
        let shown: Vec<&str> = ended.stdout.split_whitespace().collect();
        assert!(shown.join(" ").contains(&format!("seen in part: {why}")), "{}", ended.stdout);
        assert_figures_add_up(&ended.stderr, &spans);
    });
}
