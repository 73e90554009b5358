//! Attaching and detaching, and the errors if spantap can't attach.

use std::process::Command;

use e2e::{Ended, Spantap, program, wait_until};
use nix::sys::signal::{Signal, kill};

use crate::with_kernel;
use crate::worker::{Attached, Worker, file_on_a_disk};

/// Whether a consumer is attached, by the program's own semaphores: its on-demand filter checks them.
fn is_attached(fixture: &mut e2e::Fixture) -> bool {
    fixture.run("enabled") == "true"
}

fn start_with_on_demand_filter() -> e2e::Fixture {
    let mut command = Command::new(e2e::Build::Release.path(e2e::Linkage::Executable, 0));
    e2e::Fixture::spawn(command.env("FIXTURE_STACK", "gate"), None)
}

#[test]
fn spantap_detaches_also_when_it_is_killed() {
    with_kernel(&[], || {
        let mut fixture = start_with_on_demand_filter();
        let pid = fixture.pid().to_string();
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            assert!(!is_attached(&mut fixture));
            let spantap = Spantap::attach(&["--pid", &pid]);
            wait_until("the program notices", || is_attached(&mut fixture));
            kill(spantap.pid(), signal).unwrap();
            spantap.wait();
            wait_until("the program notices the detach", || !is_attached(&mut fixture));
        }
        fixture.end();
    });
}

/// The error of a spantap that can't attach.
fn refusal(args: &[&str]) -> String {
    let output = Command::new(program("spantap")).arg("attach").args(args).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn missing_requirements_are_reported_in_one_line() {
    with_kernel(&["unshare", "setpriv"], || {
        let gone = {
            let mut child = Command::new("true").spawn().unwrap();
            child.wait().unwrap();
            child.id().to_string()
        };
        let own = std::process::id().to_string();
        for (args, expected) in [
            (["--pid", &*gone], "there is no process"),
            (["--pid", "2"], "is a kernel thread"),
            (["--pid", &*own], "have probes of tracing-usdt"),
            (["--exe", "/bin/true"], "has no probes of tracing-usdt"),
            (["--exe", "/nowhere/app"], "there is no /nowhere/app"),
            (["--exe", "app"], "give the whole path of a program on the PATH"),
        ] {
            let error = refusal(&args);
            assert!(error.contains(expected) && error.lines().count() == 1, "{args:?}: {error}");
        }
        let worker = Worker::start();
        // Hides the kernel's types.
        let hide = "mount -t tmpfs tmpfs /sys/kernel/btf && exec \"$@\"";
        let mut without = Command::new("unshare");
        without.args(["--mount", "sh", "-c", hide, "sh"]).arg(program("spantap"));
        let output = without.args(["attach", "--pid", &worker.pid()]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("CONFIG_DEBUG_INFO_BTF") && error.lines().count() == 1, "{error}");
        let mut elsewhere = Command::new("unshare");
        elsewhere.args(["--pid", "--fork", "--mount-proc"]).arg(program("spantap"));
        let output = elsewhere.args(["attach", "--pid", "1"]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("this pid namespace") && error.lines().count() == 1, "{error}");
        let mut as_nobody = Command::new("setpriv");
        as_nobody.args(["--reuid", "65534", "--clear-groups"]).arg(program("spantap"));
        // By the worker's pid, as another user.
        let output = as_nobody.args(["attach", "--pid", &worker.pid()]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("sudo spantap attach") && error.lines().count() == 1, "{error}");
        worker.end();
    });
}

#[test]
#[ignore = "deep: rare: a kernel without a tracepoint"]
fn without_a_tracepoint_spantap_reports_the_rest() {
    with_kernel(&["unshare"], || {
        let mut attached = Attached::lacking("block_io_start", Worker::start());
        attached.run("sleep 1 10");
        let file = file_on_a_disk();
        attached.run(&format!("write {} 1", file.path().display()));
        let (spans, Ended { stderr, .. }) = attached.end();
        assert!(
            stderr.contains("lacks the tracepoint block_io_start: the block activity is incomplete"),
            "{stderr}"
        );
        assert!(spans.one("sleeper").has_account(), "{:#?}", spans.0);
        assert_eq!(spans.own("writer").count(), 1);
    });
}
