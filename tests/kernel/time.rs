//! A span's account of its time, and its children for the time off the CPU.

use std::process::Command;

use e2e::{Cgroup, wait_until};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::found::{
    Found, UNSEEN_TIME, assert_add_up, assert_between, assert_near, assert_near_of, number, total_ns,
};
use crate::worker::{Attached, Worker, file_on_a_disk};
use crate::{repeat_if_unreported, with_kernel};

/// spantap's times for sleep and computation are within a margin of what the program measured. Repeated if the
/// kernel did not report a context switch, because each sleep is checked by itself.
#[test]
fn time_asleep_and_on_the_cpu_agrees_with_the_programs_measurement() {
    with_kernel(&[], || {
        repeat_if_unreported(|| assert_sleeps_and_spins(Attached::start(&["--min", "0us"])));
    });
}

/// Waits for sockets, for threads and for anything else are told apart, by the system call. Repeated if the kernel did not
/// report a context switch.
#[test]
fn waits_for_sockets_are_waits_for_the_network() {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let ([_], spans, _) = Attached::start(&["--min", "0us"]).run_all(["await_all"]);
            let mut ways = Vec::new();
            for waits in spans.own("waits") {
                let (way, account) = (waits.text("way"), waits.account());
                let (part, name) = match way.strip_prefix("no socket: ") {
                    None => ("network", "network wait"),
                    Some("join") => ("lock", "lock wait"),
                    Some(_) => ("sleep", "sleep"),
                };
                assert_between(way, account[part], 15_000_000, waits.duration_ns());
                let others = ["network", "lock", "sleep"].into_iter().filter(|other| *other != part);
                assert_eq!(others.map(|other| account[other]).sum::<u64>(), 0, "{way}: {account:?}");
                let longest = spans.below(waits, name).into_iter().map(Found::duration_ns).max();
                assert!(longest.is_some_and(|ns| ns > 15_000_000), "{way}: {:#?}", spans.0);
                ways.push(way);
            }
            ways.sort_unstable();
            let expected = [
                "TCP accept",
                "TCP read",
                "UDP receive",
                "Unix read",
                "Unix write",
                "no socket: join",
                "no socket: pipe",
                "no socket: poll of a pipe",
                "no socket: timer",
                "poll of a socket",
            ];
            assert_eq!(ways, expected);
        });
    });
}

/// Two threads that compute on one CPU wait for it as long as the program measured. Repeated if the kernel did
/// not report a context switch, because the waits are known only from these.
#[test]
fn two_threads_on_one_cpu_preempt_each_other() {
    with_kernel(&[], || {
        repeat_if_unreported(|| assert_preempted(Attached::start(&["--min", "0us"])));
    });
}

/// The parts of a span's account add up to the time in which it was entered.
#[test]
fn the_parts_add_up_to_the_time_in_which_a_span_was_entered() {
    with_kernel(&[], || {
        let mut attached = Attached::start(&["--min", "1s"]);
        let file = file_on_a_disk();
        for _ in 0..10 {
            attached.run("sleep 3 2");
            attached.run("spin 5");
            attached.run("contend 10");
            attached.run(&format!("write {} 8", file.path().display()));
            attached.run("hop 4 4");
        }
        let (spans, _) = attached.end();
        assert_eq!(spans.0.iter().filter(|span| !span.is_kernels).count(), 10 * 8);
        assert_add_up(&spans);
    });
}

/// Compares with the kernel's own count for the control group, in which only one thread runs.
#[test]
fn throttled_time_agrees_with_the_control_groups_count() {
    // Older kernels do not mark a throttled thread.
    with_kernel(&["linux:6.18", "cgroup"], || {
        let cgroup = Cgroup::with_quota(20);
        let mut attached = Attached::start(&["--min", "5ms"]);
        cgroup.take(&attached.worker.pid());
        let waited = number(&attached.run("spin 600"), "waited_ns");
        let throttled = cgroup.throttled_ns();
        let (spans, _) = attached.end();
        let spinner = spans.one("spinner");
        assert!(throttled > 200_000_000, "{throttled}");
        // The group may also be throttled when the span has ended, for most of a period of 100 ms. The thread then does not wait
        // in the span, and the program has not measured it.
        let in_span = throttled.min(waited);
        // It includes the wait for a CPU after the throttling, which may be long on a busy machine.
        let found = spinner.account()["throttled"];
        let margin = throttled / 20;
        assert!(
            found + margin >= in_span && found <= throttled + waited + margin,
            "found {found} ns, by the group's count {throttled} ns, and {waited} ns of waiting"
        );
        assert!(spans.below(spinner, "throttled").len() >= 3, "{:#?}", spans.0);
    });
}

