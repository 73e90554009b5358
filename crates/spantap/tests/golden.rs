//! Draws traces and compares each with a file in `tests/golden`.
//!
//! After an intended change, run this command and read its `git diff`:
//!
//! ```sh
//! UPDATE_GOLDEN=1 cargo test -p spantap --test golden
//! ```
//!
//! It writes the files, and fails if any of them has changed, so that it can't pass by accident in CI.
#![allow(clippy::unwrap_used)] // a failing test is a panic

use std::path::Path;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use spantap::process::{Process, Sender};
use spantap::trace::{Shown, Trace, TraceSpan};
use spantap::view::{Look, path_legend, tree};

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const NOON_NS: u64 = 1_700_000_000_000_000_000;

fn check(name: &str, drawn: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os("UPDATE_GOLDEN").is_some() && drawn != expected {
        std::fs::write(&path, drawn).unwrap();
    }
    assert!(drawn == expected, "{} has\n{expected}\nbut drawn is\n{drawn}", path.display());
}

fn process(service: &str, pid: u32) -> Arc<Process> {
    let sender = Sender { pid, uid: 1000, gid: 1000 };
    Arc::new(Process { sender, service: service.into(), resource: Default::default() })
}

/// A value that is a number becomes an integer, any other a string.
fn attributes(fields: &[(&str, &str)]) -> Vec<KeyValue> {
    let value = |text: &str| text.parse().map_or(Value::StringValue(text.into()), Value::IntValue);
    let attribute = |&(key, text): &(&str, &str)| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value(text)) }),
        ..KeyValue::default()
    };
    fields.iter().map(attribute).collect()
}

/// A span in the tests below. Its times are microseconds after noon.
struct New(TraceSpan);

fn span(process: &Arc<Process>, name: &str, id: u64, parent: u64, from_us: i64, to_us: i64) -> New {
    let time = |us: i64| NOON_NS.checked_add_signed(us * 1_000).unwrap();
    let parent_span_id = if parent == 0 { Vec::new() } else { parent.to_be_bytes().into() };
    let span = Span {
        trace_id: TRACE.to_be_bytes().into(),
        span_id: id.to_be_bytes().into(),
        parent_span_id,
        name: name.into(),
        start_time_unix_nano: time(from_us),
        end_time_unix_nano: time(to_us),
        attributes: attributes(&[("level", "INFO"), ("target", "shop::store"), ("thread.id", "7")]),
        ..Span::default()
    };
    New(TraceSpan { process: Arc::clone(process), span })
}

impl New {
    fn fields(mut self, fields: &[(&str, &str)]) -> Self {
        self.0.span.attributes.splice(0..0, attributes(fields));
        self
    }

    fn busy(self, percent: i64) -> Self {
        let of = |percent: i64| (percent * 1_000).to_string();
        self.fields(&[("busy_ns", &of(percent)), ("idle_ns", &of(100 - percent))])
    }

    fn failed(mut self, message: &str) -> Self {
        self.0.span.status = Some(Status { message: message.into(), code: 2 });
        self
    }

    fn event(mut self, at_us: i64, name: &str, fields: &[(&str, &str)]) -> Self {
        self.0.span.events.push(Event {
            time_unix_nano: NOON_NS.checked_add_signed(at_us * 1_000).unwrap(),
            name: name.into(),
            attributes: attributes(fields),
            ..Event::default()
        });
        self
    }

    fn follows(mut self, trace: u128, id: u64) -> Self {
        let link = Link {
            trace_id: trace.to_be_bytes().into(),
            span_id: id.to_be_bytes().into(),
            ..Link::default()
        };
        self.0.span.links.push(link);
        self
    }
}

fn trace(spans: impl IntoIterator<Item = New>) -> Trace {
    Trace {
        id: TRACE,
        spans: spans.into_iter().map(|new| new.0).collect(),
        shown: Shown::Complete,
        duplicates: 0,
        left_out: 0,
        late: 0,
    }
}

