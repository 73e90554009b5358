//! Processes whose memory the kernel has taken. A program in the kernel can't wait until it is read from the disk: what it
//! can't read is counted, and nothing is wrong.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use e2e::{Swap, need};
use serde_json::Value;

use crate::foreign::{FIRST, Foreign, assert_are_in_spans, below, compile_executable};
use crate::found::{Found, assert_near, number};
use crate::worker::{Attached, Worker};
use crate::{repeat_if_unreported, with_kernel};

const UNREADABLE: &str = "missed reads of the spans that a thread is in: its memory could not be read";
const UNFOLLOWED: &str = "its threads were not followed all the time";

/// Before that, the layer's own thread gets pages back which it shares with the other.
const UNTIL_IDLE: &str = "pause 1500";

/// What the programs sleep each time.
const SLEEP_NS: u64 = 100_000_000;

/// Runs `test` with a swap file. Repeated if the kernel did not report a switch.
fn with_swap(test: impl Fn(&Swap)) {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            if let Some(swap) = Swap::on(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
                test(&swap);
            }
        });
    });
}

fn page_out(swap: &Swap, pid: u32) {
    let pages = swap.page_out(pid);
    // Its threads may just run.
    assert!(pages.on_disk > pages.in_memory, "{pages:?}");
}

/// Takes the memory of process `pid` again and again for 900 ms.
fn take_memory(swap: &Swap, pid: u32) {
    for _ in 0..18 {
        page_out(swap, pid);
        sleep(Duration::from_millis(50));
    }
}

fn wait_ms(ms: u64) {
    sleep(Duration::from_millis(ms));
}

/// Waits for the end of the worker's command.
fn measured(attached: &mut Attached) -> Value {
    serde_json::from_str(&attached.worker.line()).unwrap()
}

