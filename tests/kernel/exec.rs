//! Programs that are started.

use crate::found::{Found, Spans, assert_lasted};
use crate::with_kernel;
use crate::worker::Attached;

/// The only child, and the code that it ended with.
#[track_caller]
fn the_child(spans: &Spans) -> (&Found, Option<u64>) {
    let [exec] = spans.below(spans.one("parent"), "exec")[..] else { panic!("{:#?}", spans.0) };
    (exec, exec.number_of("kernel.exec.exit_code"))
}

#[test]
fn a_child_lasts_from_its_fork_to_its_exit() {
    with_kernel(&[], || {
        let ([slept], spans, _) = Attached::start(&[]).run_all(["exec sleep 0.5"]);
        let (exec, code) = the_child(&spans);
        assert!(exec.text("kernel.exec.path").ends_with("/sleep"), "{exec:#?}");
        assert_eq!(code, Some(0));
        // Before and after it the parent makes pipes and reads them, and on a busy machine the end of a child takes some
        // milliseconds: so it is one that lasts.
        assert_lasted("the child", exec.duration_ns(), &slept);
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
    with_kernel(&[], || {
        let command = concat!("exec ", env!("CARGO_BIN_EXE_kernel_work"), " threads");
        let ([ended], spans, _) = Attached::start(&[]).run_all([command]);
        let (exec, code) = the_child(&spans);
        assert_eq!((code, ended["code"].as_u64()), (Some(3), Some(3)));
        assert_lasted("its threads", exec.duration_ns(), &ended);
    });
}

/// By a thread that is not its first.
#[test]
fn a_child_that_becomes_another_program_is_one() {
    with_kernel(&[], || {
        let command = concat!("exec ", env!("CARGO_BIN_EXE_kernel_work"), " become");
        let ([ended], spans, _) = Attached::start(&[]).run_all([command]);
        let (exec, code) = the_child(&spans);
        assert_eq!((code, ended["code"].as_u64()), (Some(0), Some(0)));
        assert_lasted("what it became", exec.duration_ns(), &ended);
    });
}
