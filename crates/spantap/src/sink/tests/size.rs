//! Backends with small limits, and permanently bad answers: each span is delivered or rejected by itself, and
//! nothing is sent forever.

use tonic::{Code, Status};

use super::grpc_backend::{GrpcBackend, Reply as GrpcReply};
use super::http_backend::{HttpBackend, Reply, TooLarge, partial};
use super::*;

/// The limit of these backends.
const LARGEST: usize = 20_000;

/// Pushes spans of 1,500 bytes in chunks of 1 to 40, so that some chunks alone are too large.
fn push_padded(fixture: &Fixture, spans: u64) {
    let mut start = 0;
    for size in (1..=40).cycle() {
        let end = spans.min(start + size);
        fixture.sinks.push(&padded_chunk(start..end, |_| 1_500));
        start = end;
        if start == spans {
            break;
        }
    }
}

fn all(count: u64) -> Vec<u64> {
    (0..count).collect()
}

fn too_large() -> Status {
    Status::new(Code::ResourceExhausted, "grpc: received message larger than max (524288 vs. 20000)")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_limits_of_http_backends_cost_no_span() {
    for too_large in [TooLarge::Answers, TooLarge::IsHasty] {
        let backend = HttpBackend::limited(LARGEST, too_large);
        let fixture = Fixture::to(backend.otlp());
        push_padded(&fixture, 2_000);
        let lines = fixture.finish().await;
        assert_eq!(backend.accepted(), all(2_000));
        let stats = fixture.stats();
        assert_eq!((stats.forwarded, stats.rejected, stats.dropped.total()), (2_000, 0, 0));
        let is_of_size =
            |line: &&String| line.contains("413 Payload Too Large") && line.contains("smaller requests");
        assert_eq!(lines.iter().filter(is_of_size).count(), 1, "{lines:?}");
        // If the backend closes the connection early, that may arrive before its answer. Then it is an outage and
        // is retried.
        assert!(too_large == TooLarge::IsHasty || lines.len() == 1, "{lines:?}");
    }
}

/// Each attempt looks like an outage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_breaks_on_large_requests_gets_smaller_ones() {
    let backend = HttpBackend::limited(100_000, TooLarge::HangsUp);
    let fixture = Fixture::to(backend.otlp());
    push_padded(&fixture, 2_000);
    fixture.finish().await;
    assert_eq!(backend.accepted(), all(2_000));
    assert_eq!((fixture.stats().forwarded, fixture.stats().rejected), (2_000, 0));
}

/// Otherwise it would block all others forever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span_that_always_breaks_the_connection_is_rejected_alone() {
    let backend = HttpBackend::limited(LARGEST, TooLarge::HangsUp);
    let fixture = Fixture::to(backend.otlp());
    fixture.sinks.push(&padded_chunk(0..40, |number| if number == 7 { 2 * LARGEST } else { 100 }));
    fixture.finish().await;
    let expected: Vec<u64> = (0..40).filter(|number| *number != 7).collect();
    assert_eq!(backend.accepted(), expected);
    assert_eq!((fixture.stats().forwarded, fixture.stats().rejected), (39, 1));
}

