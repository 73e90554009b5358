//! The layer at the start of processes, at forks and exec, and at every kind of end.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::{Build, Collector, Fixture, Linkage, Span, text};
use nix::sys::signal::Signal;

fn fixture() -> Command {
    Command::new(Build::Release.path(Linkage::Executable, 0))
}

/// Starts the fixture with the layer's defaults. The harness has others.
fn background(collector: &Collector) -> Fixture {
    let defaults = [("TRACING_USDT_DELIVERY", "background"), ("TRACING_USDT_MAX_WAIT_MS", "0")];
    Fixture::spawn(fixture().envs(defaults), Some(collector.path()))
}

#[track_caller]
fn assert_all_queued_arrived(collector: Collector) {
    let spans = collector.spans();
    let numbers: BTreeSet<_> = spans.iter().map(|span| span["tags"]["n"].to_string()).collect();
    assert_eq!((spans.len(), numbers.len()), (100, 100));
}

#[test]
fn queued_spans_are_sent_on_exit() {
    let collector = Collector::start();
    assert_eq!(background(&collector).run_last("exit").code(), Some(3));
    assert_all_queued_arrived(collector);
}

#[test]
fn queued_spans_are_sent_when_a_panic_leaves_main() {
    let collector = Collector::start();
    assert_eq!(background(&collector).run_last("panic").code(), Some(101));
    assert_all_queued_arrived(collector);
}

#[test]
fn queued_spans_are_sent_on_return_from_main_after_a_sigterm() {
    let collector = Collector::start();
    let mut fixture = background(&collector);
    fixture.run_until("terminate", "waiting");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(fixture.pid() as i32), Signal::SIGTERM).unwrap();
    fixture.end();
    assert_all_queued_arrived(collector);
}

#[test]
fn queued_spans_are_sent_before_an_exec() {
    [Build::Debug, Build::Release].into_iter().for_each(assert_sent_before_an_exec);
}

/// Whether the linker uses our `execvp` depends on the linker and on the optimised code.
#[test]
#[ignore = "deep: builds with every linker and linkage"]
fn queued_spans_are_sent_before_an_exec_in_every_build() {
    let others = [Build::Fastest, Build::StaticGlibc];
    Build::EVERYWHERE.into_iter().chain(others).for_each(assert_sent_before_an_exec);
}

fn assert_sent_before_an_exec(build: Build) {
    let collector = Collector::start();
    let mut command = Command::new(build.path(Linkage::Executable, 0));
    command.env("TRACING_USDT_DELIVERY", "background").env("TRACING_USDT_MAX_WAIT_MS", "0");
    let fixture = Fixture::spawn(&mut command, Some(collector.path()));
    eprintln!("{build:?}");
    assert!(fixture.run_last("exec 0").success());
    assert_all_queued_arrived(collector);
}

/// The queue is lost with a process that is aborted. Inline delivery has no queue.
#[test]
fn an_abort_loses_only_queued_spans() {
    let collector = Collector::start();
    let mut fixture = background(&collector);
    fixture.run("threads 1 50");
    assert_eq!(fixture.run("flush"), "Ok(())");
    assert_eq!(fixture.run_last("abort").signal(), Some(Signal::SIGABRT as i32));
    assert_eq!(collector.spans().len(), 100);
}

/// An on-demand filter has a thread. It does not survive the fork, and a child must not join it.
#[test]
fn a_forked_child_with_an_on_demand_filter_ends_well() {
    for stack in ["gate", "filter"] {
        let collector = Collector::start();
        let mut command = fixture();
        command.env("FIXTURE_STACK", stack).env("TRACING_USDT_DELIVERY", "background");
        let mut fixture = Fixture::spawn(&mut command, Some(collector.path()));
        assert_eq!(fixture.run("forks 20"), "", "a child did not end well with {stack}");
        fixture.end();
        let spans = collector.spans();
        assert_eq!(spans.iter().filter(|span| text(span, "name") == "in a child").count(), 200);
    }
}

#[test]
fn a_grandchild_does_not_wait_for_its_parents_sender_thread() {
    for delivery in ["background", "inline"] {
        let collector = Collector::start();
        let mut command = fixture();
        command.env("TRACING_USDT_DELIVERY", delivery);
        let mut fixture = Fixture::spawn(&mut command, Some(collector.path()));
        assert_eq!(fixture.run("grandchildren 100"), "", "{delivery}");
        fixture.end();
        let spans = collector.spans();
        let ids: BTreeSet<&str> = spans.iter().map(|span| text(span, "id")).collect();
        // 1,000 of the grandchildren, and the first process's own.
        assert_eq!((spans.len(), ids.len()), (1001, 1001), "{delivery}");
    }
}

