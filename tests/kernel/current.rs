//! Which span is current on which thread.

use std::path::PathBuf;

use crate::found::{Found, assert_add_up, assert_between, assert_none_missed, number};
use crate::with_kernel;
use crate::worker::{Attached, Worker};

#[test]
fn what_happens_is_the_innermost_spans_and_its_time_also_that_of_those_around() {
    with_kernel(&[], || {
        let ([measured], spans, _) = Attached::start(&["--min", "5ms"]).run_all(["nest"]);
        // What each sleeps by itself, in milliseconds, and how long it took: timers are late, and then it waits for a CPU.
        let sleeps = [("outer", 10), ("middle", 20), ("inner", 40), ("second", 30)];
        let assert_slept = |name: &str, found: u64, of: &[(&str, u64)]| {
            let asked: u64 = of.iter().map(|(_, millis)| millis * 1_000_000).sum();
            assert_between(name, found, asked, of.iter().map(|(name, _)| number(&measured, name)).sum());
        };
        for of in sleeps {
            let mut found = spans.below(spans.one(of.0), "sleep");
            // Not what was too short to be told by itself.
            found.retain(|sleep| !sleep.attributes.contains_key("kernel.count"));
            assert_eq!(found.len(), 1, "{}: {found:#?}", of.0);
            assert_slept(of.0, found[0].duration_ns(), &[of]);
        }
        assert!(spans.below(spans.one("first"), "sleep").is_empty(), "{:#?}", spans.0);
        let account = |name: &str| spans.one(name).account()["sleep"];
        assert_slept("all", account("outer"), &sleeps);
        // Entered twice, and counted once.
        assert_slept("middle and inner", account("middle"), &sleeps[1..3]);
        assert_slept("inner", account("inner"), &sleeps[2..3]);
        assert_slept("second", account("second"), &sleeps[3..]);
        assert_eq!(account("first"), 0);
    });
}

#[test]
fn spans_that_hop_between_threads_take_their_account_along() {
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
            // Each of its sleeps was on some thread.
            let off_cpu: u64 = hopper.account().values().sum::<u64>() - hopper.account()["on_cpu"];
            assert!(off_cpu >= 14 * 2_000_000, "{:?}", hopper.account());
            let on: std::collections::BTreeSet<u64> =
                long.iter().map(|sleep| sleep.number("thread.id")).collect();
            threads = threads.max(on.len());
        }
        // On a busy machine a thread may lose the CPU just before it sleeps, and find the time gone by.
        assert!(slept >= 20 * 15 - 6, "{slept} of {} sleeps", 20 * 15);
        assert!(threads > 1, "none was polled by a second thread");
    });
}

const BEGAN_BEFORE: &str = "it began before spantap attached";

#[test]
fn a_span_that_was_entered_before_shows_from_then_on() {
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
        // From its next exit on.
        let slept = spans.below(early, "sleep");
        assert!(slept.iter().all(|sleep| sleep.start_ns >= inside.end_ns), "{slept:#?}");
    });
}

/// Somebody looks at when spans are entered, and at nothing else, when it begins: so nobody wants its text.
#[test]
fn a_span_that_began_for_another_consumer_is_told() {
    with_kernel(&e2e::BPFTRACE, || {
        let mut worker = Worker::start();
        let path = PathBuf::from(env!("CARGO_BIN_EXE_kernel_work"));
        // Whoever looks at `new_span` has its fields recorded, and they are told, too.
        for (probe, field, left_out) in [("enter", 0, 1), ("new_span", 7, 0)] {
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
            assert_eq!((early.number("field"), early.left_out), (field, left_out), "{probe}: {early:#?}");
            worker = Worker::start();
        }
    });
}

/// What they were in ends with them.
#[test]
fn threads_that_die_inside_of_a_span_leave_nothing_to_others() {
    with_kernel(&[], || {
        let (_, spans, ended) =
            Attached::start(&["--min", "1ms"]).run_all(["abandon", "hop 8 5", "sleep 2 10"]);
        assert_none_missed(&ended.stderr);
        assert_eq!(spans.own("abandoned").count(), 0, "they never ended");
        let ids: Vec<&str> = spans.0.iter().map(|span| &*span.id).collect();
        let left = spans.0.iter().filter(|span| span.name == "sleep" && !ids.contains(&&*span.parent));
        assert_eq!(left.count(), 20, "each of them slept: {:#?}", spans.0);
        let (sleeper, hoppers): (_, Vec<_>) = (spans.one("sleeper"), spans.own("hopper").collect());
        assert_eq!((spans.below(sleeper, "sleep").len(), hoppers.len()), (2, 8));
        assert!(hoppers.iter().chain([&sleeper]).all(|span| span.parent.is_empty()), "{:#?}", spans.0);
        assert_add_up(&spans, 20);
    });
}

#[test]
fn more_spans_than_the_stack_holds_are_counted_and_left_again() {
    with_kernel(&[], || {
        let (_, spans, ended) = Attached::start(&[]).run_all(["deep 100", "sleep 1 10"]);
        assert_eq!(spans.own("deep").count(), 100);
        assert!(ended.stderr.contains("36 missed enters deeper than 64 spans"), "{}", ended.stderr);
        assert_eq!(spans.below(spans.one("sleeper"), "sleep").len(), 1);
    });
}
