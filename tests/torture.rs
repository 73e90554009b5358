//! Many spans, and receivers that are slow, stop, restart or lose their socket. Each closed span arrives or is
//! reported as lost.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::{Build, Fixture, Linkage};
use serde::Deserialize;

#[derive(Deserialize)]
struct Span<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    tags: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

/// Everything that a receiver has received.
#[derive(Default)]
struct Seen {
    spans: u64,
    /// Spans that were reported as lost.
    lost: u64,
    ids: HashSet<u64>,
}

impl Seen {
    fn datagram(&mut self, bytes: &[u8]) {
        let spans: Vec<Span<'_>> = serde_json::from_slice(bytes)
            .unwrap_or_else(|e| panic!("{e} in {}", String::from_utf8_lossy(bytes)));
        assert!(!spans.is_empty());
        for span in spans {
            let id = u64::from_str_radix(&span.id, 16).unwrap();
            assert!(self.ids.insert(id), "{id:x} came twice");
            if span.name == "tracing_usdt.dropped" {
                self.lost += span.tags.values().map(|spans| spans.parse::<u64>().unwrap()).sum::<u64>();
            } else {
                self.spans += 1;
            }
        }
    }
}

/// A receiver that can be slow, stop and restart.
struct Receiver {
    path: PathBuf,
    socket: UnixDatagram,
    seen: Seen,
    buffer: Vec<u8>,
}

impl Receiver {
    fn bind(path: &Path) -> Self {
        let (path, seen, buffer) = (path.to_owned(), Seen::default(), vec![0; 1 << 17]);
        Self { socket: socket_at(&path), path, seen, buffer }
    }

    /// Receives one datagram if one comes within 5 ms.
    fn receive(&mut self) -> bool {
        match self.socket.recv(&mut self.buffer) {
            Ok(0) | Err(_) => false,
            Ok(bytes) => {
                self.seen.datagram(&self.buffer[..bytes]);
                true
            }
        }
    }

    fn drain(&mut self) {
        while self.receive() {}
    }

    /// Closes the socket, and binds a new one after `away`. Unlike a process that is killed, it first reads all
    /// that was sent: the sender can't know of datagrams that no one reads.
    fn restart(&mut self, away: Duration) {
        self.socket.shutdown(std::net::Shutdown::Read).unwrap();
        self.drain();
        std::fs::remove_file(&self.path).unwrap();
        self.socket = UnixDatagram::unbound().unwrap();
        thread::sleep(away);
        self.socket = socket_at(&self.path);
    }
}

fn socket_at(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    socket
}

const DELIVERIES: [&str; 2] = ["background", "inline"];

fn start(delivery: &str, max_wait_ms: &str, receiver: &Receiver) -> Fixture {
    let mut command = Command::new(Build::Release.path(Linkage::Executable, 0));
    command.env("TRACING_USDT_DELIVERY", delivery).env("TRACING_USDT_MAX_WAIT_MS", max_wait_ms);
    Fixture::spawn(&mut command, Some(&receiver.path))
}

/// The numbers of spans closed, sent and dropped.
fn stats(fixture: &mut Fixture) -> [u64; 3] {
    let text = fixture.run("stats");
    let numbers: Vec<u64> = text.split(' ').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

/// Runs `command` in `fixture` and calls `serve` until it is done. Then reads the rest, checks that every span
/// is counted, and returns how many were dropped.
fn run(
    mut fixture: Fixture,
    command: &str,
    receiver: &mut Receiver,
    mut serve: impl FnMut(&mut Receiver),
) -> u64 {
    let (done, calm) = (AtomicBool::new(false), AtomicBool::new(false));
    let [closed, sent, dropped] = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            assert_eq!(fixture.run(command), "");
            done.store(true, Ordering::Release);
            // Flushes only once the receiver reads again.
            while !calm.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(fixture.run("flush"), "Ok(())");
            let stats = stats(&mut fixture);
            assert_eq!(fixture.run("queued"), "0");
            fixture.end();
            stats
        });
        while !done.load(Ordering::Acquire) && !worker.is_finished() {
            serve(receiver);
        }
        calm.store(true, Ordering::Release);
        while !worker.is_finished() {
            receiver.receive();
        }
        worker.join().unwrap()
    });
    receiver.drain();
    assert_eq!(closed, sent + dropped, "closed {closed}, sent {sent}, dropped {dropped}");
    assert_eq!(receiver.seen.spans, sent, "of {closed}, dropped {dropped}");
    assert_eq!(receiver.seen.lost, dropped, "losses reported in the stream");
    dropped
}

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.sock");
    (folder, path)
}

const MILLION: &str = "threads 8 62500";

