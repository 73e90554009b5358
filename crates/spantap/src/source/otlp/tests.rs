//! The server with small limits: what it does with clients that ask for too much.
#![allow(clippy::unwrap_used)] // a failing test is a panic

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::runtime::Runtime;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::limits::Limits;
use super::{Requests, Settings, Stop, bind};
use crate::pipeline::Pipeline;
use crate::sink::{self, Sinks};
use crate::stats::{Refusal, Stats};
use crate::text::Notices;

/// A server. Its requests are taken out once `take_in` was called.
struct Fixture {
    runtime: Runtime,
    address: SocketAddr,
    stats: Arc<Stats>,
    notices: (Notices, mpsc::Receiver<String>),
    requests: Option<Requests>,
    stop: Stop,
    taker: Option<JoinHandle<()>>,
}

impl Fixture {
    fn new(limits: Limits) -> Self {
        let runtime = Runtime::new().unwrap();
        let (stats, notices) = (Arc::<Stats>::default(), Notices::new());
        let settings = Settings { addresses: vec!["127.0.0.1:0".parse().unwrap()], ..Settings::default() };
        let _entered = runtime.enter();
        let bound = runtime.block_on(bind(&settings, &notices.0)).unwrap().unwrap().with_limits(limits);
        let address = bound.addresses()[0];
        let (requests, stop) = bound.start(&stats, &notices.0);
        Self { address, stats, notices, requests: Some(requests), stop, taker: None, runtime }
    }

