//! The sinks with small backends on the loopback interface.
//!
//! `http_backend` and `grpc_backend` are the backends. `delivery` tests that each span arrives once and in order,
//! `accounting` that the counts are right, `ending` what is left at the end, `size` backends that accept only small
//! requests, and `tls` certificates.

#![allow(clippy::unwrap_used)] // a failing test is a panic

mod accounting;
mod delivery;
mod ending;
mod grpc_backend;
mod http_backend;
mod size;
mod tls;

use std::ops::Range;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

use super::pace::Pace;
use super::worker::Timing;
use super::*;
use crate::process::{Process, Sender};

/// A test that waits this long fails.
const LONG: Duration = Duration::from_secs(60);

const QUICK: Timing = Timing {
    linger: Duration::from_millis(5),
    pace: Pace { first: Duration::from_millis(5), longest: Duration::from_millis(20) },
    remember: Duration::from_secs(600),
};

/// A chunk of spans that are named by their numbers.
pub(super) fn chunk(numbers: Range<u64>) -> Chunk {
    padded_chunk(numbers, |_| 0)
}

/// The same, with an attribute of the given size in each span.
fn padded_chunk(numbers: Range<u64>, padding: impl Fn(u64) -> usize) -> Chunk {
    let value = Some(any_value::Value::StringValue("shop".into()));
    let service =
        KeyValue { key: "service.name".into(), value: Some(AnyValue { value }), ..Default::default() };
    let process = Process {
        sender: Sender { pid: 1, uid: 0, gid: 0 },
        service: "shop".into(),
        resource: Resource { attributes: vec![service], ..Default::default() },
    };
    let attributes = |number| {
        let value = Some(any_value::Value::StringValue("x".repeat(padding(number))));
        let attribute = KeyValue { key: "sql".into(), value: Some(AnyValue { value }), ..Default::default() };
        if padding(number) == 0 { vec![] } else { vec![attribute] }
    };
    let span = |number: u64| Span {
        attributes: attributes(number),
        trace_id: vec![1; 16],
        span_id: number.to_be_bytes().to_vec(),
        name: number.to_string(),
        start_time_unix_nano: 1_700_000_000_000_000_000 + number,
        end_time_unix_nano: 1_700_000_000_000_100_000 + number,
        ..Default::default()
    };
    Chunk::encode(&process, &[ScopeSpans { spans: numbers.map(span).collect(), ..Default::default() }])
}

/// The numbers of `chunk`.
pub(super) fn numbers<'a>(spans: impl IntoIterator<Item = &'a ResourceSpans>) -> Vec<u64> {
    let spans = spans.into_iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans);
    spans.map(|span| span.name.parse().unwrap()).collect()
}

/// Sinks, and their notices.
struct Fixture {
    sinks: Sinks,
    notices: Receiver<String>,
}

impl Fixture {
    fn open(targets: &[String], environment: &[(&str, &str)], spool: Option<SpoolSettings>) -> Self {
        let targets = targets.iter().map(|target| target.parse().unwrap()).collect();
        let lookup = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let (sender, notices) = Notices::new();
        let settings = Settings { targets, spool, ..Settings::default() };
        let sinks = Sinks::open_with(&settings, &lookup, &sender, QUICK, MEMORY_BYTES).unwrap();
        Self { sinks, notices }
    }

    fn to(target: String) -> Self {
        Self::open(&[target], &[], None)
    }

    /// The stats of the only sink.
    fn stats(&self) -> SinkStats {
        let stats = self.sinks.stats().remove(0);
        stats.check();
        stats
    }

    /// Sends everything and ends. Returns the notices since the last call.
    async fn finish(&self) -> Vec<String> {
        self.sinks.finish(LONG).await;
        self.sinks.stats().iter().for_each(SinkStats::check);
        self.notices.try_iter().collect()
    }
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "this did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A bound address that refuses connections until `listen`.
struct DeafSocket(tokio::net::TcpSocket);

impl DeafSocket {
    fn bind() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    fn listen(self) -> std::net::TcpListener {
        let listener = self.0.listen(64).unwrap().into_std().unwrap();
        listener.set_nonblocking(false).unwrap();
        listener
    }
}