/// Each server words it differently.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_limits_of_grpc_backends_cost_no_span() {
    let statuses = [
        too_large(),
        Status::new(Code::ResourceExhausted, "Received message larger than max (524288 vs. 20000)"),
        Status::new(
            Code::ResourceExhausted,
            "grpc: received message after decompression larger than max 20000",
        ),
        Status::new(Code::ResourceExhausted, "gRPC message exceeds maximum size 20000: 524288"),
        Status::new(Code::ResourceExhausted, "Received message exceeds the maximum configured message size."),
        Status::new(
            Code::OutOfRange,
            "Error, decoded message length too large: found 524288 bytes, the limit is: 20000 bytes",
        ),
        Status::new(Code::Unknown, "grpc-status header missing, mapped from HTTP status code 413"),
    ];
    for status in statuses {
        let backend = GrpcBackend::limited(LARGEST, status.clone());
        let fixture = Fixture::to(backend.otlp());
        push_padded(&fixture, 500);
        fixture.finish().await;
        assert_eq!(backend.accepted(), all(500), "{status}");
        assert_eq!((fixture.stats().forwarded, fixture.stats().rejected), (500, 0), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_limits_of_zipkin_backends_cost_no_span() {
    let backend = HttpBackend::limited(LARGEST, TooLarge::Answers);
    let fixture = Fixture::to(format!("zipkin=http://127.0.0.1:{}", backend.port));
    push_padded(&fixture, 500);
    fixture.finish().await;
    let accepted = backend.received().into_iter().filter(|request| request.answered == 200);
    let names = accepted.flat_map(|request| {
        let spans: Vec<serde_json::Value> = serde_json::from_slice(&request.body).unwrap();
        spans.into_iter().map(|span| span["name"].as_str().unwrap().parse::<u64>().unwrap())
    });
    assert_eq!(names.collect::<Vec<_>>(), all(500));
    assert_eq!((fixture.stats().forwarded, fixture.stats().rejected), (500, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span_that_is_too_large_is_rejected_alone() {
    let http = HttpBackend::limited(LARGEST, TooLarge::Answers);
    let grpc = GrpcBackend::limited(LARGEST, too_large());
    let zipkin = HttpBackend::limited(LARGEST, TooLarge::Answers);
    let targets = [http.otlp(), grpc.otlp(), format!("zipkin=http://127.0.0.1:{}", zipkin.port)];
    let fixture = Fixture::open(&targets, &[], None);
    // In the middle of a chunk, at its beginning and end, and as a chunk of its own.
    let is_large = |number: u64| [7, 20, 39, 40].contains(&number);
    for numbers in [0..20, 20..40, 40..41, 41..60] {
        fixture.sinks.push(&padded_chunk(numbers, |number| if is_large(number) { 30_000 } else { 10 }));
    }
    let lines = fixture.finish().await;
    let small: Vec<u64> = (0..60).filter(|number| !is_large(*number)).collect();
    assert_eq!((http.accepted(), grpc.accepted()), (small.clone(), small));
    for stats in fixture.sinks.stats() {
        assert_eq!((stats.forwarded, stats.rejected, stats.queued), (56, 4, 0), "{stats:?}");
    }
    let of_http: Vec<&String> =
        lines.iter().filter(|line| line.starts_with(&fixture.stats().target)).collect();
    assert!(
        of_http
            .iter()
            .any(|line| line.contains("rejected 1 span, which is lost") && line.contains("too large for us")),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_is_kept() {
    let backend = HttpBackend::limited(LARGEST, TooLarge::Answers);
    let fixture = Fixture::to(backend.otlp());
    push_padded(&fixture, 1_000);
    wait_until("the limit is learned", || fixture.stats().queued == 0).await;
    let learned = fixture.stats().retries;
    // From half a megabyte to 20 KB takes five halvings, and a few more of single chunks.
    assert!((1..=10).contains(&learned), "{learned}");
    push_padded(&fixture, 2_000);
    fixture.finish().await;
    assert_eq!(fixture.stats().retries, learned);
    let sizes: Vec<usize> = backend.received().iter().skip(20).map(|request| request.body.len()).collect();
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    assert!(mean > LARGEST / 4, "requests are not much smaller than they must be: {sizes:?}");
}

/// The backend accepts a part of a batch, and then the program is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_between_parts_of_a_batch_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let spool = || Some(SpoolSettings { dir: folder.path().join("spool"), max_bytes: SPOOL_BYTES });
    let backend = HttpBackend::limited(LARGEST, TooLarge::Answers);
    let target = backend.otlp();
    let mut kills_between = 0;
    for round in 0..10 {
        let fixture = Fixture::open(std::slice::from_ref(&target), &[], spool());
        let chunk = padded_chunk(round * 100..round * 100 + 100, |_| 1_500);
        fixture.sinks.push(&chunk);
        let requests = backend.received().len() + round as usize;
        wait_until("it sends parts", || backend.received().len() > requests || fixture.stats().queued == 0)
            .await;
        kills_between += u32::from(fixture.stats().queued > 0);
        // Dropping without `finish` has the effect of a kill.
        drop(fixture);
    }
    assert!(kills_between > 0, "all was delivered before each kill");
    let fixture = Fixture::open(&[target], &[], spool());
    fixture.finish().await;
    let accepted: std::collections::BTreeSet<u64> = backend.accepted().into_iter().collect();
    assert_eq!(accepted.into_iter().collect::<Vec<_>>(), all(1_000));
    assert_eq!((fixture.stats().rejected, fixture.stats().dropped.total()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_answers_are_not_retried() {
    let huge = "x".repeat(5 << 20);
    let grpc = GrpcBackend::start([GrpcReply::Message(partial(0, &huge))]);
    let endless = |head: &str| Reply::Raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\nhello").into_bytes());
    let http = HttpBackend::start([
        Reply::partial(0, &huge),
        endless("Content-Length: 100"),
        endless("Transfer-Encoding: chunked"),
    ]);
    let fixture = Fixture::open(&[grpc.otlp(), http.otlp()], &[], None);
    for start in [0, 10, 20] {
        fixture.sinks.push(&chunk(start..start + 10));
        wait_until("it was sent", || fixture.sinks.stats().iter().all(|stats| stats.queued == 0)).await;
    }
    let lines = fixture.finish().await;
    for stats in fixture.sinks.stats() {
        assert_eq!((stats.forwarded, stats.requests, stats.retries), (30, 3, 0), "{stats:?}");
    }
    assert!(lines.iter().any(|line| line.contains("the answer can't be read")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("the rest of the answer is missing")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endlessly_slow_answers_are_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 65_536]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while stream.write_all(b"1\r\nx\r\n").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    });
    let fixture = Fixture::to(format!("otlp=http://127.0.0.1:{port}"));
    fixture.sinks.push(&chunk(0..10));
    fixture.finish().await;
    assert_eq!((fixture.stats().forwarded, fixture.stats().requests), (10, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirect_loops_are_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        for (kind, path) in [("otlp", "/v1/traces"), ("zipkin", "/api/v2/spans")] {
            let backend =
                HttpBackend::start(vec![
                    Reply::Status(status, vec![("Location", path.to_owned())], vec![]);
                    5
                ]);
            let fixture = Fixture::to(format!("{kind}=http://127.0.0.1:{}", backend.port));
            fixture.sinks.push(&chunk(0..10));
            fixture.finish().await;
            let stats = fixture.stats();
            assert_eq!((stats.rejected, stats.requests), (10, 1), "{kind} {status}");
        }
    }
}