#[test]
#[ignore = "deep: a million spans"]
fn a_million_spans_to_a_fast_receiver_are_all_counted() {
    for delivery in DELIVERIES {
        let (_folder, path) = temporary();
        let mut receiver = Receiver::bind(&path);
        let fixture = start(delivery, "0", &receiver);
        run(fixture, MILLION, &mut receiver, |receiver| _ = receiver.receive());
        // The spans come too fast for any receiver, but a good part gets through.
        assert!(receiver.seen.spans > 20_000, "{} of {delivery}", receiver.seen.spans);
    }
}

/// One loss does not cause further losses.
#[test]
fn no_more_spans_are_lost_once_the_receiver_is_back() {
    let (_folder, path) = temporary();
    let mut receiver = Receiver::bind(&path);
    let mut fixture = start("background", "0", &receiver);
    // Fills the bounded memory, whose size depends on the number of cores.
    let lost = loop {
        fixture.run("threads 2 20000");
        let [closed, _, lost] = stats(&mut fixture);
        assert!(closed < 100_000_000, "memory has no bound");
        if lost > 0 {
            break lost;
        }
    };
    let done = AtomicBool::new(false);
    let (before, after) = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                receiver.receive();
            }
        });
        // The receiver catches up, and from then on keeps up.
        assert_eq!(fixture.run("flush"), "Ok(())");
        let before = stats(&mut fixture)[2];
        // The bounded memory has room for half of the spans of a quarter of a second.
        fixture.run("pace 4 1500 4000");
        let after = stats(&mut fixture)[2];
        done.store(true, Ordering::Release);
        (before, after)
    });
    assert_eq!(before, after, "of 6,000 spans, after {lost} were lost");
}

#[test]
#[ignore = "deep: a million spans"]
fn a_million_spans_arrive_if_closing_threads_may_wait() {
    let (_folder, path) = temporary();
    let mut receiver = Receiver::bind(&path);
    let fixture = start("background", "60000", &receiver);
    let dropped = run(fixture, MILLION, &mut receiver, |receiver| _ = receiver.receive());
    assert_eq!((dropped, receiver.seen.spans), (0, 1_000_000));
}