/// A request that fails in the database.
fn request() -> Trace {
    let shop = process("shop", 4242);
    let query = "UPDATE products\n  SET stock = stock - ?2\n  WHERE id = ?1 AND stock >= ?2";
    let http = [
        ("http.request.method", "POST"),
        ("http.route", "/orders"),
        ("user", "ada"),
        ("http.response.status_code", "409"),
    ];
    // In the order of their ends.
    trace([
        span(&shop, "authenticate", 2, 1, 200, 3_400).busy(96).fields(&[("user", "ada")]),
        span(&shop, "pool.acquire", 4, 3, 4_100, 12_350).busy(1),
        span(&shop, "sqlite", 5, 3, 12_400, 31_000)
            .busy(70)
            .fields(&[("db.system.name", "sqlite"), ("db.query.text", query), ("level", "WARN")])
            .failed("database is locked")
            .event(12_450, "busy, trying again", &[("level", "WARN"), ("attempt", "1")])
            .event(30_900, "error", &[("level", "ERROR"), ("exception.message", "database is locked")]),
        span(&shop, "place_order", 3, 1, 4_000, 31_200)
            .busy(12)
            .fields(&[("product", "7"), ("quantity", "2"), ("note", "leave it at the door")])
            .failed("could not reserve 2 of product 7, as the store did not answer before the deadline"),
        span(&shop, "mail", 6, 1, 33_000, 95_000).busy(3).follows(TRACE, 3).follows(77, 78),
        span(&shop, "POST /orders", 1, 0, 0, 38_000).busy(25).fields(&http),
    ])
}

/// A service calls another one, whose clock is 3 ms behind.
fn skewed() -> Trace {
    let (shop, stock) = (process("shop", 4242), process("stock", 17));
    trace([
        span(&stock, "reserve", 3, 2, 0, 9_000).busy(40).fields(&[("product", "7")]),
        span(&stock, "commit", 4, 3, 5_000, 8_500),
        span(&stock, "notify everybody who waits for the product", 5, 2, 4_000, 21_500).busy(5),
        span(&shop, "GET stock/reserve", 2, 1, 3_000, 14_000).busy(2),
        span(&shop, "POST /orders", 1, 0, 0, 16_000).busy(30),
    ])
}

/// A trace whose root is lost, with a late span.
fn incomplete() -> Trace {
    let shop = process("shop", 4242);
    let spans = [
        span(&shop, "sqlite", 3, 2, 400, 900),
        span(&shop, "load_product", 2, 1, 300, 1_000).busy(55),
        span(&shop, "render", 5, 4, 1_100, 1_400),
        span(&shop, "log", 6, 2, 950, 990),
    ];
    Trace { shown: Shown::Waited, duplicates: 2, left_out: 1_200, late: 1, ..trace(spans) }
}

/// Spans that are each other's parents, and a span with many events that fails.
fn odd() -> Trace {
    let shop = process("shop", 4242);
    let mut worker = span(&shop, "worker", 4, 3, 200, 900).failed("");
    for attempt in 1..=6 {
        worker = worker.event(attempt * 100, "trying", &[("attempt", &attempt.to_string())]);
    }
    let panic = [("exception.type", "panic"), ("exception.message", "index out of bounds\nat main.rs:7")];
    let mut worker = worker.event(850, "exception", &panic).follows(TRACE, 9).follows(TRACE, 2).follows(5, 6);
    worker.0.span.dropped_events_count = 12;
    worker.0.span.dropped_attributes_count = 1;
    let spans = [
        span(&shop, "second", 2, 3, 300, 500).failed("no seat").event(
            400,
            "no seat",
            &[("level", "ERROR"), ("seat", "12F")],
        ),
        span(&shop, "first", 3, 2, 100, 1_000),
        worker,
        span(&shop, "esc \x1b[31m, \u{202e}turned", 5, 3, 400, 450).fields(&[("\x07bell", "注文\u{200b}書")]),
    ];
    Trace { shown: Shown::End, ..trace(spans) }
}

/// Events without a message, which `tracing` names by their location, in dependencies and in the workspace.
fn without_messages() -> Trace {
    let shop = process("shop", 4242);
    let registry = "event /home/ada/.cargo/registry/src/index-1949cf8c6b5b557f";
    trace([
        span(&shop, "connection", 2, 1, 100, 900)
            .event(
                200,
                &format!("{registry}/h2-0.4.6/src/codec/framed_read.rs:405"),
                &[("level", "DEBUG"), ("frame", "Settings")],
            )
            .event(
                300,
                &format!("{registry}/h2-0.4.6/src/proto/go_away.rs:7"),
                &[("level", "WARN"), ("code.line.number", "7")],
            )
            .event(400, "event crates/shop/src/main.rs:12", &[("level", "WARN"), ("attempt", "2")])
            .event(500, "event crates/shop/src/main.rs:12", &[]),
        span(&shop, "request", 1, 0, 0, 1_000),
    ])
}

