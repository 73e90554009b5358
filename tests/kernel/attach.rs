//! Attaching and detaching, and what is said where that cannot be.

use std::process::Command;

use e2e::{Ended, Spantap, program, wait_until};
use nix::sys::signal::{Signal, kill};

use crate::with_kernel;
use crate::worker::{Attached, Worker, file_on_a_disk};

/// Whether the program's probes are attached to, by its own semaphores: its stack is one that asks them.
fn is_attached(fixture: &mut e2e::Fixture) -> bool {
    fixture.run("enabled") == "true"
}

fn gated() -> e2e::Fixture {
    let mut command = Command::new(e2e::Build::Release.path(e2e::Linkage::Executable, 0));
    e2e::Fixture::spawn(command.env("FIXTURE_STACK", "gate"), None)
}

#[test]
fn it_detaches_also_when_it_is_killed() {
    with_kernel(&[], || {
        let mut fixture = gated();
        let pid = fixture.pid().to_string();
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            assert!(!is_attached(&mut fixture));
            let spantap = Spantap::attach(&["--pid", &pid]);
            wait_until("the program notices", || is_attached(&mut fixture));
            kill(spantap.pid(), signal).unwrap();
            spantap.wait();
            wait_until("the program is as before", || !is_attached(&mut fixture));
        }
        fixture.end();
    });
}

/// What it says where it can't attach.
fn refusal(args: &[&str]) -> String {
    let output = Command::new(program("spantap")).arg("attach").args(args).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_is_missing_is_said_in_a_line() {
    with_kernel(&["unshare", "setpriv"], || {
        let gone = {
            let mut child = Command::new("true").spawn().unwrap();
            child.wait().unwrap();
            child.id().to_string()
        };
        let own = std::process::id().to_string();
        for (args, expected) in [
            (["--pid", &*gone], "there is no process"),
            (["--pid", "2"], "is a thread of the kernel"),
            (["--pid", &*own], "have probes of tracing-usdt"),
            (["--exe", "/bin/true"], "has no probes of tracing-usdt"),
            (["--exe", "/nowhere/app"], "there is no /nowhere/app"),
            (["--exe", "app"], "has to be named whole"),
        ] {
            let said = refusal(&args);
            assert!(said.contains(expected) && said.lines().count() == 1, "{args:?}: {said}");
        }
        let worker = Worker::start();
        // What the kernel doesn't have is hidden from it.
        let hide = "mount -t tmpfs tmpfs /sys/kernel/btf && exec \"$@\"";
        let mut without = Command::new("unshare");
        without.args(["--mount", "sh", "-c", hide, "sh"]).arg(program("spantap"));
        let output = without.args(["attach", "--pid", &worker.pid()]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("CONFIG_DEBUG_INFO_BTF") && said.lines().count() == 1, "{said}");
        let mut elsewhere = Command::new("unshare");
        elsewhere.args(["--pid", "--fork", "--mount-proc"]).arg(program("spantap"));
        let output = elsewhere.args(["attach", "--pid", "1"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("pid namespace of its own") && said.lines().count() == 1, "{said}");
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid", "65534", "--clear-groups"]).arg(program("spantap"));
        // By its path, which anybody may read.
        let output = nobody.args(["attach", "--pid", &worker.pid()]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("sudo spantap attach") && said.lines().count() == 1, "{said}");
        worker.end();
    });
}

#[test]
fn a_kernel_that_lacks_a_tracepoint_is_looked_at_for_the_rest() {
    with_kernel(&["unshare"], || {
        let mut attached = Attached::lacking("block_io_start", Worker::start());
        attached.run("sleep 1 10");
        let file = file_on_a_disk();
        attached.run(&format!("write {} 1", file.path().display()));
        let (spans, Ended { stderr, .. }) = attached.end();
        assert!(
            stderr.contains("lacks the tracepoint block_io_start: without it, less is seen of block"),
            "{stderr}"
        );
        assert_eq!(spans.below(spans.one("sleeper"), "sleep").len(), 1, "{:#?}", spans.0);
        assert_eq!(spans.own("writer").count(), 1);
    });
}
