//! The processes that spantap follows, and until when.

use std::process::Command;

use e2e::{Spantap, wait_until};

use crate::found::{Found, assert_no_misses_of_spantap};
use crate::worker::{Attached, Output, Worker};
use crate::{repeat_if_unreported, with_kernel};

/// Repeated if the kernel did not report a context switch, because each process sleeps only once.
#[test]
fn processes_of_an_executable_are_followed_whenever_they_start() {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let output = Output::new();
            let exe = output.worker();
            let start = || Worker::spawn(&mut Command::new(&exe));
            let mut before = start();
            let spantap = Spantap::attach(&["--exe", &exe.to_string_lossy(), "--to", &output.to()]);
            before.run("sleep 1 10");
            let mut after = start();
            after.run("sleep 1 10");
            // This worker is killed inside a span. The next one starts after that.
            after.begin("sleep 1 100000");
            wait_until("both sleepers are forwarded", || output.spans().own("sleeper").count() == 2);
            drop(after);
            let mut third = start();
            third.run("sleep 1 10");
            third.end();
            before.end();
            let ended = spantap.terminate();
            assert!(ended.status.success(), "{ended:?}");
            let spans = output.spans();
            assert_eq!(spans.own("sleeper").count(), 3);
            for sleeper in spans.own("sleeper") {
                assert_eq!(spans.below(sleeper, "sleep").len(), 1, "{:#?}", spans.0);
            }
        })
    });
}

/// The process is in a container, so on the host the path of its executable leads to another file.
#[test]
fn a_process_with_another_root_is_reached_through_proc() {
    with_kernel(&["unshare"], || {
        let mount = "mount -t tmpfs tmpfs /mnt && cp \"$0\" /mnt/hidden && exec /mnt/hidden";
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            mount,
            env!("CARGO_BIN_EXE_kernel_work"),
        ]);
        let mut worker = Worker::spawn(&mut command);
        // unshare's only child.
        let children = format!("/proc/{0}/task/{0}/children", worker.pid());
        let pid = std::fs::read_to_string(children).unwrap().trim().to_owned();
        let output = Output::new();
        let spantap = Spantap::attach(&["--pid", &pid, "--to", &output.to()]);
        worker.run("sleep 1 10");
        drop(worker.stdin.take());
        let ended = spantap.wait();
        assert!(ended.status.success(), "{ended:?}");
        let spans = output.spans();
        assert!(spans.one("sleeper").has_account(), "{:#?}", spans.0);
    });
}

/// The process is not a Rust program, but has loaded a library with the layer.
#[test]
fn probes_in_a_library_of_the_process_are_found() {
    with_kernel(&["python3"], || {
        let path = e2e::Build::Release.path(e2e::Linkage::Cdylib, 0);
        let mut fixture = e2e::Fixture::start(&path, e2e::Linkage::Cdylib, None);
        let spantap = Spantap::attach(&["--pid", &fixture.pid().to_string(), "--min", "1ms"]);
        fixture.run("wait");
        fixture.end();
        let ended = spantap.wait();
        assert!(ended.status.success() && ended.stdout.contains("sleeper"), "{ended:?}");
        assert!(
            ended.stdout.contains("├ sleep  waker=") || ended.stdout.contains("└ sleep  waker="),
            "{ended:?}"
        );
    });
}

/// spantap is attached to the process only.
#[test]
fn a_process_is_followed_until_its_last_thread_ends() {
    with_kernel(&[], || {
        let mut attached = Attached::start(&[]);
        attached.run("outlive 1000");
        let ended = attached.spantap.wait();
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(attached.output.spans().own("last words").count(), 1);
    });
}

