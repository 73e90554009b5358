//! Block I/O.

use e2e::Ended;

use crate::found::{assert_all_told, assert_lasted, assert_near, number, total_ns};
use crate::with_kernel;
use crate::worker::{Attached, Worker, file_on_a_disk};

#[test]
fn writes_to_the_disk_are_children_with_device_and_bytes() {
    with_kernel(&[], || {
        let file = file_on_a_disk();
        let ([measured], spans, _) =
            Attached::start(&["--min", "0us"]).run_all([&*format!("write {} 16", file.path().display())]);
        let writer = spans.one("writer");
        let writes = spans.below(writer, "block write");
        assert!(writes.len() >= 16, "a sync for each of 16 pieces: {writes:#?}");
        let bytes: u64 = writes.iter().map(|write| write.number("kernel.block.bytes")).sum();
        assert!(bytes >= 16 << 16, "{bytes} of {}: {writes:#?}", 16 << 16);
        assert!(writes.iter().all(|write| !write.text("system.device").is_empty()), "{writes:#?}");
        // What the thread waited for is the disk.
        let account = writer.account();
        let off_cpu = number(&measured, "wall_ns") - account["on_cpu"] - account["preempted"];
        let waited = account["disk"] + account["sleep"] + account["blocked"] + account["run_queue"];
        assert_near("waiting", waited, off_cpu);
        assert!(account["disk"] > 0, "{account:?}");
        let waits = spans.below(writer, "disk wait");
        assert_near("disk", total_ns(&waits), account["disk"]);
    });
}

/// Of a device that has all of it at once, the time from the first submission to the last completion is the call's.
#[test]
fn a_request_to_the_disk_takes_as_long_as_the_program_measured() {
    with_kernel(&[], || {
        let file = file_on_a_disk();
        let ([measured], spans, ended) =
            Attached::start(&["--min", "0us"]).run_all([&*format!("direct {} 64", file.path().display())]);
        assert_all_told(&ended.stderr);
        let writes = spans.below(spans.one("direct"), "block write");
        let bytes: u64 = writes.iter().map(|write| write.number("kernel.block.bytes")).sum();
        assert_eq!(bytes, number(&measured, "bytes"), "{writes:#?}");
        let first = writes.iter().map(|write| write.start_ns).min().unwrap();
        let last = writes.iter().map(|write| write.end_ns).max().unwrap();
        // Behind the last it had to get a CPU.
        assert_lasted("from the first to the last", last - first, &measured);
    });
}

#[test]
fn requests_whose_end_is_not_told_are_counted() {
    with_kernel(&["unshare"], || {
        let file = file_on_a_disk();
        let (_, spans, Ended { stderr, .. }) = Attached::lacking("block_rq_complete", Worker::start())
            .run_all([&*format!("write {} 16", file.path().display())]);
        let mut lines = stderr.lines();
        let line = lines.find(|line| line.ends_with("block requests: the kernel did not tell of their end"));
        let count = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        assert!(count.is_some_and(|count| count >= 16), "a sync for each of 16 pieces: {stderr}");
        assert!(spans.0.iter().all(|span| span.name != "block write"), "{:#?}", spans.0);
    });
}
