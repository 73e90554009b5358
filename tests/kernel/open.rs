//! Spans that hang, seen by the probes.

use e2e::wait_until;

use crate::with_kernel;
use crate::worker::Attached;

/// Also if no span has closed, so that nothing else would start the layer's thread.
#[test]
fn a_hang_is_shown_while_it_lasts_and_when_the_process_is_killed() {
    with_kernel(&[], || {
        for kernel in ["sched,block,net,exec", "none"] {
            let mut attached = Attached::start(&["--kernel", kernel]);
            attached.run("enter");
            let line = format!("kernel_work[{}] early {{field=7}} (trace ", attached.worker.pid());
            wait_until("the hang is shown", || attached.spantap.stderr().contains(&line));
            assert!(attached.spantap.stdout().is_empty());
            attached.worker.child.kill().unwrap();
            let Attached { spantap, output, .. } = attached;
            let ended = spantap.wait();
            assert!(ended.status.success(), "{ended:?}");
            assert!(
                ended.stderr.contains(" has ended; 1 span was open by its last report, "),
                "{}",
                ended.stderr
            );
            assert!(ended.stdout.contains("early (still open)"), "{}", ended.stdout);
            assert_eq!(output.spans().own("early").count(), 0, "not forwarded");
        }
    });
}

#[test]
fn a_hang_that_ends_is_a_span_like_any_other() {
    with_kernel(&[], || {
        let mut attached = Attached::start(&["--kernel", "none"]);
        attached.run("enter");
        wait_until("the hang is shown", || attached.spantap.stderr().contains("still open after "));
        attached.run("leave");
        let (spans, ended) = attached.end();
        assert_eq!(spans.own("early").count(), 1);
        assert!(!ended.stderr.contains("has ended"), "{}", ended.stderr);
        assert!(!ended.stdout.contains("still open"), "{}", ended.stdout);
    });
}

/// Once nobody looks, the layer's thread sleeps until somebody does.
#[test]
fn the_thread_looks_again_for_the_next_consumer() {
    with_kernel(&[], || {
        let mut attached = Attached::start(&["--kernel", "none"]);
        attached.run("open 1");
        attached.run("close 1");
        wait_until("a span arrives", || attached.output.spans().own("inner of long").count() == 1);
        let Attached { worker, spantap, .. } = attached;
        spantap.terminate();
        // Until the thread is quiet.
        std::thread::sleep(std::time::Duration::from_secs(2));
        let mut attached = Attached::to(worker, &["--kernel", "none"]);
        attached.run("enter");
        wait_until("the hang is shown", || attached.spantap.stderr().contains("still open after "));
        attached.run("leave");
        attached.end();
    });
}