/// The process is killed, or executes another program.
#[test]
fn spantap_ends_with_its_process_and_forwards_what_it_has_seen() {
    with_kernel(&[], || {
        for (last, kernel) in [("sleep 1 100000", "sched,exec"), ("become sleep 0.1", "sched")] {
            let mut attached = Attached::start(&["--kernel", kernel]);
            attached.run("sleep 1 10");
            attached.worker.begin(last);
            std::thread::sleep(std::time::Duration::from_millis(200));
            if last.starts_with("sleep") {
                attached.worker.child.kill().unwrap();
            }
            attached.worker.child.wait().unwrap();
            let ended = attached.spantap.wait();
            assert!(ended.status.success(), "{ended:?}");
            let spans = attached.output.spans();
            assert!(spans.one("sleeper").has_account(), "{:#?}", spans.0);
            assert_eq!(spans.0.iter().filter(|span| !span.is_kernels).count(), 1, "{:#?}", spans.0);
            // The other program's sleep must not be in a span of the first one.
            let sleeper = spans.one("sleeper");
            let mut strays = spans.0.iter().filter(|span| span.name == "sleep" && span.parent != sleeper.id);
            let is_short = strays.all(|stray| stray.duration_ns() < 50_000_000);
            assert!(is_short || last.starts_with("sleep"), "{:#?}", spans.0);
        }
    });
}

/// Short activity is aggregated per span. The killed process had a span open, and is reaped before spantap
/// sweeps.
/// Repeated if the kernel did not report a context switch, because each span sleeps only once.
#[test]
fn short_activity_of_a_killed_process_is_reported() {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let mut attached = Attached::start(&["--min", "1000s"]);
            attached.run("sleep 1 10");
            attached.worker.begin("sleep 1 100000");
            std::thread::sleep(std::time::Duration::from_millis(200));
            attached.worker.child.kill().unwrap();
            attached.worker.child.wait().unwrap();
            let ended = attached.spantap.wait();
            assert!(ended.status.success(), "{ended:?}");
            assert_no_misses_of_spantap(&ended.stderr);
            let spans = attached.output.spans();
            let sleeper = spans.one("sleeper");
            let open = spans.0.iter().find(|span| span.name == "sleep" && span.parent != sleeper.id);
            assert!(open.is_some_and(|sleep| sleep.total_ns() > 20_000_000), "{:#?}", spans.0);
        })
    });
}

/// The second process has the pid of one that was killed inside a span.
/// Repeated if the kernel did not report a context switch, because the sleeps are counted.
#[test]
fn a_pid_that_is_used_again_is_another_process() {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let output = Output::new();
            let exe = output.worker();
            let start = |service: &str| Worker::spawn(Command::new(&exe).env("OTEL_SERVICE_NAME", service));
            let spantap =
                Spantap::attach(&["--exe", &exe.to_string_lossy(), "--to", &output.to(), "--min", "1ms"]);
            let mut first = start("first");
            first.run("sleep 1 10");
            first.run("enter");
            let pid = first.child.id();
            wait_until("the first sleeper is forwarded", || output.spans().own("sleeper").count() == 1);
            drop(first);
            let mut second = None;
            wait_until("another process gets the pid", || {
                std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
                let worker = start("second");
                let is_it = worker.child.id() == pid;
                second = Some(worker).filter(|_| is_it);
                is_it
            });
            let mut second = second.unwrap();
            second.run("sleep 3 10");
            second.end();
            let ended = spantap.terminate();
            assert!(ended.status.success(), "{ended:?}");
            let spans = output.spans();
            let sleepers: Vec<&Found> = spans.own("sleeper").collect();
            let [first, second] = sleepers[..] else { panic!("{sleepers:#?}") };
            assert_eq!((&*first.service, &*second.service), ("first", "second"));
            let sleeps = spans.below(second, "sleep");
            assert!(sleeps.len() == 3 && sleeps.iter().all(|sleep| sleep.service == "second"), "{sleeps:#?}");
        })
    });
}

/// The layer gathers closed spans for 20 ms.
#[test]
fn spans_that_end_right_before_the_stop_arrive() {
    with_kernel(&[], || {
        for kernel in ["none", "none", "sched"] {
            let output = Output::new();
            let mut worker = Worker::start();
            let spantap =
                Spantap::attach(&["--pid", &worker.pid(), "--to", &output.to(), "--kernel", kernel]);
            // The first span starts the layer's thread, the second one finds it gathering.
            for _ in 0..2 {
                worker.run("sleep 1 1");
            }
            let ended = spantap.terminate();
            assert_eq!(output.spans().own("sleeper").count(), 2, "{kernel}: {}", ended.stderr);
            worker.end();
        }
    });
}