/// If closing threads may wait for a second, a receiver that reads keeps up, even with many busy threads beside
/// it.
#[test]
#[ignore = "deep: keeps both cores busy for long"]
fn nothing_is_lost_on_a_busy_machine_if_closing_threads_may_wait() {
    let cores = thread::available_parallelism().unwrap().get();
    for delivery in DELIVERIES {
        let (_folder, path) = temporary();
        let mut receiver = Receiver::bind(&path);
        let fixture = start(delivery, "1000", &receiver);
        let over = AtomicBool::new(false);
        let dropped = thread::scope(|scope| {
            for _ in 0..4 * cores {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let dropped = run(fixture, "threads 16 5000", &mut receiver, |receiver| _ = receiver.receive());
            over.store(true, Ordering::Relaxed);
            dropped
        });
        assert_eq!((dropped, receiver.seen.spans), (0, 160_000), "{delivery}");
    }
}

#[test]
#[ignore = "deep: a million spans"]
fn a_million_spans_to_a_slow_receiver_are_all_counted() {
    for delivery in DELIVERIES {
        let (_folder, path) = temporary();
        let mut receiver = Receiver::bind(&path);
        let fixture = start(delivery, "0", &receiver);
        let slowly = |receiver: &mut Receiver| {
            receiver.receive();
            thread::sleep(Duration::from_millis(1));
        };
        run(fixture, MILLION, &mut receiver, slowly);
    }
}

#[test]
#[ignore = "deep: a million spans"]
fn a_million_spans_to_a_receiver_that_pauses_are_all_counted() {
    for delivery in DELIVERIES {
        let (_folder, path) = temporary();
        let mut receiver = Receiver::bind(&path);
        let fixture = start(delivery, "0", &receiver);
        let mut stops = [1, 1000, 2000].into_iter();
        let mut next = stops.next();
        let mut datagrams = 0;
        run(fixture, MILLION, &mut receiver, |receiver| {
            datagrams += u32::from(receiver.receive());
            if next.is_some_and(|at| datagrams >= at) {
                thread::sleep(Duration::from_millis(300));
                next = stops.next();
            }
        });
    }
}

/// The receiver restarts ten times while spans are sent. After each restart, every span is counted.
#[test]
#[ignore = "deep: a million spans"]
fn a_million_spans_to_a_receiver_that_restarts_are_all_counted() {
    for delivery in DELIVERIES {
        let (_folder, path) = temporary();
        let mut receiver = Receiver::bind(&path);
        let mut fixture = start(delivery, "0", &receiver);
        for round in 1..=10 {
            let [closed, sent, dropped] = thread::scope(|scope| {
                let worker = scope.spawn(|| {
                    assert_eq!(fixture.run("threads 8 6250"), "");
                    assert_eq!(fixture.run("flush"), "Ok(())");
                    stats(&mut fixture)
                });
                (0..20).for_each(|_| _ = receiver.receive());
                receiver.restart(Duration::from_millis(10));
                while !worker.is_finished() {
                    receiver.receive();
                }
                worker.join().unwrap()
            });
            receiver.drain();
            assert_eq!(closed, round * 100_000);
            assert_eq!(closed, sent + dropped, "after restart {round}");
            assert_eq!(receiver.seen.spans, sent, "after restart {round}");
        }
        thread::scope(|scope| {
            let end = scope.spawn(|| fixture.end());
            while !end.is_finished() {
                receiver.receive();
            }
        });
        receiver.drain();
        assert_eq!(receiver.seen.spans + receiver.seen.lost, 1_000_000, "{delivery}");
    }
}

type Mishap<'a> = Box<dyn FnMut(&mut Receiver) + 'a>;

#[test]
fn every_span_is_counted_while_the_socket_is_removed_replaced_and_forbidden() {
    // Permissions do not stop root, so the program runs as another user, from a place that this user can reach.
    let (folder, path) = temporary();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let exe = folder.path().join("fixture");
    let built = Build::Release.path(Linkage::Executable, 0);
    assert!(Command::new("cp").arg(built).arg(&exe).status().unwrap().success());
    for delivery in DELIVERIES {
        let mut receiver = Receiver::bind(&path);
        let mut command = Command::new(&exe);
        command.env("TRACING_USDT_DELIVERY", delivery).env("TRACING_USDT_MAX_WAIT_MS", "0");
        command.stderr(std::process::Stdio::null()); // other tests check the errors that it reports
        if nix::unistd::geteuid().is_root() {
            std::os::unix::process::CommandExt::uid(&mut command, 65534);
        }
        let fixture = Fixture::spawn(&mut command, Some(&path));
        let mut mishaps: [Mishap<'_>; 4] = [
            Box::new(|_| std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap()),
            Box::new(|receiver| {
                receiver.socket.shutdown(std::net::Shutdown::Read).unwrap();
                receiver.drain();
            }),
            Box::new(|_| {
                std::fs::remove_file(&path).unwrap();
                std::fs::create_dir(&path).unwrap();
            }),
            Box::new(|receiver| {
                std::fs::remove_dir(&path).unwrap();
                receiver.socket = socket_at(&path);
            }),
        ];
        let (mut happened, mut last) = (0, Instant::now());
        run(fixture, MILLION, &mut receiver, |receiver| {
            receiver.receive();
            if happened < mishaps.len() && last.elapsed() > Duration::from_millis(40) {
                mishaps[happened](receiver);
                (happened, last) = (happened + 1, Instant::now());
            }
            // Reads twice as fast after the last mishap.
            if happened == mishaps.len() {
                receiver.receive();
            }
        });
        assert_eq!(happened, mishaps.len(), "the program ended before all mishaps");
        std::fs::remove_file(&path).unwrap();
    }
}

/// The resident set in KiB: its peak (`VmHWM:`) or its size now (`VmRSS:`).
fn memory(fixture: &Fixture, which: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", fixture.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(which)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The documented bound: a mebibyte for each core, allocated at the start, and some 64 KiB for each thread.
#[test]
#[ignore = "deep: a million spans"]
fn memory_stays_within_its_bound() {
    for (command, spans) in [("huge 10000", 10_000), (MILLION, 1_000_000)] {
        let (_folder, path) = temporary();
        let receiver = Receiver::bind(&path);
        // The receiver does not read, so the queue becomes full.
        let mut fixture = start("background", "0", &receiver);
        let before = memory(&fixture, "VmRSS:");
        assert_eq!(fixture.run(command), "");
        let growth = memory(&fixture, "VmHWM:").saturating_sub(before);
        assert_eq!(stats(&mut fixture)[0], spans);
        assert!(fixture.run("queued").parse::<u64>().unwrap() > 0);
        // This includes the stacks of eight threads and the sender thread's buffers.
        assert!(growth < 4 << 10, "{growth} KiB more after {command}");
    }
}

#[test]
fn ten_thousand_huge_spans_arrive() {
    for delivery in DELIVERIES {
        let (_folder, path) = temporary();
        let mut receiver = Receiver::bind(&path);
        let fixture = start(delivery, "60000", &receiver);
        let dropped = run(fixture, "huge 10000", &mut receiver, |receiver| _ = receiver.receive());
        assert_eq!((dropped, receiver.seen.spans), (0, 10_000));
    }
}
