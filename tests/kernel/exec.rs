//! Programs that are started.

use crate::found::assert_near;
use crate::with_kernel;
use crate::worker::Attached;

#[test]
fn children_that_are_started_are_seen_with_their_end() {
    with_kernel(&[], || {
        let mut attached = Attached::start(&[]);
        let slept = attached.run("exec sleep 0.2");
        let (spans, _) = attached.end();
        let parent = spans.one("parent");
        let [exec] = spans.below(parent, "exec")[..] else { panic!("{:#?}", spans.0) };
        assert!(exec.text("kernel.exec.path").ends_with("/sleep"), "{exec:#?}");
        assert_eq!(exec.number("kernel.exec.exit_code"), 0);
        // From the fork to the exit; before and after it the parent makes pipes and reads them.
        let wall = slept["measured"]["wall_ns"].as_u64().unwrap();
        assert!(exec.duration_ns() <= wall, "{} of {wall}", exec.duration_ns());
        assert_near("the child", exec.duration_ns(), wall);

        let mut attached = Attached::start(&[]);
        for (program, code) in [("true", 0), ("false", 1)] {
            assert_eq!(attached.run(&format!("exec {program}"))["code"], code);
        }
        let (spans, _) = attached.end();
        let codes: Vec<u64> = spans
            .own("parent")
            .flat_map(|parent| spans.below(parent, "exec"))
            .map(|exec| exec.number("kernel.exec.exit_code"))
            .collect();
        assert_eq!(codes, [0, 1]);

        // Once, and when the last of its threads ends.
        let mut attached = Attached::start(&[]);
        let ended = attached.run(&format!("exec {} threads", env!("CARGO_BIN_EXE_kernel_work")));
        let (spans, _) = attached.end();
        let [exec] = spans.below(spans.one("parent"), "exec")[..] else { panic!("{:#?}", spans.0) };
        assert_eq!((exec.number("kernel.exec.exit_code"), ended["code"].as_u64()), (3, Some(3)));
        assert_near("its threads", exec.duration_ns(), ended["measured"]["wall_ns"].as_u64().unwrap());

        // Another of its threads runs another program.
        let mut attached = Attached::start(&[]);
        let ended = attached.run(&format!("exec {} become", env!("CARGO_BIN_EXE_kernel_work")));
        let (spans, _) = attached.end();
        let [exec] = spans.below(spans.one("parent"), "exec")[..] else { panic!("{:#?}", spans.0) };
        assert_eq!((exec.number("kernel.exec.exit_code"), ended["code"].as_u64()), (0, Some(0)));
        assert_near("what it became", exec.duration_ns(), ended["measured"]["wall_ns"].as_u64().unwrap());
    });
}
