//! A span's account, and the stretches off the CPU that are its children.

use std::process::Command;

use e2e::{Cgroup, Ended, wait_until};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::found::{Found, assert_add_up, assert_between, assert_near, assert_near_of, number, total_ns};
use crate::with_kernel;
use crate::worker::{Attached, Worker, file_on_a_disk};

#[test]
fn time_asleep_and_on_the_cpu_is_what_the_program_measured() {
    with_kernel(&[], || {
        assert_sleeps_and_spins(Attached::start(&["--min", "0us"]));
    });
}

#[test]
fn two_threads_on_one_cpu_preempt_each_other() {
    with_kernel(&[], || {
        assert_preempted(Attached::start(&["--min", "0us"]));
    });
}

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
        assert_add_up(&spans, 20);
    });
}

/// Held against the kernel's own count for the control group, in which there is but one thread that runs.
#[test]
fn time_that_a_quota_takes_is_known() {
    // Before, a thread doesn't know that it is throttled.
    with_kernel(&["linux:6.18", "cgroup"], || {
        let cgroup = Cgroup::with_quota(20);
        let mut attached = Attached::start(&["--min", "5ms"]);
        cgroup.take(&attached.worker.pid());
        let waited = number(&attached.run("spin 600"), "waited_ns");
        let throttled = cgroup.throttled_ns();
        let (spans, _) = attached.end();
        let spinner = spans.one("spinner");
        assert!(throttled > 200_000_000, "{throttled}");
        // With it is the wait for a CPU after it, which on a busy machine is long.
        let found = spinner.account()["throttled"];
        let margin = throttled / 20;
        assert!(
            found + margin >= throttled && found <= throttled + waited + margin,
            "found {found} ns, by the group's count {throttled} ns, and {waited} ns of waiting"
        );
        assert!(spans.below(spinner, "throttled").len() >= 3, "{:#?}", spans.0);
    });
}

/// Virtual machines were seen to whose kernel tells nothing of a change from certain threads to others. How long one
/// of these has waited, it counts all the same.
#[test]
fn threads_that_get_the_cpu_untold_have_their_time_by_the_kernels_count() {
    with_kernel(&[], || {
        let untold = || {
            let environment = [("SPANTAP_MISSES_RETURNS", "1")];
            let attached = Attached::with(Worker::start(), &["--min", "0us"], &environment);
            let told = || attached.spantap.stderr().contains("it misses changes of threads");
            wait_until("spantap says that it misses some", told);
            attached
        };
        assert_sleeps_and_spins(untold());
        assert_preempted(untold());
    });
}

/// It sleeps, and then spins.
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
        "of the timer: {sleeps:#?}"
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

/// Its threads preempt each other.
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

/// The same of what it does not tell of wake-ups: by whom is not known then, but when.
#[test]
fn threads_that_are_woken_untold_have_slept_until_then() {
    with_kernel(&["unshare", "taskset"], || {
        // Three want one processor.
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let cpu = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap()).unwrap().to_string();
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &cpu, env!("CARGO_BIN_EXE_kernel_work")]);
        let mut start = || Worker::spawn(&mut command);
        let (mut attached, mut others) = (Attached::lacking("sched_waking", start()), [start(), start()]);
        for other in &mut others {
            other.tell("spin 60000");
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

/// Not even that it leaves the CPU is told.
#[test]
fn time_of_which_the_kernel_tells_nothing_is_not_taken_for_time_on_the_cpu() {
    with_kernel(&["unshare"], || {
        let mut attached = Attached::lacking("sched_switch", Worker::start());
        let slept = attached.run("sleep 1 30");
        let spins = 20;
        for _ in 0..spins {
            attached.run("spin 0");
        }
        let (spans, Ended { stderr, .. }) = attached.end();
        assert!(
            stderr.contains("stretches of time: the kernel did not tell where the thread was"),
            "{stderr}"
        );
        let sleeper = spans.one("sleeper");
        let account = sleeper.account();
        assert_near("not seen", account["unseen"], number(&slept, "wall_ns"));
        assert_eq!(sleeper.text("kernel.partial"), "the kernel did not tell of all changes of its thread");
        // They are so short that few lose the CPU.
        let has_all = |span: &&Found| span.account()["on_cpu"] > 0 && span.text("kernel.partial").is_empty();
        assert!(spans.own("spinner").filter(has_all).count() > spins / 2, "{:#?}", spans.0);
    });
}
