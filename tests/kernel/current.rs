//! The current span of each thread.

use std::path::PathBuf;

use e2e::Spantap;

use crate::found::{Found, assert_add_up, assert_between, assert_no_misses_of_spantap, number};
use crate::worker::{Attached, Output, Worker};
use crate::{repeat_if_unreported, with_kernel};

/// Repeated if the kernel did not report a context switch, because each sleep is checked by itself.
#[test]
fn work_counts_for_the_innermost_span_and_its_time_also_for_those_around_it() {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let ([measured], spans, _) = Attached::start(&["--min", "5ms"]).run_all(["nest"]);
            // The milliseconds that each span sleeps by itself. A sleep takes longer: timers are late, and then the
            // thread waits for a CPU.
            let sleeps = [("outer", 10), ("middle", 20), ("inner", 40), ("second", 30)];
            let assert_slept = |name: &str, found: u64, of: &[(&str, u64)]| {
                let asked: u64 = of.iter().map(|(_, millis)| millis * 1_000_000).sum();
                assert_between(name, found, asked, of.iter().map(|(name, _)| number(&measured, name)).sum());
            };
            for of in sleeps {
                let mut found = spans.below(spans.one(of.0), "sleep");
                // Without the short sleeps, which are aggregated.
                found.retain(|sleep| !sleep.attributes.contains_key("kernel.count"));
                assert_eq!(found.len(), 1, "{}: {found:#?}", of.0);
                assert_slept(of.0, found[0].duration_ns(), &[of]);
            }
            assert!(spans.below(spans.one("first"), "sleep").is_empty(), "{:#?}", spans.0);
            let account = |name: &str| spans.one(name).account()["sleep"];
            assert_slept("all", account("outer"), &sleeps);
            // Entered twice, but counted once.
            assert_slept("middle and inner", account("middle"), &sleeps[1..3]);
            assert_slept("inner", account("inner"), &sleeps[2..3]);
            assert_slept("second", account("second"), &sleeps[3..]);
            assert_eq!(account("first"), 0);
        })
    });
}

#[test]
fn spans_that_change_threads_keep_their_account() {
    with_kernel(&[], || {
        let (_, spans, _) = Attached::start(&["--min", "1ms"]).run_all(["hop 20 15"]);
        let hoppers: Vec<&Found> = spans.own("hopper").collect();
        assert_eq!(hoppers.len(), 20);
        let (mut threads, mut slept) = (0, 0);
        for hopper in hoppers {
            let sleeps = spans.below(hopper, "sleep");
            let long: Vec<_> = sleeps.iter().filter(|sleep| sleep.duration_ns() >= 1_900_000).collect();
            slept += long.len();
            assert!(long.len() <= 15, "{sleeps:#?}");
            // The account has the sleeps on all threads.
            let off_cpu: u64 = hopper.account().values().sum::<u64>() - hopper.account()["on_cpu"];
            assert!(off_cpu >= 14 * 2_000_000, "{:?}", hopper.account());
            let on: std::collections::BTreeSet<u64> =
                long.iter().map(|sleep| sleep.number("thread.id")).collect();
            threads = threads.max(on.len());
        }
        // On a busy machine a thread may lose the CPU just before it sleeps, and then sleep for less.
        assert!(slept >= 20 * 15 - 6, "{slept} of {} sleeps", 20 * 15);
        assert!(threads > 1, "no span was polled by a second thread");
    });
}

const BEGAN_BEFORE: &str = "it began before spantap attached";

#[test]
fn a_span_entered_before_the_attach_counts_from_its_next_exit_on() {
    with_kernel(&[], || {
        let mut worker = Worker::start();
        worker.run("enter");
        let mut attached = Attached::to(worker, &[]);
        attached.run("sleep 1 10");
        attached.run("leave");
        attached.run("sleep 1 10");
        let (spans, _) = attached.end();
        let early = spans.one("early");
        assert_eq!(early.text("kernel.partial"), BEGAN_BEFORE, "{early:#?}");
        assert_eq!(spans.own("sleeper").count(), 2);
        assert!(spans.own("sleeper").all(|sleeper| !sleeper.attributes.contains_key("kernel.partial")));
        let (inside, after): (Vec<&Found>, _) =
            spans.own("sleeper").partition(|sleeper| sleeper.parent == early.id);
        let ([inside], [after]) = (&inside[..], &after[..]) else { panic!("{:#?}", spans.0) };
        assert_eq!(inside.trace, early.trace);
        assert!(after.parent.is_empty() && after.trace != early.trace, "{after:#?}");
        // Its sleeps count from its next exit on.
        let slept = spans.below(early, "sleep");
        assert!(slept.iter().all(|sleep| sleep.start_ns >= inside.end_ns), "{slept:#?}");
    });
}