    fn take_in(&mut self) {
        let (requests, notices, stats) =
            (self.requests.take(), self.notices.0.clone(), Arc::clone(&self.stats));
        let _entered = self.runtime.enter();
        let sinks = Arc::new(Sinks::open(&sink::Settings::default(), &|_: &str| None, &notices).unwrap());
        let pipeline = Pipeline {
            stats,
            notices,
            sinks,
            programs: Arc::default(),
            sampling: None,
            span_metrics: None,
            flight: None,
            open: Arc::default(),
            view: None,
        };
        self.taker = Some(thread::spawn(move || {
            let take_in =
                requests.map(|requests| |intake: &mut crate::pipeline::Intake<'_>| requests.take_in(intake));
            pipeline.run(|_| Ok(()), take_in).unwrap();
        }));
    }

    /// Stops, and waits for the end.
    fn stop(mut self) -> Arc<Stats> {
        self.stop.stop();
        if self.taker.is_none() {
            self.take_in();
        }
        self.taker.take().unwrap().join().unwrap();
        self.stats
    }

    /// How many requests wait to be taken out.
    fn waiting(&self) -> usize {
        self.requests.as_ref().map_or(0, |requests| requests.0.len())
    }

    fn spans(&self) -> u64 {
        self.stats.total().spans
    }

    fn refused(&self, refusal: Refusal) -> u64 {
        self.stats
            .refused_requests()
            .into_iter()
            .find(|(known, _)| *known == refusal)
            .map_or(0, |(_, count)| count)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends a request, or a part of it.
    fn send(&self, body: &[u8], length: usize) -> TcpStream {
        let mut stream = self.connect();
        let head = "POST /v1/traces HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-protobuf";
        write!(stream, "{head}\r\nContent-Length: {length}\r\n\r\n").unwrap();
        stream.write_all(body).unwrap();
        stream
    }

    fn post(&self, span: u64) -> TcpStream {
        let body = request(span);
        self.send(&body, body.len())
    }

    /// Calls over gRPC. Returns the status, and the message if there is one.
    fn call(&self, span: u64) -> (Status, Option<ExportTraceServiceResponse>) {
        let message = request(span);
        let mut body = vec![0];
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
        let address = self.address;
        self.runtime.block_on(async move {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let path = "http://x/opentelemetry.proto.collector.trace.v1.TraceService/Export";
            let request =
                Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
            let mut client = client.ready().await.unwrap();
            let (response, mut sending) = client.send_request(request.body(()).unwrap(), false).unwrap();
            sending.send_data(Bytes::from(body), true).unwrap();
            let (head, mut body) = response.await.unwrap().into_parts();
            assert_eq!(head.status, 200, "gRPC has its own status");
            if let Some(status) = Status::from_header_map(&head.headers) {
                return (status, None);
            }
            let mut bytes = Vec::new();
            while let Some(data) = body.data().await {
                bytes.extend(data.unwrap());
            }
            let trailers = body.trailers().await.unwrap().unwrap();
            let response = ExportTraceServiceResponse::decode(&bytes[5..]).unwrap();
            (Status::from_header_map(&trailers).unwrap(), Some(response))
        })
    }
}

/// A request with one span.
fn request(number: u64) -> Vec<u8> {
    let span = Span {
        trace_id: vec![1; 16],
        span_id: number.to_be_bytes().to_vec(),
        name: "made up".into(),
        start_time_unix_nano: 1_767_225_600_000_000_000,
        end_time_unix_nano: 1_767_225_600_000_000_001,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// Everything that the server sends until it closes the connection.
fn answer(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is an end, too; that nothing comes is none.
    let ended = stream.read_to_end(&mut answer);
    let is_late = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!is_late, "the connection stays open after {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(2));
    }
    assert!(condition(), "this did not happen: {what}");
}

#[test]
fn success_is_answered_after_the_spans_were_taken() {
    let mut server = Fixture::new(Limits::default());
    let stream = server.post(1);
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!((&stream).read(&mut [0]).is_err(), "nobody has taken the span");
    server.take_in();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let answer = answer(stream);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (status, response) = server.call(2);
    assert_eq!((status.code(), response.unwrap().partial_success), (Code::Ok, None));
    assert_eq!(server.call(0).1.unwrap().partial_success.map(|partial| partial.rejected_spans), Some(1));
    assert_eq!(server.spans(), 2);
    server.stop();
}

#[test]
fn without_room_in_the_queue_the_client_is_asked_to_come_again() {
    let limits = Limits { queue: 2, queue_time: Duration::from_millis(20), ..Limits::default() };
    let mut server = Fixture::new(limits);
    // Nobody takes them out yet.
    let waiting = [server.post(1), server.post(2)];
    wait_until("the queue is full", || server.waiting() == 2);
    let refused = answer(server.post(3)).to_ascii_lowercase();
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    let (status, response) = server.call(3);
    assert_eq!((status.code(), response), (Code::Unavailable, None));
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    let busy = server.refused(Refusal::Busy);
    assert_eq!(busy, 2);
    server.take_in();
    for stream in waiting {
        assert!(answer(stream).starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(server.call(3).0.code(), Code::Ok);
    assert_eq!(server.stop().total().spans, 3);
}

#[test]
fn memory_for_all_requests_together_is_limited() {
    let limits = Limits { memory: 1000, ..Limits::default() };
    let mut server = Fixture::new(limits);
    server.take_in();
    let body = [0; 200];
    let mut slow = None;
    wait_until("the memory is used", || {
        // It holds what it has sent, and not what it has announced. It may come too late, and be refused itself.
        slow = Some(server.send(&[0; 900], 100_000));
        thread::sleep(Duration::from_millis(10));
        answer(server.send(&body, 200)).starts_with("HTTP/1.1 503 ")
    });
    let small = answer(server.post(1));
    assert!(small.starts_with("HTTP/1.1 200 "), "{small}");
    drop(slow);
    wait_until("the memory is free again", || answer(server.send(&body, 200)).starts_with("HTTP/1.1 400 "));
    server.stop();
}

#[test]
fn slow_and_unfinished_requests_are_given_up() {
    let limits = Limits { read_time: Duration::from_millis(200), ..Limits::default() };
    let mut server = Fixture::new(limits);
    server.take_in();
    assert!(answer(server.send(&[0x0a], 100)).starts_with("HTTP/1.1 408 "));
    assert_eq!(server.refused(Refusal::TooSlow), 1);
    drop(server.send(&[0x0a], 100));
    wait_until("it is counted", || server.refused(Refusal::TooSlow) == 2);
    assert_eq!(server.notices.1.try_iter().filter(|line| line.contains("it did not arrive")).count(), 1);
    server.stop();
}

#[test]
fn connections_without_a_request_are_closed() {
    let time = Duration::from_millis(100);
    let mut server = Fixture::new(Limits { first_time: time, idle_time: time, ..Limits::default() });
    server.take_in();
    assert_eq!(answer(server.connect()), "");
    let mut half = server.connect();
    half.write_all(b"POST /v1/traces HTTP/1.1\r\nHo").unwrap();
    answer(half);
    // After an answer, too.
    let mut kept = server.connect();
    kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let answer = answer(kept);
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    server.stop();
}

#[test]
fn idle_connections_make_room_and_busy_ones_do_not() {
    let mut server =
        Fixture::new(Limits { connections: 4, first_time: Duration::from_secs(600), ..Limits::default() });
    let idle: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    let busy: Vec<TcpStream> = (1..5).map(|span| server.post(span)).collect();
    wait_until("their requests are there", || server.waiting() == 4);
    // The four that have a request are the only ones.
    wait_until("a connection is refused", || {
        drop(server.connect());
        server.refused(Refusal::Connections) > 0
    });
    for stream in idle {
        assert_eq!(answer(stream), "");
    }
    server.take_in();
    for stream in busy {
        assert!(answer(stream).starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(server.stop().total().spans, 4);
}

#[test]
fn at_the_end_requests_that_have_arrived_are_taken_and_others_are_sent_again() {
    let mut server = Fixture::new(Limits { farewell: Duration::from_secs(30), ..Limits::default() });
    let arrived = server.post(1);
    let body = request(2);
    let half = server.send(&body[..5], body.len());
    let kept = server.connect();
    wait_until("it is in the queue", || server.waiting() == 1);
    server.stop.stop();
    let refused = answer(half);
    // Its head may not have been read.
    assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert_eq!(answer(kept), "");
    server.take_in();
    assert!(answer(arrived).starts_with("HTTP/1.1 200 "));
    wait_until("nobody listens", || TcpStream::connect(server.address).is_err());
    assert_eq!(server.stop().total().spans, 1);
}