/// On some virtual machines the kernel does not report context switches between certain threads. Its own count
/// of their waiting time is still right.
#[test]
#[ignore = "deep: rare: a virtual machine that hides some context switches"]
fn threads_whose_switches_are_not_reported_are_timed_by_the_kernels_count() {
    with_kernel(&[], || {
        assert_sleeps_and_spins(with_missed("returns"));
        assert_preempted(with_missed("returns"));
    });
}

/// Attached by a spantap that misses every other switch to a thread (`returns`), from it (`leaves`), or both (`pairs`).
fn with_missed(what: &str) -> Attached {
    let attached = Attached::with(Worker::start(), &["--min", "0us"], &[("SPANTAP_MISSES_SWITCHES", what)]);
    let is_known = || attached.spantap.stderr().contains("some thread switches are ignored");
    wait_until("spantap reports that it misses some", is_known);
    attached
}

/// Checks a program that sleeps and then spins.
#[track_caller]
fn assert_sleeps_and_spins(attached: Attached) {
    let ([slept, spun], spans, _) = attached.run_all(["sleep 3 30", "spin 100"]);

    let sleeper = spans.one("sleeper");
    let (sleeps, waits) = (spans.below(sleeper, "sleep"), spans.below(sleeper, "run queue"));
    assert!(sleeps.len() >= 3, "{sleeps:#?}");
    let long = sleeps.iter().filter(|sleep| sleep.duration_ns() >= 29_000_000).count();
    assert_eq!(long, 3, "{sleeps:#?}");
    let wall = number(&slept, "wall_ns");
    let account = sleeper.account();
    assert_near(
        "sleep and what came after",
        total_ns(&sleeps) + total_ns(&waits),
        wall - account["on_cpu"] - account["preempted"],
    );
    assert_near("sleep", account["sleep"], total_ns(&sleeps));
    assert!(
        sleeps.iter().any(|sleep| sleep.text("kernel.waker") == "an interrupt"),
        "the timer's interrupt: {sleeps:#?}"
    );
    for sleep in &sleeps {
        assert!(sleep.start_ns + 1000 >= sleeper.start_ns && sleep.end_ns <= sleeper.end_ns + 1000);
        assert_eq!((sleep.text("thread.name"), &*sleep.service), ("kernel_work", "kernel_work"));
    }

    let spinner = spans.one("spinner");
    let (account, wall, waited) = (spinner.account(), number(&spun, "wall_ns"), number(&spun, "waited_ns"));
    assert_near_of("on CPU", account["on_cpu"], wall - waited, wall);
    assert_near_of("waiting for it", account["run_queue"] + account["preempted"], waited, wall);
    assert_near("in all", account.values().sum(), wall);
    assert_eq!(account["sleep"], 0);
}

/// Checks two threads that preempt each other.
#[track_caller]
fn assert_preempted(attached: Attached) {
    let ([measured], spans, _) = attached.run_all(["contend 200"]);
    let contender = spans.one("contender");
    let account = contender.account();
    let (wall, waited) = (number(&measured, "wall_ns"), number(&measured, "waited_ns"));
    assert!(waited > wall / 4, "{measured}");
    assert_near_of("on CPU", account["on_cpu"], wall - waited, wall);
    assert_near_of("not on CPU", account["preempted"] + account["run_queue"], waited, wall);
    let preempted = spans.below(contender, "preempted");
    assert!(preempted.len() >= 3, "{preempted:#?}");
    assert_near("preempted", total_ns(&preempted), account["preempted"]);
}

