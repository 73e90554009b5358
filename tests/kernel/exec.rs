//! Child programs.

use crate::found::{Found, assert_lasted};
use crate::with_kernel;
use crate::worker::Attached;

/// Runs a program. Checks that it is the only child, that it ends with `code`, and that its span lasts from its
/// fork to its exit.
#[track_caller]
fn assert_child(program: &str, code: u64) -> Found {
    let ([ended], spans, _) = Attached::start(&[]).run_all([&*format!("exec {program}")]);
    let [exec] = spans.below(spans.one("parent"), "exec")[..] else { panic!("{:#?}", spans.0) };
    assert_eq!((exec.number_of("kernel.exec.exit_code"), ended["code"].as_u64()), (Some(code), Some(code)));
    // The parent's own work around the child takes some milliseconds on a busy machine, so the child has to
    // last much longer.
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
fn children_are_reported_with_their_exit_codes() {
    with_kernel(&[], || {
        let (ended, spans, _) = Attached::start(&[]).run_all(["exec true", "exec false"]);
        assert_eq!(ended.map(|ended| ended["code"].as_u64()), [Some(0), Some(1)]);
        let children = spans.own("parent").flat_map(|parent| spans.below(parent, "exec"));
        let codes: Vec<_> = children.map(|exec| exec.number_of("kernel.exec.exit_code")).collect();
        assert_eq!(codes, [Some(0), Some(1)]);
    });
}

#[test]
fn a_child_with_many_threads_ends_with_the_last_of_them() {
    with_kernel(&[], || drop(assert_child(concat!(env!("CARGO_BIN_EXE_kernel_work"), " threads"), 3)));
}

/// A thread that is not its first executes the other program.
#[test]
fn a_child_that_executes_another_program_is_one_child() {
    with_kernel(&[], || drop(assert_child(concat!(env!("CARGO_BIN_EXE_kernel_work"), " become"), 0)));
}
