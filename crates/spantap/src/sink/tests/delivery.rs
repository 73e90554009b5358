//! Each span arrives once and in order, whatever the backend does, and the stats are right.

use std::io::Read;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::grpc_backend::{GrpcBackend, Reply as GrpcReply};
use super::http_backend::{HttpBackend, Reply, numbers_of, partial};
use super::*;

async fn push_one_by_one(fixture: &Fixture, count: u64) {
    for number in 0..count {
        fixture.sinks.push(&chunk(number..number + 1));
        // Makes several batches.
        if number % 10 == 0 {
            tokio::time::sleep(2 * QUICK.linger).await;
        }
    }
}

fn all(count: u64) -> Vec<u64> {
    (0..count).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_delivers_everything_once_and_in_order() {
    let backend = HttpBackend::start([
        Reply::status(503),
        Reply::HangUp,
        Reply::retry_after(429, 0),
        Reply::status(502),
        Reply::status(200),
        Reply::status(504),
    ]);
    let fixture = Fixture::to(backend.otlp());
    push_one_by_one(&fixture, 50).await;
    let lines = fixture.finish().await;
    assert_eq!(backend.accepted(), all(50));
    let stats = fixture.stats();
    assert_eq!((stats.pushed, stats.forwarded, stats.retries), (50, 50, 5));
    assert_eq!(stats.requests, backend.received().len() as u64);
    assert_eq!(stats.state, State::Ok);
    // The second outage is too soon after the first to be reported.
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("503 Service Unavailable; spans are kept"), "{lines:?}");
    assert!(lines[1].contains("works again after"), "{lines:?}");
    let request = &backend.received()[0];
    assert_eq!(request.path, "/v1/traces");
    assert_eq!(request.headers["content-type"], "application/x-protobuf");
    assert!(request.headers["user-agent"].starts_with("spantap/"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retried_spans_are_counted_by_sender() {
    let backend = HttpBackend::start([Reply::status(503), Reply::HangUp]);
    let fixture = Fixture::to(backend.otlp());
    let sender = |pid| Sender { pid, uid: 0, gid: 0 };
    fixture.sinks.push(&Chunk { sender: sender(1), ..chunk(0..3) });
    fixture.sinks.push(&Chunk { sender: sender(2), ..chunk(3..10) });
    fixture.finish().await;
    // They may share a batch or not.
    let failed: Vec<u64> =
        backend.received()[..2].iter().flat_map(|request| numbers_of(&request.body)).collect();
    let of = |pid| failed.iter().filter(|number| (**number < 3) == (pid == 1)).count() as u64;
    let senders = fixture.stats().senders;
    assert!(!failed.is_empty());
    assert_eq!([1, 2].map(|pid| senders[&sender(pid)].retried), [1, 2].map(of));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_delivers_everything_once_and_in_order() {
    let codes = [
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unavailable,
        Code::DataLoss,
    ];
    let mut script: Vec<GrpcReply> =
        codes.iter().map(|code| GrpcReply::Status(Status::new(*code, "not now"))).collect();
    script.push(GrpcReply::Reset);
    let backend = GrpcBackend::start(script);
    let fixture = Fixture::to(backend.otlp());
    push_one_by_one(&fixture, 50).await;
    let lines = fixture.finish().await;
    assert_eq!(backend.accepted(), all(50));
    let stats = fixture.stats();
    assert_eq!((stats.pushed, stats.forwarded, stats.retries), (50, 50, 7));
    assert!(lines[0].contains("Cancelled: not now"), "{lines:?}");
    assert_eq!(backend.received()[0].path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_initially_absent_backend_gets_everything() {
    let (http, grpc) = (DeafSocket::bind(), DeafSocket::bind());
    let targets =
        [format!("otlp=http://127.0.0.1:{}", http.port()), format!("otlp=grpc://127.0.0.1:{}", grpc.port())];
    let fixture = Fixture::open(&targets, &[], None);
    fixture.sinks.push(&chunk(0..10));
    wait_until("both have tried", || fixture.sinks.stats().iter().all(|stats| stats.retries > 2)).await;
    for stats in fixture.sinks.stats() {
        assert!(
            matches!(&stats.state, State::Failing { why, .. } if why.contains("refused")),
            "{:?}",
            stats.state
        );
        assert_eq!(stats.queued, 10);
    }
    fixture.sinks.push(&chunk(10..20));
    let (http, grpc) = (HttpBackend::on(http.listen(), []), GrpcBackend::on(grpc.listen(), []));
    let lines = fixture.finish().await;
    assert_eq!((http.accepted(), grpc.accepted()), (all(20), all(20)));
    assert_eq!(lines.iter().filter(|line| line.contains("works again after")).count(), 2, "{lines:?}");
    assert_eq!(lines.len(), 4, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejections_are_reported_counted_and_not_retried() {
    for status in [400, 404, 500, 301] {
        let backend = HttpBackend::start([
            Reply::with_message(status, "no\nsuch tenant"),
            Reply::with_message(status, "again"),
        ]);
        let fixture = Fixture::to(backend.otlp());
        for start in [0, 10, 20] {
            fixture.sinks.push(&chunk(start..start + 10));
            wait_until("it was sent", || fixture.stats().queued == 0).await;
        }
        let lines = fixture.finish().await;
        assert_eq!(backend.accepted(), (20..30).collect::<Vec<_>>());
        let stats = fixture.stats();
        assert_eq!((stats.rejected, stats.forwarded, stats.requests), (20, 10, 3), "{status}");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("rejected 10 spans") && lines[0].contains("no such tenant"), "{lines:?}");
        assert!(lines[0].contains(&status.to_string()), "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resource_exhausted_is_retried_only_with_retry_info() {
    let delay = Duration::from_millis(300);
    let details = ErrorDetails::with_retry_info(Some(delay));
    let backend = GrpcBackend::start([
        GrpcReply::Status(Status::with_error_details(Code::ResourceExhausted, "busy", details)),
        GrpcReply::Message(Default::default()),
        GrpcReply::Status(Status::new(Code::ResourceExhausted, "quota is used up")),
        GrpcReply::Status(Status::new(Code::InvalidArgument, "bad id")),
    ]);
    let fixture = Fixture::to(backend.otlp());
    let start = Instant::now();
    for start in [0, 10, 20, 30] {
        fixture.sinks.push(&chunk(start..start + 10));
        wait_until("it was sent", || fixture.stats().queued == 0).await;
    }
    assert!(start.elapsed() >= delay, "RetryInfo asked for more than {:?}", start.elapsed());
    let lines = fixture.finish().await;
    let expected: Vec<u64> = (0..10).chain(30..40).collect();
    assert_eq!(backend.accepted(), expected);
    let stats = fixture.stats();
    assert_eq!((stats.forwarded, stats.rejected, stats.retries), (20, 20, 1));
    assert!(lines.iter().any(|line| line.contains("ResourceExhausted: quota is used up")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_chooses_the_retry_delay() {
    let date = || httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(3));
    for after in [|| "1".to_owned(), date] {
        let after = after();
        let backend = HttpBackend::start([Reply::retry_after(503, after)]);
        let fixture = Fixture::to(backend.otlp());
        let start = Instant::now();
        fixture.sinks.push(&chunk(0..1));
        wait_until("it was sent", || fixture.stats().forwarded == 1).await;
        // A date has whole seconds, so three seconds may be little more than two.
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(fixture.stats().requests, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partial_success_is_counted_in_both_protocols() {
    let http = HttpBackend::start([Reply::partial(3, "too old"), Reply::partial(0, "soon too old")]);
    let grpc = GrpcBackend::start([
        GrpcReply::Message(partial(3, "too old")),
        GrpcReply::Message(partial(0, "soon too old")),
    ]);
    for target in [http.otlp(), grpc.otlp()] {
        let fixture = Fixture::to(target);
        fixture.sinks.push(&chunk(0..10));
        wait_until("it was sent", || fixture.stats().queued == 0).await;
        fixture.sinks.push(&chunk(10..20));
        let lines = fixture.finish().await;
        let stats = fixture.stats();
        assert_eq!((stats.forwarded, stats.rejected, stats.retries), (17, 3, 0));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("rejected 3 spans") && lines[0].ends_with("too old"), "{lines:?}");
    }
    assert_eq!((http.received().len(), grpc.received().len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_and_compression_come_from_the_environment() {
    let http = HttpBackend::start([]);
    let grpc = GrpcBackend::start([]);
    let environment = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=se%20cret,x-tenant=t1"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), // the command line wins
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    let fixture = Fixture::open(&[http.otlp(), grpc.otlp()], &environment, None);
    fixture.sinks.push(&chunk(0..100));
    assert_eq!(fixture.finish().await, [""; 0]);
    let request = http.received().remove(0);
    assert_eq!(request.headers["content-encoding"], "gzip");
    let (api_key, tenant) = (&request.headers["api-key"], &request.headers["x-tenant"]);
    assert_eq!((&**api_key, &**tenant), ("se cret", "t1"));
    let mut body = Vec::new();
    flate2::read::GzDecoder::new(&*request.body).read_to_end(&mut body).unwrap();
    assert_eq!(numbers_of(&body), all(100));
    let request = grpc.received().remove(0);
    assert_eq!(request.headers["grpc-encoding"], "gzip");
    assert_eq!(request.headers["api-key"], "se cret");
    assert_eq!(request.headers["x-tenant"], "t1");
    assert_eq!(numbers_of(&request.message), all(100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_otlp_uses_the_endpoint_of_the_environment() {
    let (http, grpc) = (HttpBackend::start([]), GrpcBackend::start([]));
    let endpoint = format!("http://127.0.0.1:{}/base", http.port);
    let grpc_endpoint = format!("http://127.0.0.1:{}", grpc.port);
    let cases = [
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)],
        vec![("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &grpc_endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
    ];
    for environment in cases {
        let fixture = Fixture::open(&["otlp".into()], &environment, None);
        fixture.sinks.push(&chunk(0..10));
        fixture.finish().await;
        let stats = fixture.stats();
        assert_eq!(stats.forwarded, 10);
        // The user sees the address.
        assert!(stats.target.contains("://127.0.0.1:"), "{}", stats.target);
    }
    assert_eq!(http.received()[0].path, "/base/v1/traces");
    assert_eq!((http.accepted(), grpc.accepted()), (all(10), all(10)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_answer_is_a_failure() {
    // Accepts connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let environment = [("OTEL_EXPORTER_OTLP_TIMEOUT", "50")];
    let targets = [format!("otlp=http://127.0.0.1:{port}"), format!("otlp=grpc://127.0.0.1:{port}")];
    let fixture = Fixture::open(&targets, &environment, None);
    fixture.sinks.push(&chunk(0..1));
    wait_until("both gave up", || {
        let failing = |stats: &SinkStats| matches!(&stats.state, State::Failing { why, .. } if why == "no answer within 50ms");
        fixture.sinks.stats().iter().all(failing)
    })
    .await;
}

/// Holds the first connection without an answer, and forwards all others to `port`.
async fn silent_at_first(port: u16) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let _held = listener.accept().await.unwrap();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut backend = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut backend).await });
        }
    });
    address.port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_connection_is_replaced() {
    let (http, grpc) = (HttpBackend::start([]), GrpcBackend::start([]));
    let (http_port, grpc_port) = (silent_at_first(http.port).await, silent_at_first(grpc.port).await);
    let environment = [("OTEL_EXPORTER_OTLP_TIMEOUT", "500")];
    let targets =
        [format!("otlp=http://127.0.0.1:{http_port}"), format!("otlp=grpc://127.0.0.1:{grpc_port}")];
    let fixture = Fixture::open(&targets, &environment, None);
    fixture.sinks.push(&chunk(0..10));
    wait_until("both are delivered", || fixture.sinks.stats().iter().all(|stats| stats.forwarded == 10))
        .await;
    assert_eq!((http.accepted(), grpc.accepted()), (all(10), all(10)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_are_reported_and_not_followed() {
    let elsewhere = HttpBackend::start([]);
    let location = format!("http://127.0.0.1:{}/v1/traces", elsewhere.port);
    let backend = HttpBackend::start([Reply::Status(308, vec![("Location", location.clone())], vec![])]);
    let fixture = Fixture::to(backend.otlp());
    fixture.sinks.push(&chunk(0..1));
    let lines = fixture.finish().await;
    assert!(lines[0].ends_with(&format!("308 Permanent Redirect: use {location} instead")), "{lines:?}");
    assert_eq!((elsewhere.received().len(), fixture.stats().rejected), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_spans_become_few_requests() {
    let socket = DeafSocket::bind();
    let fixture = Fixture::to(format!("otlp=http://127.0.0.1:{}", socket.port()));
    (0..10_000).for_each(|number| fixture.sinks.push(&chunk(number..number + 1)));
    let backend = HttpBackend::on(socket.listen(), []);
    fixture.finish().await;
    assert_eq!(backend.accepted(), all(10_000));
    let sizes: Vec<usize> =
        backend.received().iter().map(|request| numbers_of(&request.body).len()).collect();
    // The first request may have been sent before there were many spans.
    assert!(sizes.len() <= 6 && sizes.iter().all(|size| *size <= 2_048), "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zipkin_delivers_and_retries_after_any_server_error() {
    let backend = HttpBackend::start([Reply::status(500), Reply::status(429), Reply::with_message(202, "")]);
    let fixture = Fixture::to(format!("zipkin=http://127.0.0.1:{}", backend.port));
    fixture.sinks.push(&chunk(0..10));
    fixture.finish().await;
    let stats = fixture.stats();
    assert_eq!((stats.forwarded, stats.retries), (10, 2));
    let request = backend.received().remove(2);
    assert_eq!((&*request.path, &*request.headers["content-type"]), ("/api/v2/spans", "application/json"));
    let spans: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    let names: Vec<&str> =
        spans.as_array().unwrap().iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(spans[7]["localEndpoint"]["serviceName"], "shop");
    assert_eq!(spans[7]["id"], "0000000000000007");
}