/// A program that ended inside a span with events of libraries.
fn cut_short() -> Trace {
    let shop = process("shop", 4242);
    trace([
        span(&shop, "connect", 2, 1, 100, 900)
            .event(200, "starting new connection", &[("level", "DEBUG"), ("target", "reqwest::connect")])
            .event(300, "slow", &[("level", "WARN"), ("target", "sqlx::query"), ("elapsed_ms", "12")])
            .event(400, "our own", &[("target", "shop::client")])
            .event(500, "without a target", &[]),
        span(&shop, "request", 1, 0, 0, 1_000).fields(&[("tracing_usdt.unfinished", "true")]),
    ])
}

/// The clock of a daemon was set back by an hour, and later forward by an hour.
fn clock_set() -> Trace {
    const HOUR_US: i64 = 3_600_000_000;
    let shop = process("shop", 4242);
    trace([
        span(&shop, "before", 2, 1, 10_000, 30_000),
        span(&shop, "query", 4, 3, 41_000 - HOUR_US, 50_000 - HOUR_US).busy(10),
        span(&shop, "set back", 3, 1, 40_000 - HOUR_US, 60_000 - HOUR_US).event(
            45_000 - HOUR_US,
            "asked",
            &[],
        ),
        span(&shop, "query", 6, 5, 71_000 + HOUR_US, 75_000 + HOUR_US).busy(10),
        span(&shop, "set forward", 5, 1, 70_000 + HOUR_US, 80_000 + HOUR_US),
        span(&shop, "daemon", 1, 0, 0, 100_000).busy(1),
    ])
}

/// Spans with the decoder's notes about what senders left out or got wrong.
fn odd_spans() -> Trace {
    let (gateway, stock) = (process("gateway", 17), process("stock", 18));
    let (shared, above) = (("zipkin.id", "00000000000000c1"), ("zipkin.parent_id", "00000000000000a1"));
    let note = [("spantap.odd", "no end time: duration unknown")];
    let mut call =
        span(&gateway, "call stock", 0xc1, 0xa1, 2_000, 27_000).fields(&[("peer.service", "stock")]);
    call.0.span.kind = 3;
    let mut serve = span(&stock, "serve stock", 0xee, 0xc1, 4_000, 24_000).fields(&[shared, above]);
    serve.0.span.kind = 2;
    trace([
        serve,
        // It arrived before its parent's half.
        span(&stock, "select stock", 0xd1, 0xc1, 6_000, 15_000).fields(&[("error", "false")]),
        call,
        span(&gateway, "send", 0xd2, 0xa1, 28_000, 28_000).fields(&note),
        span(&gateway, "get /product", 0xa1, 0, 0, 30_000),
    ])
}

fn chain(spans: u64) -> Trace {
    let shop = process("shop", 4242);
    let us = |id: u64| id as i64 * 10;
    let link = |id: u64| span(&shop, &format!("step {id}"), id, id - 1, us(id), 100_000 - us(id));
    trace((1..=spans).map(link))
}

fn wide(spans: u64) -> Trace {
    let shop = process("shop", 4242);
    let job = |id: u64| {
        let start = id as i64 * 9;
        let new = span(&shop, "job", id, 1, start, start + 900).fields(&[("number", &id.to_string())]);
        if id.is_multiple_of(4_000) { new.failed("disk full") } else { new }
    };
    let root = span(&shop, "batch", 1, 0, 0, 100_000).busy(99);
    trace([root].into_iter().chain((2..=spans).map(job)))
}

fn plain(trace: &Trace, columns: usize) -> String {
    tree(trace, &Look::new(columns, false))
}