/// A receiver that hangs delays the end of the program by a second at most.
#[test]
fn a_receiver_that_hangs_does_not_keep_the_program_from_ending() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.sock");
    let _hangs = UnixDatagram::bind(&path).unwrap();
    let defaults = [("TRACING_USDT_DELIVERY", "background"), ("TRACING_USDT_MAX_WAIT_MS", "0")];
    let mut fixture = Fixture::spawn(fixture().envs(defaults), Some(&path));
    fixture.run("threads 2 50000");
    let begin = Instant::now();
    fixture.end();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn a_forked_child_sends_its_own_spans_and_the_parents_stats_stay_right() {
    let collector = Collector::start();
    let mut fixture = background(&collector);
    assert_eq!(fixture.run("forks 100"), "", "a child did not end well");
    assert_eq!(fixture.run("flush"), "Ok(())");
    let stats = fixture.run("stats");
    let parent: Vec<u64> = stats.split(' ').map(|number| number.parse().unwrap()).collect();
    fixture.end();
    let spans = collector.spans();
    let count = |name: &str| spans.iter().filter(|span| text(span, "name") == name).count() as u64;
    let ids: BTreeSet<&str> = spans.iter().map(|span| text(span, "id")).collect();
    assert_eq!(ids.len(), spans.len(), "an id came twice");
    assert_eq!(count("in a child"), 1000);
    assert_eq!([count("in the parent"), 0], [parent[1], parent[2]]);
    assert_eq!(parent[0], parent[1]);
}

#[test]
fn a_forked_child_draws_ids_of_its_own() {
    let collector = Collector::start();
    let mut fixture = Fixture::spawn(&mut fixture(), Some(collector.path()));
    assert_eq!(fixture.run("fork"), "");
    // The parent's stats count the parent's spans only.
    assert_eq!(fixture.run("stats"), "11 11 0");
    let parent = fixture.pid().to_string();
    fixture.end();

    let spans = collector.spans();
    assert_eq!(spans.len(), 21);
    let ids: BTreeSet<&str> = spans.iter().map(|span| text(span, "id")).collect();
    assert_eq!(ids.len(), 21, "an id came twice");
    let traces: BTreeSet<&str> = spans.iter().map(|span| text(span, "traceId")).collect();
    assert_eq!(traces.len(), 1, "parent and child have the same span open, so all are of its trace");
    let own = spans.iter().filter(|span| span["tags"]["thread.id"] == *parent);
    assert_eq!(own.count(), 11, "the child's spans name the child's thread");
}

#[test]
fn inline_delivery_has_sent_a_closed_span_before_an_abort() {
    let collector = Collector::start();
    let status = Fixture::spawn(&mut fixture(), Some(collector.path())).run_last("abort");
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32));
    let spans = collector.spans();
    assert_eq!(spans.iter().map(|span| text(span, "name")).collect::<Vec<_>>(), ["the last"]);
}

#[test]
fn losses_are_reported_before_the_program_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let receive = || {
        let mut buffer = vec![0; 1 << 17];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|bytes| buffer[..bytes].to_vec()))
            .flat_map(|datagram| serde_json::from_slice::<Vec<Span>>(&datagram).unwrap())
            .collect::<Vec<_>>()
    };
    let mut fixture = Fixture::spawn(fixture().env("TRACING_USDT_MAX_WAIT_MS", "0"), Some(&path));
    fixture.run("threads 4 1000");
    let stats = fixture.run("stats");
    let stats: Vec<u64> = stats.split(' ').map(|number| number.parse().unwrap()).collect();
    let mut received = receive();
    fixture.end();
    received.extend(receive());

    let (reports, spans): (Vec<_>, Vec<_>) =
        received.into_iter().partition(|span| text(span, "name") == "tracing_usdt.dropped");
    let lost = |span: &Span| {
        span["tags"]["tracing_usdt.dropped.queue_full"].as_str().unwrap().parse::<u64>().unwrap()
    };
    assert!(stats[2] > 0, "the test lost nothing: {stats:?}");
    assert_eq!((stats[0], spans.len() as u64), (8000, stats[1]));
    assert_eq!(reports.iter().map(lost).sum::<u64>(), stats[2], "{reports:?}");
}

#[test]
fn errors_are_reported_once_on_stderr() {
    let folder = tempfile::tempdir().unwrap();
    let stderr = folder.path().join("stderr");
    let mut command = fixture();
    command.stderr(std::fs::File::create(&stderr).unwrap()).env("OTEL_TRACES_SAMPLER", "sometimes");
    let mut fixture = Fixture::spawn(&mut command, Some(&folder.path().join("none.sock")));
    fixture.run("threads 4 100");
    // By then the layer has tried to connect again, and failed again.
    std::thread::sleep(std::time::Duration::from_millis(600));
    fixture.run("threads 4 100");
    assert_eq!(fixture.run("stats"), "1600 0 1600");
    fixture.end();
    let reported = std::fs::read_to_string(stderr).unwrap();
    let lines: Vec<&str> = reported.lines().collect();
    assert_eq!(lines.len(), 2, "{reported}");
    assert!(lines.iter().all(|line| line.starts_with("tracing-usdt: ")), "{reported}");
    assert!(lines[0].contains("OTEL_TRACES_SAMPLER=\"sometimes\""), "{reported}");
    assert!(lines[1].contains("/none.sock: No such file"), "{reported}");
}

#[test]
fn the_traceparent_of_the_environment_is_continued() {
    let collector = Collector::start();
    let remote = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut fixture = Fixture::spawn(fixture().env("TRACEPARENT", remote), Some(collector.path()));
    fixture.run("threads 1 1");
    fixture.end();
    let spans = collector.spans();
    let named = |name: &str| spans.iter().find(|span| text(span, "name") == name).unwrap();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    assert!(spans.len() == 2 && spans.iter().all(|span| text(span, "traceId") == trace), "{spans:?}");
    assert_eq!(text(named("outer"), "parentId"), "00f067aa0ba902b7");
    assert_eq!(text(named("inner"), "parentId"), text(named("outer"), "id"));
}