/// When the span begins, bpftrace listens to `enter` or to `new_span` only, so no one needs the span's JSON.
#[test]
fn a_span_that_began_for_another_consumer_is_reported() {
    with_kernel(&e2e::BPFTRACE, || {
        let mut worker = Worker::start();
        let path = PathBuf::from(env!("CARGO_BIN_EXE_kernel_work"));
        // With a consumer of `new_span`, the fields are recorded, and spantap gets them. Otherwise they are
        // dropped.
        for (probe, field, dropped) in [("enter", 0, 1), ("new_span", 7, 0)] {
            let script = e2e::Bpftrace::probe(&path, probe, r#"printf("%s\n", probe);"#);
            let bpftrace = e2e::Bpftrace::attach(&script, Some(worker.child.id()));
            worker.run("enter");
            let mut attached = Attached::to(worker, &[]);
            attached.run("leave");
            bpftrace.end();
            let (spans, _) = attached.end();
            let early = spans.one("early");
            assert!(early.duration_ns() >= 20_000_000, "{early:#?}");
            assert_eq!(early.text("kernel.partial"), BEGAN_BEFORE, "{early:#?}");
            assert_eq!(
                (early.number("field"), early.dropped_attributes),
                (field, dropped),
                "{probe}: {early:#?}"
            );
            worker = Worker::start();
        }
    });
}

/// A later thread, which may have the same id, must not inherit the span.
/// Repeated if the kernel did not report a context switch, because the sleeps are counted.
#[test]
fn a_thread_that_ends_inside_a_span_does_not_affect_others() {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let (_, spans, ended) =
                Attached::start(&["--min", "1ms"]).run_all(["abandon", "hop 8 5", "sleep 2 10"]);
            assert_no_misses_of_spantap(&ended.stderr);
            assert_eq!(spans.own("abandoned").count(), 0, "a span that never closed was reported");
            let ids: Vec<&str> = spans.0.iter().map(|span| &*span.id).collect();
            let left = spans.0.iter().filter(|span| span.name == "sleep" && !ids.contains(&&*span.parent));
            assert_eq!(left.count(), 20, "each thread slept: {:#?}", spans.0);
            let (sleeper, hoppers): (_, Vec<_>) = (spans.one("sleeper"), spans.own("hopper").collect());
            assert_eq!((spans.below(sleeper, "sleep").len(), hoppers.len()), (2, 8));
            assert!(hoppers.iter().chain([&sleeper]).all(|span| span.parent.is_empty()), "{:#?}", spans.0);
            assert_add_up(&spans);
        })
    });
}

#[test]
fn spans_nested_deeper_than_the_stack_are_counted() {
    with_kernel(&[], || {
        let (_, spans, ended) = Attached::start(&[]).run_all(["deep 100", "sleep 1 10"]);
        assert_eq!(spans.own("deep").count(), 100);
        let words = " missed spans that a thread was in: below the outermost 64";
        let before = ended.stderr.split(words).next().filter(|before| *before != ended.stderr);
        let missed: u64 = before.and_then(|before| before.rsplit(' ').next()?.parse().ok()).unwrap_or(0);
        // As many as when the thread was last looked at.
        assert!((30..=36).contains(&missed), "{}", ended.stderr);
        let (known, unknown): (Vec<_>, Vec<_>) =
            spans.own("deep").partition(|span| span.text("kernel.partial").is_empty());
        assert_eq!((known.len(), unknown.len()), (64, 36), "the others say that they were not followed");
        assert!(spans.one("sleeper").has_account(), "{:#?}", spans.0);
    });
}

/// A program may have the layer twice, in two versions.
#[test]
fn a_thread_that_registers_with_another_layout_is_reported() {
    with_kernel(&[], || {
        let (_, spans, ended) = Attached::start(&[]).run_all(["register 2", "sleep 1 10"]);
        let line =
            "\n  1 missed entries into spans: the program has the layer of another version than spantap's";
        assert!(ended.stderr.contains(line), "{}", ended.stderr);
        assert!(spans.one("sleeper").has_account(), "by the layer that spantap knows: {:#?}", spans.0);
    });
}

/// The second one attaches while the thread is in a span that the first one follows.
#[test]
fn two_spantaps_follow_one_program() {
    with_kernel(&[], || {
        let mut worker = Worker::start();
        let outputs = [Output::new(), Output::new()];
        let first = Spantap::attach(&["--pid", &worker.pid(), "--to", &outputs[0].to(), "--min", "1s"]);
        worker.run("enter");
        let second = Spantap::attach(&["--pid", &worker.pid(), "--to", &outputs[1].to(), "--min", "1s"]);
        worker.run("sleep 2 10");
        worker.run("leave");
        worker.end();
        for (number, (spantap, output)) in [first, second].into_iter().zip(&outputs).enumerate() {
            let ended = spantap.wait();
            assert_no_misses_of_spantap(&ended.stderr);
            let spans = output.spans();
            let (early, sleeper) = (spans.one("early"), spans.one("sleeper"));
            assert_between("asleep", sleeper.account()["sleep"], 20_000_000, sleeper.duration_ns());
            assert_eq!(sleeper.text("kernel.partial"), "", "{sleeper:#?}");
            // The first one has seen all of it.
            let why = ["", BEGAN_BEFORE][number];
            assert_eq!(early.text("kernel.partial"), why, "{early:#?}");
            let account = early.account();
            assert_between("asleep in all", account["sleep"], 40_000_000, early.duration_ns());
            // The wait for the second one is no time on the CPU.
            assert_between("on CPU", account["on_cpu"], 0, 20_000_000);
            assert_between(
                "not seen",
                account["unseen"],
                0,
                if number == 0 { 0 } else { early.duration_ns() },
            );
        }
    });
}
