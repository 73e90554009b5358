//! Programs that are started.

use crate::found::{Found, assert_lasted};
use crate::with_kernel;
use crate::worker::Attached;

/// Has a program run, which is the only child, ends with the code, and lasts from its fork to its exit.
#[track_caller]
fn assert_child(program: &str, code: u64) -> Found {
    let ([ended], spans, _) = Attached::start(&[]).run_all([&*format!("exec {program}")]);
    let [exec] = spans.below(spans.one("parent"), "exec")[..] else { panic!("{:#?}", spans.0) };
    assert_eq!((exec.number_of("kernel.exec.exit_code"), ended["code"].as_u64()), (Some(code), Some(code)));
    // Before and after it the parent makes pipes and reads them, and on a busy machine the end of a child takes some
    // milliseconds: so it is one that lasts.
    assert_lasted("the child", exec.duration_ns(), &ended);
    exec.clone()
}

#[test]
fn a_child_lasts_from_its_fork_to_its_exit() {
    with_kernel(&[], || {
        let exec = assert_child("sleep 0.5", 0);
        assert!(exec.text("kernel.exec.path").ends_with("/sleep"), "{exec:#?}");
    });
}

#[test]
fn children_are_seen_with_the_code_that_they_end_with() {
    with_kernel(&[], || {
        let (ended, spans, _) = Attached::start(&[]).run_all(["exec true", "exec false"]);
        assert_eq!(ended.map(|ended| ended["code"].as_u64()), [Some(0), Some(1)]);
        let children = spans.own("parent").flat_map(|parent| spans.below(parent, "exec"));
        let codes: Vec<_> = children.map(|exec| exec.number_of("kernel.exec.exit_code")).collect();
        assert_eq!(codes, [Some(0), Some(1)]);
    });
}

#[test]
fn a_child_of_many_threads_ends_once_and_with_the_last_of_them() {
    with_kernel(&[], || drop(assert_child(concat!(env!("CARGO_BIN_EXE_kernel_work"), " threads"), 3)));
}

/// By a thread that is not its first.
#[test]
fn a_child_that_becomes_another_program_is_one() {
    with_kernel(&[], || drop(assert_child(concat!(env!("CARGO_BIN_EXE_kernel_work"), " become"), 0)));
}
