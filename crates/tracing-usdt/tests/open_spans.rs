//! Reports of spans that are open for long.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod collector;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use collector::{Collector, assert_stats_add_up, wait_until};
use serde_json::Value;
use tracing::{Span, info_span, subscriber::with_default};
use tracing_subscriber::prelude::*;
use tracing_usdt::{Builder, Delivery, Format};

const THRESHOLD: Duration = Duration::from_millis(100);

fn builder(collector: &Collector) -> Builder {
    let builder = collector.builder().with_delivery(Delivery::Background).with_format(Format::OtlpJson);
    builder.with_open_spans(THRESHOLD)
}

/// What a datagram has: its closed spans, and its report.
struct Received {
    closed: Vec<Value>,
    report: Option<Value>,
    sequence: Value,
    bytes: usize,
}

fn receive(collector: &Collector) -> Vec<Received> {
    let received = collector.drain_text().into_iter().map(|text| {
        let datagram: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let closed = datagram["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
        let report = datagram.get("tracingUsdtOpen").cloned();
        assert!(report.is_none() || closed.is_empty(), "a report has no closed spans: {text}");
        Received { closed, report, sequence: datagram["tracingUsdt"].clone(), bytes: text.len() }
    });
    received.collect()
}

/// Waits for a report for which `wanted` returns true. Returns it, and the spans that were closed before.
fn wait_for_report(collector: &Collector, wanted: impl Fn(&Value) -> bool) -> (Value, Vec<Value>) {
    let (mut found, mut closed) = (None, Vec::new());
    wait_until("a report comes", || {
        for received in receive(collector) {
            closed.extend(received.closed);
            found = found.take().or(received.report.filter(|report| wanted(report)));
        }
        found.is_some()
    });
    (found.unwrap(), closed)
}

fn names(report: &Value) -> Vec<&str> {
    report["spans"].as_array().unwrap().iter().map(|span| span["name"].as_str().unwrap()).collect()
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a Value> {
    let attributes = span["attributes"].as_array().unwrap();
    attributes.iter().find(|attribute| attribute["key"] == key).map(|attribute| &attribute["value"])
}

fn ns(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

/// Also if no span has closed before, so that nothing else would start the sender thread.
#[test]
fn a_span_that_hangs_is_reported_and_is_a_normal_span_once_when_it_closes() {
    let collector = Collector::bind();
    let layer = builder(&collector).build();
    let handle = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        let began = Instant::now();
        let root = info_span!("GET /orders", order = 7, user = tracing::field::Empty).entered();
        root.record("user", "ann");
        let child = info_span!("query").entered();
        let (report, closed) = wait_for_report(&collector, |report| names(report).len() == 2);
        let age = began.elapsed();
        assert!(closed.is_empty() && age >= THRESHOLD);
        assert_eq!(names(&report), ["GET /orders", "query"], "the oldest first");
        assert_eq!((&report["count"], ns(&report["thresholdNano"])), (&2.into(), 100_000_000));
        let spans = report["spans"].as_array().unwrap().clone();
        for span in &spans {
            let (start, end) = (ns(&span["startTimeUnixNano"]), ns(&span["endTimeUnixNano"]));
            assert!((THRESHOLD.as_nanos()..=age.as_nanos()).contains(&u128::from(end - start)), "{span}");
            assert!(end.abs_diff(ns(&report["timeUnixNano"])) < 1_000_000, "its end is the time of the look");
            assert_eq!(attribute(span, "tracing_usdt.unfinished").unwrap()["boolValue"], true);
        }
        assert_eq!(attribute(&spans[0], "order").unwrap()["intValue"], "7");
        assert_eq!(attribute(&spans[0], "user").unwrap()["stringValue"], "ann", "recorded later");
        assert_eq!(spans[1]["parentSpanId"], spans[0]["spanId"]);
        assert_eq!(handle.stats().closed, 0, "a report counts no spans");

        drop((child, root));
        let (empty, closed) = wait_for_report(&collector, |report| names(report).is_empty());
        assert_eq!(empty["count"], 0);
        assert_eq!(closed.len(), 2, "{closed:?}");
        for span in &spans {
            let same = closed.iter().filter(|closed| closed["spanId"] == span["spanId"]);
            let same: Vec<_> = same.filter(|closed| closed["traceId"] == span["traceId"]).collect();
            assert_eq!((same.len(), &same[0]["name"]), (1, &span["name"]));
            assert_eq!(attribute(same[0], "tracing_usdt.unfinished"), None);
        }
        // That nothing is open any more is said once.
        std::thread::sleep(3 * THRESHOLD);
        assert!(receive(&collector).is_empty());
    });
    assert_eq!((handle.stats().sent, handle.stats().closed), (2, 2));
}

#[test]
fn spans_that_are_shorter_are_never_reported() {
    let collector = &Collector::bind();
    // Far more than a span takes here, even on a busy machine.
    let layer = builder(collector).with_open_spans(Duration::from_secs(20)).build();
    let handle = layer.handle();
    let spans = 100_000;
    let is_done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let (mut reports, mut datagrams) = (0, 0);
            while !is_done.load(Ordering::Relaxed) {
                for datagram in collector.drain_bytes() {
                    datagrams += 1;
                    // The end of the list of open spans.
                    reports += usize::from(datagram.ends_with(b"]}}"));
                }
            }
            assert!(datagrams > 100, "{datagrams} datagrams");
            reports
        });
        with_default(tracing_subscriber::registry().with(layer), || {
            (0..spans).for_each(|n| drop(info_span!("short", n).entered()));
            std::thread::sleep(Duration::from_millis(1500));
        });
        is_done.store(true, Ordering::Relaxed);
        assert_eq!(receiver.join().unwrap(), 0);
    });
    assert_stats_add_up(&handle);
}