/// Kernel spans like those of `spantap attach`.
#[test]
fn draws_kernel_spans() {
    let shop = process("shop", 4242);
    let kernel = |name: &str, id, parent, from_us, to_us, fields: &[(&str, &str)]| {
        span(&shop, name, id, parent, from_us, to_us).fields(fields)
    };
    let spans = vec![
        span(&shop, "POST /orders", 1, 0, 0, 4_000).busy(100).fields(&[
            ("kernel.on_cpu_ns", "1000000"),
            ("kernel.run_queue_ns", "200000"),
            ("kernel.preempted_ns", "300000"),
            ("kernel.sleep_ns", "1000000"),
            ("kernel.disk_ns", "1500000"),
        ]),
        span(&shop, "parse", 2, 1, 0, 100)
            .busy(100)
            .fields(&[("kernel.on_cpu_ns", "99000"), ("kernel.sleep_ns", "1000")]),
        kernel(
            "sleep",
            3,
            1,
            500,
            1_500,
            &[
                ("kernel.waker", "tokio-rt-worker"),
                ("kernel.waker.pid", "4242"),
                ("kernel.waker.tid", "4250"),
            ],
        ),
        kernel(
            "run queue",
            4,
            1,
            1_500,
            1_700,
            &[("kernel.waker", "tokio-rt-worker"), ("kernel.waker.tid", "4250")],
        ),
        kernel(
            "block write",
            5,
            1,
            2_000,
            3_500,
            &[("system.device", "vda"), ("kernel.block.bytes", "65536")],
        ),
        kernel(
            "syscall write",
            6,
            1,
            1_800,
            3_900,
            &[("kernel.count", "12"), ("kernel.total_ns", "1234567"), ("kernel.longest_ns", "234567")],
        ),
        kernel(
            "tcp close",
            7,
            1,
            3_950,
            3_950,
            &[
                ("network.transport", "tcp"),
                ("network.peer.address", "10.0.0.7"),
                ("network.peer.port", "5432"),
                ("kernel.tcp.sent_bytes", "1024"),
            ],
        ),
        span(&shop, "consume", 8, 1, 100, 3_000)
            .fields(&[("kernel.partial", "it began before spantap attached")]),
    ];
    check("kernel_80", &tree(&trace(spans), &Look::new(80, false)));
}

#[test]
fn draws_a_failed_request() {
    check("request_80", &plain(&request(), 80));
}

#[test]
fn draws_a_failed_request_in_a_wide_terminal() {
    check("request_120", &plain(&request(), 120));
}

#[test]
fn draws_a_failed_request_in_a_narrow_terminal() {
    check("request_40", &plain(&request(), 40));
}

#[test]
fn draws_a_failed_request_in_colour() {
    let drawn = tree(&request(), &Look::new(80, true));
    check("request_colour", &drawn.replace('\x1b', "␛"));
}

#[test]
fn draws_the_critical_path() {
    let look = Look { critical_path: true, ..Look::new(80, false) };
    check("critical_path", &(path_legend(&look) + &tree(&request(), &look)));
}

#[test]
fn draws_two_processes_whose_clocks_differ() {
    check("skew", &plain(&skewed(), 80));
}

#[test]
fn draws_missing_parents_late_spans_and_duplicates() {
    check("incomplete", &plain(&incomplete(), 80));
}

#[test]
fn draws_circles_of_parents_many_events_and_escape_sequences() {
    check("odd", &plain(&odd(), 80));
}

#[test]
fn events_without_a_message_show_their_fields_or_a_short_location() {
    check("no_message", &plain(&without_messages(), 80));
}

#[test]
fn draws_unfinished_spans_and_events_of_libraries() {
    check("cut_short", &plain(&cut_short(), 80));
}

#[test]
fn draws_a_trace_whose_clock_was_stepped() {
    check("clock_set", &plain(&clock_set(), 100));
}

#[test]
fn draws_halves_of_a_shared_span_and_notes_about_spans() {
    check("shared", &plain(&odd_spans(), 100));
}

#[test]
fn the_number_of_spans_left_out_is_never_shortened() {
    let mut chain = chain(5_000);
    chain.spans.iter_mut().for_each(|span| span.span.status = Some(Status { code: 2, ..Status::default() }));
    let drawn = tree(&chain, &Look { lines: 30, ..Look::new(40, false) });
    assert_eq!(drawn.lines().last(), Some("        … 4,986 more spans, 4,986 errors"), "{drawn}");
}

#[test]
fn draws_a_deep_chain() {
    check("deep", &tree(&chain(10_000), &Look { lines: 18, ..Look::new(80, false) }));
}

#[test]
fn draws_a_wide_trace() {
    check("wide", &tree(&wide(9_999), &Look { lines: 16, ..Look::new(80, false) }));
}
