//! Block I/O.

use e2e::Ended;

use crate::found::{assert_lasted, assert_near, assert_no_misses, number, total_ns};
use crate::worker::{Attached, Worker, file_on_a_disk};
use crate::{repeat_if_unreported, with_kernel};

/// Each write is a child, and the waits for the disk add up. Repeated if the kernel did not report the end of a
/// write.
#[test]
fn writes_to_the_disk_are_children_with_device_and_bytes() {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let file = file_on_a_disk();
            let ([measured], spans, _) =
                Attached::start(&["--min", "0us"]).run_all([&*format!("write {} 16", file.path().display())]);
            let writer = spans.one("writer");
            let writes = spans.below(writer, "block write");
            assert!(writes.len() >= 16, "a sync for each of 16 pieces: {writes:#?}");
            let bytes: u64 = writes.iter().map(|write| write.number("kernel.block.bytes")).sum();
            assert!(bytes >= 16 << 16, "{bytes} of {}: {writes:#?}", 16 << 16);
            assert!(writes.iter().all(|write| !write.text("system.device").is_empty()), "{writes:#?}");
            // The thread waited for the disk.
            let account = writer.account();
            let off_cpu = number(&measured, "wall_ns") - account["on_cpu"] - account["preempted"];
            let waited = account["disk"] + account["sleep"] + account["blocked"] + account["run_queue"];
            assert_near("waiting", waited, off_cpu);
            assert!(account["disk"] > 0, "{account:?}");
            let waits = spans.below(writer, "disk wait");
            assert_near("disk", total_ns(&waits), account["disk"]);
        })
    });
}

/// The device gets the whole request at once, so the time from the first submission to the last completion is
/// the time of the call. Repeated if the kernel did not report the end of a write.
#[test]
fn a_request_to_the_disk_takes_as_long_as_the_program_measured() {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let file = file_on_a_disk();
            let ([measured], spans, ended) = Attached::start(&["--min", "0us"])
                .run_all([&*format!("direct {} 64", file.path().display())]);
            assert_no_misses(&ended.stderr);
            let writes = spans.below(spans.one("direct"), "block write");
            let bytes: u64 = writes.iter().map(|write| write.number("kernel.block.bytes")).sum();
            assert_eq!(bytes, number(&measured, "bytes"), "{writes:#?}");
            let first = writes.iter().map(|write| write.start_ns).min().unwrap();
            let last = writes.iter().map(|write| write.end_ns).max().unwrap();
            // After the last completion, the thread waited for a CPU.
            assert_lasted("from the first to the last", last - first, &measured);
        })
    });
}

#[test]
#[ignore = "deep: rare: a virtual machine that hides the ends of block requests"]
fn block_requests_whose_end_is_not_reported_are_counted() {
    with_kernel(&["unshare"], || {
        let file = file_on_a_disk();
        let (_, spans, Ended { stderr, .. }) = Attached::lacking("block_rq_complete", Worker::start())
            .run_all([&*format!("write {} 16", file.path().display())]);
        let mut lines = stderr.lines();
        let line = lines.find(|line| line.ends_with("block requests: the kernel did not report their end"));
        let count = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        assert!(count.is_some_and(|count| count >= 16), "a sync for each of 16 pieces: {stderr}");
        assert!(spans.0.iter().all(|span| span.name != "block write"), "{:#?}", spans.0);
    });
}