#[test]
fn of_very_many_open_spans_the_oldest_are_reported_and_the_others_counted() {
    let collector = Collector::bind();
    let layer = builder(&collector).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let spans: Vec<Span> = (0..10_000).map(|n| info_span!("open", n)).collect();
        let mut largest = None;
        wait_until("all are counted", || {
            let reports = receive(&collector).into_iter().filter(|received| received.report.is_some());
            largest = reports.max_by_key(|received| received.report.as_ref().unwrap()["count"].as_u64());
            largest.as_ref().is_some_and(|received| received.report.as_ref().unwrap()["count"] == 10_000)
        });
        let Received { report, bytes, sequence, .. } = largest.unwrap();
        let report = report.unwrap();
        assert!(bytes <= 33 << 10, "{bytes} bytes");
        let listed: Vec<_> = report["spans"]
            .as_array()
            .unwrap()
            .iter()
            .map(|span| ns(&attribute(span, "n").unwrap()["intValue"]))
            .collect();
        assert!(listed.len() >= 30, "{} spans", listed.len());
        assert_eq!(listed, (0..listed.len() as u64).collect::<Vec<_>>(), "the oldest, in their order");
        assert_eq!((&sequence["sentBefore"], &sequence["spans"]), (&0.into(), &0.into()));
        drop(spans);
    });
}

#[test]
fn a_layer_that_is_taken_out_says_that_nothing_is_open_any_more() {
    let collector = Collector::bind();
    let (layer, reload) = tracing_subscriber::reload::Layer::new(Some(builder(&collector).build()));
    with_default(tracing_subscriber::registry().with(layer), || {
        let _span = info_span!("hangs").entered();
        wait_for_report(&collector, |report| report["count"] == 1);
        reload.reload(None).unwrap();
        wait_for_report(&collector, |report| report["count"] == 0);
    });
}

/// The sender thread calls the callback while it sends a report, and keeps other threads from sending meanwhile.
#[test]
fn a_callback_during_a_report_may_flush() {
    let collector = Collector::bind();
    let (results, received) = std::sync::mpsc::channel();
    let cell = Arc::new(Mutex::new(None::<tracing_usdt::Handle>));
    let handle = Arc::clone(&cell);
    let layer = builder(&collector).on_error(move |_| {
        let handle = handle.lock().unwrap().clone();
        _ = results.send(handle.map(|handle| handle.flush(collector::TIMEOUT)));
    });
    let layer = layer.build();
    *cell.lock().unwrap() = Some(layer.handle());
    with_default(tracing_subscriber::registry().with(layer), || {
        let _span = info_span!("hangs").entered();
        wait_for_report(&collector, |_| true);
        drop(collector);
        let first = received.recv_timeout(collector::TIMEOUT).unwrap().unwrap();
        assert!(first.is_err_and(|error| error.in_callback), "the sender thread can't flush");
    });
}

