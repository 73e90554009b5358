//! Processes whose memory the kernel has taken. A program in the kernel can't wait until it is read from the disk: what it
//! can't read is counted, and nothing is wrong.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use e2e::{Swap, need};

use crate::foreign::{FIRST, Foreign, assert_are_in_spans, below, compile};
use crate::found::{Found, assert_near};
use crate::with_kernel;
use crate::worker::{Attached, Worker};

const UNREADABLE: &str = "missed reads of the spans that a thread is in: its memory could not be read";

fn swap() -> Option<Swap> {
    Swap::on(Path::new(env!("CARGO_TARGET_TMPDIR")))
}

/// Takes the memory of process `pid` again and again for 900 ms.
fn take_memory(swap: &Swap, pid: u32) {
    for _ in 0..18 {
        let bytes = swap.page_out(pid);
        assert!(bytes > 0, "nothing was written to the disk");
        sleep(Duration::from_millis(50));
    }
}

/// Each is one of the program's ten sleeps of 100 ms, of which some may be missing.
#[track_caller]
fn assert_are_sleeps(sleeps: &[&Found], most: usize) {
    assert!(sleeps.len() <= most, "{sleeps:#?}");
    // Once awake, it waits for its memory.
    assert!(
        sleeps.iter().all(|sleep| (100..200).contains(&(sleep.duration_ns() / 1_000_000))),
        "{sleeps:#?}"
    );
}

#[test]
#[ignore = "deep: makes a swap file"]
fn a_span_whose_thread_could_not_be_read_says_so() {
    with_kernel(&[], || {
        let Some(swap) = swap() else { return };
        let worker = Worker::start();
        // It is read from the disk when spantap attaches.
        assert!(swap.page_out(worker.child.id()) > 0, "nothing was written to the disk");
        let mut attached = Attached::to(worker, &["--min", "10ms"]);
        attached.run("spin 20");
        attached.worker.begin("sleep 10 100");
        take_memory(&swap, attached.worker.child.id());
        attached.worker.line();
        // What is lost counts for all spans of a batch.
        attached.run("pause 200");
        attached.run("sleep 3 100");
        let (spans, ended) = attached.end();
        assert!(ended.stderr.contains(UNREADABLE), "{}", ended.stderr);

        let sleepers: Vec<&Found> = spans.own("sleeper").collect();
        let [unreadable, readable] = sleepers[..] else { panic!("{:#?}", spans.0) };
        assert_eq!(unreadable.text("kernel.partial"), "its threads were not followed all the time");
        let sleeps = spans.below(unreadable, "sleep");
        assert_are_sleeps(&sleeps, 9);
        let account = unreadable.account();
        // Nothing is counted twice, and what was not seen is not taken for time on the CPU.
        let of_children: u64 = sleeps.iter().map(|sleep| sleep.duration_ns()).sum();
        assert_near("sleep", account["sleep"], of_children);
        let missing_ns = (10 - sleeps.len() as u64) * 100_000_000;
        assert!(account["unseen"] >= missing_ns, "{unreadable:#?}");
        assert!(account["on_cpu"] < 100_000_000, "{unreadable:#?}");
        assert_eq!(account.values().sum::<u64>(), unreadable.number("busy_ns"), "{unreadable:#?}");

        for whole in [spans.one("spinner"), readable] {
            assert_eq!(whole.text("kernel.partial"), "", "{whole:#?}");
        }
        let sleeps = spans.below(readable, "sleep");
        assert_eq!(sleeps.len(), 3, "{sleeps:#?}");
        assert_are_sleeps(&sleeps, 3);
    });
}

#[test]
#[ignore = "deep: makes a swap file"]
fn what_could_not_be_read_of_any_program_is_counted() {
    if !need(&["cc"]) {
        return;
    }
    with_kernel(&[], || {
        let Some(swap) = swap() else { return };
        let folder = tempfile::tempdir().unwrap();
        let export = "-Wl,--export-dynamic-symbol=otel_thread_ctx_v1";
        let executable = compile(&folder.path().join("executable"), &[export]);
        let mut foreign = Foreign::attach_with(&mut Command::new(executable), &["--kernel", "sched"]);
        foreign.begin("sleeps");
        take_memory(&swap, foreign.child.id());
        assert_eq!(foreign.answer(), "done");
        let (spans, stderr) = foreign.end();
        assert!(stderr.contains(UNREADABLE), "{stderr}");
        assert_are_in_spans(&spans);
        assert_are_sleeps(&below(&spans, FIRST, "sleep"), 9);
    });
}
