//! spantap forwards to a real OpenTelemetry collector, which may be away for a while.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use e2e::{MadeUp, Rotel, Spantap, ZipkinBackend, free_address, get, need, send, wait_for_all, wait_until};

fn http(rotel: &Rotel) -> String {
    format!("otlp=http://{}", rotel.http)
}

fn grpc(rotel: &Rotel) -> String {
    format!("otlp=grpc://{}", rotel.grpc)
}

#[test]
fn every_span_arrives_unchanged_over_http_and_over_grpc() {
    if !need(&["rotel"]) {
        return;
    }
    let (over_http, over_grpc) = (Rotel::start(), Rotel::start());
    let spantap = Spantap::listen(&["--to", &http(&over_http), "--to", &grpc(&over_grpc), "--quiet"]);
    let spans = MadeUp::many(10_000);
    send(spantap.socket(), &spans);
    let ended = spantap.terminate();
    assert_eq!(ended.stderr.matches("10,000 spans forwarded").count(), 2, "{}", ended.stderr);
    wait_for_all(&over_http, &spans);
    wait_for_all(&over_grpc, &spans);
}

/// The backend is away for 20 seconds in the middle of a run.
#[test]
#[ignore = "deep: a long outage"]
fn a_backend_gets_all_spans_of_its_absence() {
    if !need(&["rotel"]) {
        return;
    }
    let (mut over_http, mut over_grpc) = (Rotel::start(), Rotel::start());
    let spool = tempfile::tempdir().unwrap();
    let in_memory = Spantap::listen(&["--to", &http(&over_http), "--to", &grpc(&over_grpc), "--quiet"]);
    let dir = spool.path().to_str().unwrap();
    let on_disk = Spantap::listen(&["--to", &http(&over_http), "--spool", dir, "--quiet"]);
    let spans = MadeUp::many(30_000);
    // One half of the spans goes through memory, the other through the spool.
    let (first, rest) = spans.split_at(10_000);
    let (memory, disk) = (&first[..5000], &first[5000..]);
    let (memory_away, disk_away) = rest[..10_000].split_at(5000);
    let (memory_back, disk_back) = rest[10_000..].split_at(5000);
    let send_all = |a: &[MadeUp], b: &[MadeUp]| {
        send(in_memory.socket(), a);
        send(on_disk.socket(), b);
    };
    send_all(memory, disk);
    wait_for_all(&over_http, first);
    wait_for_all(&over_grpc, memory);
    // rotel prints a span before it answers the request, and spantap repeats a request without an answer.
    sleep(Duration::from_secs(1));
    over_http.stop();
    over_grpc.stop();
    send_all(memory_away, disk_away);
    sleep(Duration::from_secs(20));
    over_http.start_again();
    over_grpc.start_again();
    send_all(memory_back, &disk_back[..5000]);

    let of_memory: Vec<MadeUp> = [memory, memory_away, memory_back].concat();
    let of_disk: Vec<MadeUp> = [disk, disk_away, &disk_back[..5000]].concat();
    wait_for_all(&over_grpc, &of_memory);
    wait_for_all(&over_http, &[of_memory.clone(), of_disk].concat());
    let ended = in_memory.terminate();
    assert!(ended.stderr.matches("15,000 spans forwarded").count() == 2, "{}", ended.stderr);
    assert!(on_disk.terminate().stderr.contains("15,000 spans forwarded"));
}

/// spantap is killed with spans in its spool while the backend is away, and started again.
#[test]
fn spooled_spans_survive_sigkill() {
    if !need(&["rotel"]) {
        return;
    }
    let mut rotel = Rotel::start();
    rotel.stop();
    let spool = tempfile::tempdir().unwrap();
    let (dir, to) = (spool.path().to_str().unwrap().to_owned(), http(&rotel));
    let metrics = free_address();
    let args = ["--to", &to, "--spool", &dir, "--quiet", "--metrics", &metrics.to_string()];
    let spans = MadeUp::many(10_000);
    let mut spantap = Spantap::listen(&args);
    for (round, spans) in spans.chunks(2000).enumerate() {
        send(spantap.socket(), spans);
        let taken = (round + 1) * 2000;
        wait_until("spantap has queued the spans", || queued(metrics) == taken as u64);
        spantap = Spantap::listen_again(spantap, &args);
    }
    rotel.start_again();
    wait_for_all(&rotel, &spans);
    let ended = spantap.terminate();
    assert!(ended.stderr.contains("10,000 spans forwarded"), "{}", ended.stderr);
}

/// The number of queued spans in the metrics.
fn queued(address: SocketAddr) -> u64 {
    let page = get(address, "/metrics").unwrap_or_default();
    let line = page.lines().find(|line| line.starts_with("spantap_queued_spans{"));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or(0)
}

/// Spans that can't be delivered before spantap ends stay in the spool.
#[test]
fn a_restart_delivers_spans_that_the_last_run_could_not() {
    if !need(&["rotel"]) {
        return;
    }
    let mut rotel = Rotel::start();
    rotel.stop();
    let spool = tempfile::tempdir().unwrap();
    let (dir, to) = (spool.path().to_str().unwrap(), grpc(&rotel));
    let spans = MadeUp::many(1000);
    let args = ["--to", &to, "--spool", dir, "--quiet", "--flush-timeout", "200ms"];
    let spantap = Spantap::listen(&args);
    send(spantap.socket(), &spans);
    let ended = spantap.terminate();
    assert!(
        ended.stderr.contains("0 spans forwarded") && ended.stderr.contains("1,000 spooled"),
        "{}",
        ended.stderr
    );
    rotel.start_again();
    let spantap = Spantap::listen(&args);
    wait_for_all(&rotel, &spans);
    assert!(spantap.terminate().status.success());
}

/// The backend takes at most 32 KiB a request, so spantap sends each batch in parts. Kills come between the
/// parts.
#[test]
#[ignore = "deep: kills spantap ten times"]
fn kills_between_the_parts_of_a_batch_lose_nothing() {
    let backend = ZipkinBackend::start(202);
    backend.limit(32 << 10);
    // The backend delays each answer, so that a batch is still on its way when the kill comes.
    backend.take(Duration::from_millis(100));
    let spool = tempfile::tempdir().unwrap();
    let metrics = free_address();
    let (to, dir, address) = (backend.target(), spool.path().to_str().unwrap(), metrics.to_string());
    let args = ["--to", &to, "--spool", dir, "--quiet", "--metrics", &address];
    let spans = MadeUp::many(10_000);
    let mut spantap = Spantap::listen(&args);
    let (mut sent, mut kills_between) = (0, 0);
    for spans in spans.chunks(1000) {
        let before = backend.accepted();
        send(spantap.socket(), spans);
        sent += spans.len();
        let pushed = || {
            let page = get(metrics, "/metrics").unwrap_or_default();
            page.lines()
                .any(|line| line.starts_with("spantap_pushed_spans_total{") && line.ends_with(" 1000"))
        };
        wait_until("all are in the spool, and some are delivered", || {
            pushed() && backend.accepted() > before
        });
        let killed = spantap.kill();
        kills_between += u32::from(backend.accepted() < sent);
        spantap = Spantap::listen_after(killed, &args);
    }
    backend.take(Duration::ZERO);
    wait_until("all are delivered", || backend.accepted() == spans.len());
    let ended = spantap.terminate();
    assert!(ended.stderr.contains("0 rejected, 0 dropped"), "{}", ended.stderr);
    assert!(kills_between > 5, "only {kills_between} of 10 kills came while a batch was being sent");
}