/// While other threads make the sender's work themselves, and close spans that were just reported.
#[test]
fn no_span_is_reported_as_open_after_it_has_arrived_as_closed() {
    let collector = &Collector::bind();
    let layer = builder(collector).with_open_spans(Duration::from_millis(1)).build();
    let handle = layer.handle();
    let subscriber = Arc::new(tracing_subscriber::registry().with(layer));
    let is_done = &AtomicBool::new(false);
    let end = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let (mut closed, mut reported) = (BTreeSet::new(), 0);
            while !is_done.load(Ordering::Relaxed) {
                for received in receive(collector) {
                    closed.extend(
                        received.closed.iter().map(|span| span["spanId"].as_str().unwrap().to_owned()),
                    );
                    for span in received.report.iter().flat_map(|report| report["spans"].as_array().unwrap())
                    {
                        reported += 1;
                        assert!(!closed.contains(span["spanId"].as_str().unwrap()), "{span}");
                    }
                }
            }
            reported
        });
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (subscriber, handle) = (Arc::clone(&subscriber), handle.clone());
                scope.spawn(move || {
                    with_default(subscriber, || {
                        let mut n = 0_u64;
                        while Instant::now() < end {
                            n += 1;
                            let span = info_span!("span", n).entered();
                            std::thread::sleep(Duration::from_micros(300 + n * 7 % 3000));
                            drop(span);
                            _ = handle.flush(Duration::from_millis(50));
                        }
                    });
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        is_done.store(true, Ordering::Relaxed);
        let reported = receiver.join().unwrap();
        assert!(reported > 20, "{reported} were reported, so nothing was tried");
    });
    assert_stats_add_up(&handle);
}

#[test]
fn spans_that_are_not_sampled_are_not_reported() {
    let collector = Collector::bind();
    let layer = builder(&collector).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let _unsampled = info_span!("unsampled", sampling.priority = 0).entered();
        let _sampled = info_span!(parent: None, "sampled").entered();
        let (report, _) = wait_for_report(&collector, |_| true);
        assert_eq!((names(&report), &report["count"]), (vec!["sampled"], &1.into()));
    });
}

#[test]
fn a_receiver_that_comes_later_gets_a_report() {
    let collector = Collector::bind();
    let path = collector.folder().join("later.sock");
    let layer = builder(&collector).with_socket(&path).on_error(|_| ()).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let _span = info_span!("hangs").entered();
        std::thread::sleep(2 * THRESHOLD);
        let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(collector::TIMEOUT)).unwrap();
        let mut buffer = vec![0; 1 << 18];
        let bytes = socket.recv(&mut buffer).unwrap();
        let datagram: Value = serde_json::from_slice(&buffer[..bytes]).unwrap();
        assert_eq!(names(&datagram["tracingUsdtOpen"]), ["hangs"]);
    });
}

#[test]
fn a_delivery_without_reports_says_so() {
    let collector = Collector::bind();
    for (format, delivery, word) in
        [(Format::Zipkin, Delivery::Background, "Zipkin"), (Format::OtlpJson, Delivery::Inline, "inline")]
    {
        let errors = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&errors);
        let on_error = move |error: &tracing_usdt::Error| sink.lock().unwrap().push(error.to_string());
        let layer =
            builder(&collector).with_format(format).with_delivery(delivery).on_error(on_error).build();
        let handle = layer.handle();
        with_default(tracing_subscriber::registry().with(layer), || {
            let _span = info_span!("hangs").entered();
            std::thread::sleep(3 * THRESHOLD);
        });
        handle.flush(collector::TIMEOUT).unwrap();
        let datagrams = collector.drain_text();
        assert!(datagrams.len() == 1 && datagrams[0].contains("hangs"), "only when it closes: {datagrams:?}");
        let errors = errors.lock().unwrap();
        assert!(errors.len() == 1 && errors[0].contains(word), "{errors:?}");
    }
}

