//! A collector with a spool is killed again and again while it receives spans. Each closed span is forwarded,
//! or counted as lost by its sender or by the next collector.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use e2e::{Build, Fixture, Linkage, Spantap, ZipkinBackend, wait_until};

/// Kills for each delivery.
const KILLS: u32 = 6;

/// Spans that the last collector reports as missing. They include what the collectors before it counted.
fn missing(stderr: &str) -> u64 {
    let before = stderr.split_once(" sent and never received").map_or("0", |(before, _)| before);
    before.rsplit(' ').next().unwrap().replace(',', "").parse().unwrap()
}

/// Spans that the sender lost, for whatever reason, by the collector's report.
fn lost_by_sender(stderr: &str) -> u64 {
    let parts: Vec<&str> = stderr.split(" lost by the sender").collect();
    let numbers = parts[..parts.len() - 1].iter().map(|before| before.rsplit(' ').next().unwrap());
    numbers.map(|number| number.replace(',', "").parse::<u64>().unwrap()).sum()
}

#[test]
fn spans_lost_with_a_killed_collector_are_counted_by_the_next() {
    assert_all_are_forwarded_or_counted(&[]);
}

/// With these rules, every trace waits until it is complete and quiet, and is kept.
#[test]
fn spans_that_wait_for_a_decision_at_a_kill_are_counted_by_the_next() {
    let rules = ["--keep", "name == \"none\"", "--keep", "ratio(100%)", "--keep-quiet", "1s"];
    assert_all_are_forwarded_or_counted(&rules);
}

fn assert_all_are_forwarded_or_counted(more: &[&str]) {
    for (delivery, format) in [("background", "zipkin"), ("inline", "otlp-protobuf")] {
        let backend = ZipkinBackend::start(202);
        let spool = tempfile::tempdir().unwrap();
        let to = backend.target();
        let args = ["--quiet", "--to", &to, "--spool", spool.path().to_str().unwrap()];
        // On a busy machine, the default is too short for what is in the spool at the end.
        let args = [&args[..], &["--flush-timeout", "60s"], more].concat();
        let first = Spantap::listen(&args);
        let mut command = Command::new(Build::Release.path(Linkage::Executable, 0));
        command.env("TRACING_USDT_DELIVERY", delivery).env("TRACING_USDT_FORMAT", format);
        command.env("TRACING_USDT_MAX_WAIT_MS", "1000");
        let mut fixture = Fixture::spawn(&mut command, Some(first.socket()));
        let over = AtomicBool::new(false);
        let mut kills = 0;
        let (spantap, [closed, sent, dropped]) = thread::scope(|scope| {
            let mut spantap = first;
            let worker = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(fixture.run("threads 2 2000"), "");
                }
                assert_eq!(fixture.run("flush"), "Ok(())");
                let stats = fixture.run("stats");
                fixture.end();
                let stats: Vec<u64> = stats.split(' ').map(|number| number.parse().unwrap()).collect();
                <[u64; 3]>::try_from(stats).unwrap()
            });
            while kills < KILLS && !worker.is_finished() {
                let before = backend.accepted();
                wait_until("spans are forwarded", || backend.accepted() > before);
                thread::sleep(Duration::from_millis(20));
                let killed = spantap.kill();
                kills += 1;
                spantap = Spantap::listen_after(killed, &args);
            }
            over.store(true, Ordering::Relaxed);
            (spantap, worker.join().unwrap())
        });
        wait_until("the spool is delivered", || {
            let before = backend.accepted();
            thread::sleep(Duration::from_millis(500));
            backend.accepted() == before
        });
        let ended = spantap.terminate();
        let (missing, lost) = (missing(&ended.stderr), lost_by_sender(&ended.stderr));
        assert_eq!(
            lost, dropped,
            "the sender's losses, whether or not their report arrived: {}",
            ended.stderr
        );
        assert_eq!(closed, sent + dropped, "by the sender's own stats");
        // Spans that report losses do not count.
        let accepted = backend.spans_not_named("tracing_usdt.dropped") as u64;
        assert_eq!(
            accepted + missing,
            sent,
            "{delivery}, {format}: {closed} closed, {dropped} dropped, {accepted} forwarded, {missing} counted as missing: {}",
            ended.stderr
        );
        assert!(ended.stderr.contains(", 0 dropped"), "no span is counted twice: {}", ended.stderr);
        eprintln!(
            "{delivery}, {format}: {closed} closed, {accepted} forwarded, {missing} missing after {kills} kills"
        );
        assert!(missing > 0, "no kill lost a span, so nothing was tested");
    }
}