/// If the kernel does not report wake-ups, the waker is unknown, but not the time.
#[test]
#[ignore = "deep: rare: a virtual machine that hides wake-ups"]
fn threads_whose_wake_ups_are_not_reported_still_have_their_sleep() {
    with_kernel(&["unshare", "taskset"], || {
        // Three threads compete for one processor.
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let cpu = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap()).unwrap().to_string();
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &cpu, env!("CARGO_BIN_EXE_kernel_work")]);
        let mut start = || Worker::spawn(&mut command);
        let (mut attached, mut others) = (Attached::lacking("sched_waking", start()), [start(), start()]);
        for other in &mut others {
            other.begin("spin 60000");
        }
        let (times, each) = (50, 3_000_000);
        let dozed = attached.run(&format!("doze {times} 3"));
        drop(others);
        let (spans, _) = attached.end();
        let dozer = spans.one("dozer");
        let (account, wall, waited) =
            (dozer.account(), number(&dozed, "wall_ns"), number(&dozed, "waited_ns"));
        assert!(waited > wall / 10, "{dozed}");
        assert_near_of("waiting", account["run_queue"] + account["preempted"], waited, wall);
        // Timers are late on busy machines.
        assert_between("asleep", account["sleep"], times * each, number(&dozed, "asleep_ns"));
        let sleeps = spans.below(dozer, "sleep");
        assert_near_of("asleep", total_ns(&sleeps), account["sleep"], wall);
        assert!(sleeps.iter().all(|sleep| sleep.text("kernel.waker").is_empty()), "{sleeps:#?}");
    });
}

/// The kernel reports neither that the thread leaves the CPU nor that it returns. By its count, spantap notices when the
/// thread leaves it the next time. The thread tells which spans it has exited since.
#[test]
#[ignore = "deep: rare: a virtual machine that hides context switches"]
fn time_that_the_kernel_does_not_report_is_not_taken_for_time_on_the_cpu() {
    with_kernel(&[], || {
        let ([slept], spans, ended) = with_missed("pairs").run_all(["sleep 20 10"]);
        let words = "stretches of time: the kernel did not report what the thread did";
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        let sleeper = spans.one("sleeper");
        let (account, wall) = (sleeper.account(), number(&slept, "wall_ns"));
        // Half of the sleeps are not reported.
        assert_between("not seen", account["unseen"], 8 * 10_000_000, wall);
        assert_between("on CPU", account["on_cpu"], 0, 5_000_000);
        assert_near("in all", account.values().sum(), wall);
        assert_eq!(sleeper.text("kernel.partial"), UNSEEN_TIME);
    });
}

/// In a span, a sleep of which the kernel reports neither the wake-up nor the return is no time on the CPU.
#[test]
#[ignore = "deep: rare: a virtual machine that hides wake-ups and context switches"]
fn a_sleep_without_a_reported_end_is_not_taken_for_time_on_the_cpu() {
    with_kernel(&["unshare"], || {
        let missed = [("SPANTAP_MISSES_SWITCHES", "returns")];
        let mut attached = Attached::lacking_with("sched_waking", Worker::start(), &missed);
        let slept = attached.run("sleep 20 10");
        let (spans, _) = attached.end();
        let sleeper = spans.one("sleeper");
        let (account, wall) = (sleeper.account(), number(&slept, "wall_ns"));
        // Half of the returns are not reported.
        assert_between("not seen", account["unseen"], 8 * 10_000_000, wall);
        assert_between("on CPU", account["on_cpu"], 0, 5_000_000);
        assert_near("in all", account.values().sum(), wall);
    });
}

/// Whichever switches are not reported, the sleeps of outer and inner spans are no time on the CPU.
#[test]
#[ignore = "deep: rare: a virtual machine that hides context switches"]
fn nested_spans_have_no_time_on_the_cpu_for_sleeps_that_are_not_reported() {
    with_kernel(&[], || {
        for what in ["returns", "leaves", "pairs"] {
            let (_, spans, _) = with_missed(what).run_all(["nest", "nest"]);
            let own = || spans.0.iter().filter(|span| !span.is_kernels);
            assert_eq!(own().count(), 2 * 5, "{what}");
            for span in own() {
                assert_between(what, span.account()["on_cpu"], 0, 10_000_000);
            }
            assert_add_up(&spans);
        }
    });
}

#[test]
#[ignore = "deep: rare: a kernel without a tracepoint"]
fn without_the_switches_there_is_no_account() {
    with_kernel(&["unshare"], || {
        let mut attached = Attached::lacking("sched_switch", Worker::start());
        attached.run("sleep 1 30");
        let (spans, ended) = attached.end();
        assert!(ended.stderr.contains("this kernel lacks the tracepoint sched_switch"), "{}", ended.stderr);
        assert!(!spans.one("sleeper").has_account(), "{:#?}", spans.0);
    });
}