/// The same in protobuf, by the numbers of `docs/wire.md`.
#[test]
fn a_report_in_protobuf_is_no_span_to_readers_of_otlp() {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::Span as OtlpSpan;
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    struct Request {
        #[prost(message, optional, tag = "1018")]
        open: Option<Report>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Report {
        #[prost(fixed64, tag = "1")]
        time_unix_nano: u64,
        #[prost(message, repeated, tag = "2")]
        spans: Vec<OtlpSpan>,
        #[prost(uint64, tag = "3")]
        threshold_nano: u64,
        #[prost(uint64, tag = "4")]
        count: u64,
    }
    let collector = Collector::bind();
    let layer = builder(&collector).with_format(Format::OtlpProtobuf).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let _span = info_span!("hangs", order = 7).entered();
        let mut datagrams = Vec::new();
        wait_until("a report comes", || {
            datagrams.extend(collector.drain_bytes());
            !datagrams.is_empty()
        });
        let otlp = ExportTraceServiceRequest::decode(&*datagrams[0]).unwrap();
        let spans =
            otlp.resource_spans.iter().flat_map(|spans| &spans.scope_spans).map(|scope| scope.spans.len());
        assert_eq!((spans.sum::<usize>(), otlp.resource_spans.len()), (0, 1), "a resource without spans");
        let report = Request::decode(&*datagrams[0]).unwrap().open.unwrap();
        assert_eq!((report.count, report.threshold_nano, report.spans.len()), (1, 100_000_000, 1));
        let span = &report.spans[0];
        assert_eq!((&*span.name, span.end_time_unix_nano), ("hangs", report.time_unix_nano));
        let fields: BTreeMap<_, _> =
            span.attributes.iter().map(|attribute| (&*attribute.key, &attribute.value)).collect();
        assert!(fields.contains_key("order") && fields.contains_key("thread.id"));
    });
}

#[test]
#[ignore = "a program"]
fn hangs_in_a_forked_child() {
    tracing_subscriber::registry().with(tracing_usdt::layer()).init();
    // One callsite, which is known when the child makes its first span.
    let hang = |place| info_span!(parent: None, "hangs", place).entered();
    let _parents = hang("in the parent");
    // SAFETY: the child makes a span, which the layer allows, and ends by `_exit`.
    #[allow(unsafe_code)]
    let fork = unsafe { nix::unistd::fork() }.unwrap();
    if fork.is_child() {
        // Its first, and it never closes one.
        let _childs = hang("in the child");
        std::thread::sleep(Duration::from_secs(2));
        // SAFETY: ends the process.
        #[allow(unsafe_code)]
        unsafe {
            nix::libc::_exit(0)
        }
    }
    nix::sys::wait::wait().unwrap();
    std::process::exit(7);
}

#[test]
fn a_forked_child_reports_its_own_open_spans_and_not_its_parents() {
    let collector = Collector::bind();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "hangs_in_a_forked_child", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("TRACING_USDT_SOCKET", collector.path()).env("TRACING_USDT_FORMAT", "otlp-json");
    let mut program = command.env("TRACING_USDT_OPEN_SPANS", "100ms").spawn().unwrap();
    let mut reported = BTreeMap::<String, BTreeSet<String>>::new();
    let mut ended = None;
    wait_until("the program ends", || {
        ended = ended.or(program.try_wait().unwrap());
        for received in receive(&collector) {
            let sender = received.sequence["sender"].as_str().unwrap().to_owned();
            let spans = received.report.iter().flat_map(|report| report["spans"].as_array().unwrap());
            let places = spans.map(|span| attribute(span, "place").unwrap()["stringValue"].as_str().unwrap());
            let places: Vec<String> = places.map(str::to_owned).collect();
            reported.entry(sender).or_default().extend(places);
        }
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(7));
    let reported: BTreeSet<_> =
        reported.into_values().flat_map(|places| places.into_iter().collect::<Vec<_>>().pop()).collect();
    assert_eq!(reported, ["in the child", "in the parent"].map(str::to_owned).into(), "one from each sender");
}
