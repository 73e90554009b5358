//! Backends that take small requests alone, and answers that never get better: each span is delivered or rejected
//! by itself, and nothing is sent for ever.

use tonic::{Code, Status};

use super::grpc_backend::{GrpcBackend, Reply as GrpcReply};
use super::http_backend::{HttpBackend, Reply, TooLarge, partial};
use super::*;

/// Of the backends here.
const LARGEST: usize = 20_000;

/// 1,500 bytes in each span, in chunks of 1 to 40 spans, so that some chunks alone are too large.
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
        let told = fixture.finish().await;
        assert_eq!(backend.accepted(), all(2_000));
        let figures = fixture.figures();
        assert_eq!((figures.forwarded, figures.rejected, figures.dropped.total()), (2_000, 0, 0));
        let is_of_size =
            |line: &&String| line.contains("413 Payload Too Large") && line.contains("smaller requests");
        assert_eq!(told.iter().filter(is_of_size).count(), 1, "{told:?}");
        // The end of a hasty backend's connection may overtake its answer. That is an outage, and is tried again.
        assert!(too_large == TooLarge::IsHasty || told.len() == 1, "{told:?}");
    }
}

/// Each attempt looks like an outage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_hangs_up_on_large_requests_gets_smaller_ones() {
    let backend = HttpBackend::limited(100_000, TooLarge::HangsUp);
    let fixture = Fixture::to(backend.otlp());
    push_padded(&fixture, 2_000);
    fixture.finish().await;
    assert_eq!(backend.accepted(), all(2_000));
    assert_eq!((fixture.figures().forwarded, fixture.figures().rejected), (2_000, 0));
}

/// It would hold up all others for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span_on_which_the_backend_always_hangs_up_is_rejected_alone() {
    let backend = HttpBackend::limited(LARGEST, TooLarge::HangsUp);
    let fixture = Fixture::to(backend.otlp());
    fixture.sinks.push(&padded_chunk(0..40, |number| if number == 7 { 2 * LARGEST } else { 100 }));
    fixture.finish().await;
    let expected: Vec<u64> = (0..40).filter(|number| *number != 7).collect();
    assert_eq!(backend.accepted(), expected);
    assert_eq!((fixture.figures().forwarded, fixture.figures().rejected), (39, 1));
}

/// All servers say it in other words.
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
        assert_eq!((fixture.figures().forwarded, fixture.figures().rejected), (500, 0), "{status}");
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
    assert_eq!((fixture.figures().forwarded, fixture.figures().rejected), (500, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_span_that_is_too_large_by_itself_is_rejected_alone() {
    let http = HttpBackend::limited(LARGEST, TooLarge::Answers);
    let grpc = GrpcBackend::limited(LARGEST, too_large());
    let zipkin = HttpBackend::limited(LARGEST, TooLarge::Answers);
    let targets = [http.otlp(), grpc.otlp(), format!("zipkin=http://127.0.0.1:{}", zipkin.port)];
    let fixture = Fixture::open(&targets, &[], None);
    // In the midst of a chunk, at its beginning and end, and as a chunk of its own.
    let is_large = |number: u64| [7, 20, 39, 40].contains(&number);
    for numbers in [0..20, 20..40, 40..41, 41..60] {
        fixture.sinks.push(&padded_chunk(numbers, |number| if is_large(number) { 30_000 } else { 10 }));
    }
    let told = fixture.finish().await;
    let small: Vec<u64> = (0..60).filter(|number| !is_large(*number)).collect();
    assert_eq!((http.accepted(), grpc.accepted()), (small.clone(), small));
    for figures in fixture.sinks.figures() {
        assert_eq!((figures.forwarded, figures.rejected, figures.queued), (56, 4, 0), "{figures:?}");
    }
    let of_http: Vec<&String> =
        told.iter().filter(|line| line.starts_with(&fixture.figures().target)).collect();
    assert!(
        of_http
            .iter()
            .any(|line| line.contains("rejected 1 span, which is lost") && line.contains("too large for us")),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_remembered() {
    let backend = HttpBackend::limited(LARGEST, TooLarge::Answers);
    let fixture = Fixture::to(backend.otlp());
    push_padded(&fixture, 1_000);
    wait_until("the limit is learned", || fixture.figures().queued == 0).await;
    let learned = fixture.figures().retries;
    // From half a megabyte to 20 KB takes five halvings, and a few more of single chunks.
    assert!((1..=10).contains(&learned), "{learned}");
    push_padded(&fixture, 2_000);
    fixture.finish().await;
    assert_eq!(fixture.figures().retries, learned);
    let sizes: Vec<usize> = backend.received().iter().skip(20).map(|request| request.body.len()).collect();
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    assert!(mean > LARGEST / 4, "requests are not much smaller than they must be: {sizes:?}");
}

/// The backend takes a part of a batch, and then the program is killed.
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
        wait_until("it sends parts", || backend.received().len() > requests || fixture.figures().queued == 0)
            .await;
        kills_between += u32::from(fixture.figures().queued > 0);
        // Without `finish`: as if it were killed.
        drop(fixture);
    }
    assert!(kills_between > 0, "all was delivered before each kill");
    let fixture = Fixture::open(&[target], &[], spool());
    fixture.finish().await;
    let accepted: std::collections::BTreeSet<u64> = backend.accepted().into_iter().collect();
    assert_eq!(accepted.into_iter().collect::<Vec<_>>(), all(1_000));
    assert_eq!((fixture.figures().rejected, fixture.figures().dropped.total()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_can_not_be_read_is_not_asked_for_again() {
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
        wait_until("it was sent", || fixture.sinks.figures().iter().all(|figures| figures.queued == 0)).await;
    }
    let told = fixture.finish().await;
    for figures in fixture.sinks.figures() {
        assert_eq!((figures.forwarded, figures.requests, figures.retries), (30, 3, 0), "{figures:?}");
    }
    assert!(told.iter().any(|line| line.contains("the answer can't be read")), "{told:?}");
    assert!(told.iter().any(|line| line.contains("the rest of the answer is missing")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_trickles_for_ever_is_given_up() {
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
    assert_eq!((fixture.figures().forwarded, fixture.figures().requests), (10, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_loop_is_left_at_its_first_step() {
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
            let figures = fixture.figures();
            assert_eq!((figures.rejected, figures.requests), (10, 1), "{kind} {status}");
        }
    }
}