/// Each is one of the program's sleeps, of which the longest took `longest_ns`.
#[track_caller]
fn assert_are_sleeps(sleeps: &[&Found], longest_ns: u64) {
    let is_sleep = |sleep: &&Found| (SLEEP_NS..=longest_ns).contains(&sleep.duration_ns());
    assert!(sleeps.iter().all(is_sleep), "{longest_ns}: {sleeps:#?}");
    // They don't overlap.
    let mut times: Vec<_> = sleeps.iter().map(|sleep| (sleep.start_ns, sleep.end_ns)).collect();
    times.sort_unstable();
    assert!(times.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{sleeps:#?}");
}

/// What the longest of `count` sleeps took at most.
fn longest_ns(measured: &Value, count: u64) -> u64 {
    number(measured, "wall_ns") - (count - 1) * SLEEP_NS
}

fn sum_ns(spans: &[&Found]) -> u64 {
    spans.iter().map(|span| span.duration_ns()).sum()
}

#[test]
#[ignore = "deep: makes a swap file"]
fn a_span_whose_thread_could_not_be_read_says_so() {
    with_swap(|swap| {
        let worker = Worker::start();
        // It is read from the disk when spantap attaches.
        page_out(swap, worker.child.id());
        let mut attached = Attached::to(worker, &["--min", "10ms"]);
        // It may miss something of the first, and that counts for all spans of a batch.
        for command in ["spin 1", "pause 200", "spin 20", UNTIL_IDLE] {
            attached.run(command);
        }
        attached.worker.begin("sleep 10 100");
        take_memory(swap, attached.worker.child.id());
        let slept = measured(&mut attached);
        attached.run("pause 200");
        let slept_again = attached.run("sleep 3 100");
        let (spans, ended) = attached.end();
        assert!(ended.stderr.contains(UNREADABLE), "{}", ended.stderr);

        let sleepers: Vec<&Found> = spans.own("sleeper").collect();
        let [unreadable, readable] = sleepers[..] else { panic!("{:#?}", spans.0) };
        assert_eq!(unreadable.text("kernel.partial"), UNFOLLOWED);
        let sleeps = spans.below(unreadable, "sleep");
        assert!(sleeps.len() <= 2, "{sleeps:#?}");
        assert_are_sleeps(&sleeps, longest_ns(&slept, 10));
        let account = unreadable.account();
        // Nothing is counted twice, and what was not seen is not taken for time on the CPU.
        assert_near("sleep", account["sleep"], sum_ns(&sleeps));
        let missing_ns = (10 - sleeps.len() as u64) * SLEEP_NS;
        assert!(account["unseen"] >= missing_ns, "{unreadable:#?}");
        assert!(account["on_cpu"] < SLEEP_NS, "{unreadable:#?}");
        assert_eq!(account.values().sum::<u64>(), unreadable.number("busy_ns"), "{unreadable:#?}");

        for whole in [spans.own("spinner").nth(1).unwrap(), readable] {
            assert_eq!(whole.text("kernel.partial"), "", "{whole:#?}");
        }
        let sleeps = spans.below(readable, "sleep");
        assert_eq!(sleeps.len(), 3, "{sleeps:#?}");
        assert_are_sleeps(&sleeps, longest_ns(&slept_again, 3));
    });
}

/// An enter gets back what it writes of the thread's context, but not all of it.
#[test]
#[ignore = "deep: makes a swap file"]
fn a_thread_that_has_a_part_of_its_memory_back_is_followed() {
    with_swap(|swap| {
        let mut attached = Attached::start(&["--min", "10ms"]);
        attached.run("spin 20");
        attached.run(UNTIL_IDLE);
        attached.worker.begin("sleep_below 100");
        wait_ms(50);
        page_out(swap, attached.worker.child.id());
        let slept = measured(&mut attached);
        attached.run("pause 200");
        let (spans, ended) = attached.end();
        assert!(ended.stderr.contains(UNREADABLE), "{}", ended.stderr);
        let inner = spans.one("inner");
        let sleeps = spans.below(inner, "sleep");
        assert_eq!(sleeps.len(), 3, "{:#?}", spans.0);
        assert_are_sleeps(&sleeps, longest_ns(&slept, 3));
        for span in [inner, spans.one("sleeper")] {
            assert_eq!(span.account().values().sum::<u64>(), span.number("busy_ns"), "{span:#?}");
            assert_eq!(span.text("kernel.partial"), UNFOLLOWED, "{span:#?}");
        }
    });
}

/// Its batch is joined before the time that was not seen is reported.
#[test]
#[ignore = "deep: makes a swap file"]
fn a_span_whose_thread_computes_after_it_is_marked() {
    with_swap(|swap| {
        let mut attached = Attached::start(&["--min", "10ms"]);
        attached.run("spin 20");
        attached.run(UNTIL_IDLE);
        attached.worker.begin("sleep_and_spin 10 100 200");
        take_memory(swap, attached.worker.child.id());
        attached.worker.line();
        attached.run("pause 200");
        let (spans, _) = attached.end();
        let sleeper = spans.one("sleeper");
        assert_eq!(sleeper.text("kernel.partial"), UNFOLLOWED, "{sleeper:#?}");
        let account = sleeper.account();
        assert!(account["sleep"] < 5 * SLEEP_NS, "{sleeper:#?}");
        assert_eq!(account.values().sum::<u64>(), sleeper.number("busy_ns"), "{sleeper:#?}");
    });
}

#[test]
#[ignore = "deep: makes a swap file"]
fn a_call_whose_end_was_not_seen_is_not_taken_for_a_later_one() {
    with_swap(|swap| {
        let mut attached = Attached::start(&["--kernel", "sched,syscall", "--min", "10ms"]);
        attached.run("spin 20");
        attached.worker.begin("sleep 10 100");
        // Taken in every other sleep, and back in the next one.
        for _ in 0..3 {
            wait_ms(150);
            page_out(swap, attached.worker.child.id());
            wait_ms(100);
            swap.bring_back(attached.worker.child.id());
        }
        let slept = measured(&mut attached);
        attached.run("pause 200");
        let (spans, ended) = attached.end();
        assert!(ended.stderr.contains(UNREADABLE), "{}", ended.stderr);
        let sleeper = spans.one("sleeper");
        let calls = spans.below(sleeper, "syscall clock_nanosleep");
        assert!((1..10).contains(&calls.len()), "{:#?}", spans.0);
        assert_are_sleeps(&calls, longest_ns(&slept, 10));
        let sleeps = spans.below(sleeper, "sleep");
        assert!((1..10).contains(&sleeps.len()), "{:#?}", spans.0);
        assert_are_sleeps(&sleeps, longest_ns(&slept, 10));
        let account = sleeper.account();
        assert_near("sleep", account["sleep"], sum_ns(&sleeps));
        assert_eq!(account.values().sum::<u64>(), sleeper.number("busy_ns"), "{sleeper:#?}");
    });
}

#[test]
#[ignore = "deep: makes a swap file"]
fn what_could_not_be_read_of_any_program_is_counted() {
    if !need(&["cc"]) {
        return;
    }
    with_swap(|swap| {
        let folder = tempfile::tempdir().unwrap();
        let executable = compile_executable(folder.path());
        let mut foreign = Foreign::attach_with(&mut Command::new(executable), &["--kernel", "sched"]);
        foreign.begin("sleeps");
        take_memory(swap, foreign.child.id());
        let [unreadable_ns] = foreign.answered();
        let again = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let [readable_ns] = foreign.numbers("sleeps");
        let (spans, stderr) = foreign.end();
        assert!(stderr.contains(UNREADABLE), "{stderr}");
        assert_are_in_spans(&spans);
        let (unreadable, readable): (Vec<&Found>, Vec<&Found>) =
            below(&spans, FIRST, "sleep").into_iter().partition(|sleep| sleep.start_ns < again);
        assert!(unreadable.len() <= 2, "{unreadable:#?}");
        assert_are_sleeps(&unreadable, unreadable_ns);
        assert_eq!(readable.len(), 10, "{readable:#?}");
        assert_are_sleeps(&readable, readable_ns);
    });
}
