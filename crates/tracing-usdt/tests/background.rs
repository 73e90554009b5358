//! Background delivery: closed spans arrive, many in a datagram. Spans that don't arrive are counted.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod collector;

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use collector::{Collector, Span, TIMEOUT, assert_stats_add_up, tag, text, wait_until};
use tracing::{info_span, subscriber::with_default};
use tracing_subscriber::prelude::*;
use tracing_usdt::{Builder, Delivery};

fn background(collector: &Collector) -> Builder {
    collector.builder().with_delivery(Delivery::Background)
}

/// Receives until `done` returns true, and returns the spans.
fn receive(collector: &Collector, mut done: impl FnMut(&[Span]) -> bool) -> Vec<Span> {
    let mut spans = Vec::new();
    wait_until("all spans arrive", || {
        spans.extend(collector.drain());
        done(&spans)
    });
    // `done` may wait for stats only, so more spans may have arrived since the last drain.
    spans.extend(collector.drain());
    spans
}

fn is_loss(span: &Span) -> bool {
    text(span, "name") == "tracing_usdt.dropped"
}

#[test]
fn spans_arrive_without_a_flush_and_many_in_a_datagram() {
    let collector = Collector::bind();
    let layer = background(&collector).build();
    let handle = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        for n in 0..1000 {
            drop(info_span!("span", n));
        }
        let mut datagrams = Vec::new();
        wait_until("all are sent", || {
            datagrams.extend(collector.drain_text());
            handle.stats().sent == 1000
        });
        datagrams.extend(collector.drain_text());
        let spans: Vec<Span> =
            datagrams.iter().flat_map(|d| serde_json::from_str::<Vec<Span>>(d).unwrap()).collect();
        let numbers: Vec<_> = spans.iter().map(|span| tag(span, "n").unwrap().to_owned()).collect();
        assert_eq!(numbers, (0..1000).map(|n| n.to_string()).collect::<Vec<_>>(), "in order");
        assert!(datagrams.len() < 100, "{} datagrams", datagrams.len());
        let longest = datagrams.iter().map(String::len).max().unwrap();
        assert!((16 << 10..=33 << 10).contains(&longest), "{longest} bytes");

        // The sender thread sleeps by now, and wakes for the next span.
        std::thread::sleep(Duration::from_millis(800));
        drop(info_span!("late"));
        assert_eq!(text(&receive(&collector, |spans| spans.len() == 1)[0], "name"), "late");
    });
    assert_stats_add_up(&handle);
}

#[test]
fn a_flush_leaves_nothing_queued() {
    let collector = Collector::bind();
    let layer = background(&collector).build();
    let handle = layer.handle();
    handle.flush(Duration::ZERO).expect("there is nothing yet");
    with_default(tracing_subscriber::registry().with(layer), || {
        for round in 1..=20 {
            drop(info_span!("span"));
            handle.flush(TIMEOUT).unwrap();
            assert_eq!(handle.stats().queued, 0);
            assert_eq!(handle.stats().sent, round);
            assert_eq!(collector.drain().len(), 1, "the span is sent before flush returns");
        }
    });
}

#[test]
fn a_flush_to_a_receiver_that_does_not_read_fails_and_loses_nothing() {
    let collector = Collector::bind();
    let layer = background(&collector).build();
    let handle = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        let mut made = 0;
        let error = loop {
            // Full datagrams fill the receiver's queue sooner or later.
            (0..200).for_each(|_| drop(info_span!("span", text = "x".repeat(200))));
            made += 200;
            if let Err(error) = handle.flush(Duration::from_millis(50)) {
                break error;
            }
        };
        let queued = handle.stats().queued;
        assert!(queued > 0);
        assert!(error.queued >= queued, "{error:?}");
        assert!(error.to_string().contains("the receiver"), "{error}");
        let mut received = 0;
        wait_until("the rest arrives", || {
            received += collector.drain().len();
            handle.stats().queued == 0
        });
        assert_eq!(received + collector.drain().len(), made);
    });
    assert_stats_add_up(&handle);
}

#[test]
fn spans_wait_for_a_collector_that_starts_late_or_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late.sock");
    let errors = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&errors);
    let layer = tracing_usdt::builder()
        .with_socket(&path)
        .on_error(move |error| sink.lock().unwrap().push(error.to_string()))
        .build();
    let handle = layer.handle();
    let mut buffer = vec![0; 1 << 17];
    with_default(tracing_subscriber::registry().with(layer), || {
        for round in 1..=3 {
            drop(info_span!("too early"));
            // By then the layer has tried to connect.
            std::thread::sleep(Duration::from_millis(300));
            let stats = handle.stats();
            assert_eq!((stats.queued, stats.sent), (1, round - 1), "{stats:?}");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_read_timeout(Some(TIMEOUT)).unwrap();
            let bytes = socket.recv(&mut buffer).unwrap();
            assert!(String::from_utf8_lossy(&buffer[..bytes]).contains("too early"));
            wait_until("the span is counted", || handle.stats().sent == round);
            std::fs::remove_file(&path).unwrap();
        }
    });
    assert_stats_add_up(&handle);
    let errors = errors.lock().unwrap();
    assert!(errors.iter().all(|error| error.contains("late.sock")), "{errors:?}");
    assert!((1..=2).contains(&errors.len()), "missing, and then refused: {errors:?}");
}

/// Memory is bounded, however many spans there are.
#[test]
fn spans_beyond_the_bounded_memory_are_counted_and_reported() {
    let collector = Collector::bind();
    let layer = background(&collector).build();
    let handle = layer.handle();
    let long = "x".repeat(9000);
    let received = with_default(tracing_subscriber::registry().with(layer), || {
        let mut made = 0;
        while handle.stats().dropped.queue_full < 100 {
            drop(info_span!("span", long));
            made += 1;
            assert!(made < 1_000_000, "memory has no bound");
        }
        assert_stats_add_up(&handle);
        // Losses are reported once there is room.
        let received = receive(&collector, |spans| handle.stats().queued == 0 && spans.iter().any(is_loss));
        let (reports, received): (Vec<_>, Vec<_>) = received.into_iter().partition(is_loss);
        let reported: Vec<_> =
            reports.iter().map(|span| tag(span, "tracing_usdt.dropped.queue_full").unwrap()).collect();
        assert_eq!(reported, [handle.stats().dropped.queue_full.to_string()]);
        received
    });
    let stats = handle.stats();
    assert_stats_add_up(&handle);
    assert_eq!(received.len() as u64, stats.sent);
    let ids: BTreeSet<_> = received.iter().map(|span| text(span, "id")).collect();
    assert_eq!(ids.len(), received.len(), "an id came twice");
}

#[test]
fn without_a_receiver_losses_have_the_reason_no_receiver() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.sock");
    let layer = tracing_usdt::builder().with_socket(&path).on_error(|_| ()).build();
    let handle = layer.handle();
    let long = "x".repeat(9000);
    with_default(tracing_subscriber::registry().with(layer), || {
        while handle.stats().dropped.total() < 100 {
            drop(info_span!("span", long));
        }
        let stats = handle.stats();
        assert_eq!(stats.dropped.no_receiver, stats.dropped.total());
        assert!(stats.queued > 0 && stats.sent == 0, "{stats:?}");
    });
    // When the layer is dropped, queued spans are dropped, too.
    wait_until("the queued spans are dropped", || handle.stats().queued == 0);
    assert_stats_add_up(&handle);
}

/// Sets the flag when dropped, also when an assertion fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_closing_thread_that_may_wait_loses_nothing() {
    let collector = Collector::bind();
    let layer = background(&collector).with_max_wait(TIMEOUT).build();
    let handle = layer.handle();
    let long = "x".repeat(9000);
    // More than the bounded memory has room for, on any number of cores.
    let (threads, each) = (4, 1000);
    // If the reader gives up, the threads stop: otherwise each further span would wait as long as it may.
    let is_over = AtomicBool::new(false);
    let received = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let _over = SetAtEnd(&is_over);
            receive(&collector, |spans| spans.len() == threads * each).len()
        });
        let subscriber = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
        for _ in 0..threads {
            let (subscriber, long, is_over) = (subscriber.clone(), long.clone(), &is_over);
            scope.spawn(move || {
                tracing::dispatcher::with_default(&subscriber, || {
                    let spans = (0..each).take_while(|_| !is_over.load(Ordering::Relaxed));
                    spans.for_each(|_| drop(info_span!("span", long)));
                });
            });
        }
        reader.join().unwrap()
    });
    wait_until("all spans are counted", || handle.stats().queued == 0);
    assert_eq!((received as u64, handle.stats().sent), (4000, 4000), "{:?}", handle.stats());
}

/// The sender thread calls the callback while it sends.
#[test]
fn a_callback_that_flushes_and_closes_spans_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    let handle_cell: Arc<Mutex<Option<tracing_usdt::Handle>>> = Arc::default();
    let (handle, called) = (Arc::clone(&handle_cell), Arc::new(Mutex::new(0)));
    let calls = Arc::clone(&called);
    let layer = tracing_usdt::builder()
        .with_socket(&path)
        .with_max_wait(Duration::MAX)
        .on_error(move |_| {
            if let Some(handle) = &*handle.lock().unwrap() {
                let error = handle.flush(Duration::MAX).expect_err("the sender thread can't flush");
                assert!(error.in_callback && error.timeout == Duration::MAX, "{error:?}");
            }
            drop(info_span!(parent: None, "in the callback"));
            *calls.lock().unwrap() += 1;
        })
        .build();
    let handle = layer.handle();
    *handle_cell.lock().unwrap() = Some(layer.handle());
    with_default(tracing_subscriber::registry().with(layer), || {
        drop(socket);
        drop(info_span!("to nobody"));
        wait_until("the error is reported", || *called.lock().unwrap() > 0);
    });
    wait_until("all spans are dropped", || handle.stats().queued == 0);
    assert_stats_add_up(&handle);
}

#[test]
fn queued_spans_are_sent_when_the_subscriber_is_dropped() {
    let collector = Collector::bind();
    let layer = background(&collector).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        (0..100).for_each(|n| drop(info_span!("span", n)));
    });
    assert_eq!(receive(&collector, |spans| spans.len() >= 100).len(), 100);
}

#[test]
fn traces_that_are_not_sampled_are_counted_with_their_own_reason() {
    let collector = Collector::bind();
    let layer = background(&collector).with_sampler(tracing_usdt::Sampler::AlwaysOff).build();
    let handle = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        info_span!("root").in_scope(|| drop(info_span!("child")));
    });
    let stats = handle.stats();
    assert_eq!((stats.closed, stats.queued, stats.dropped.sampled_out), (2, 0, 2));
    assert_eq!(collector.drain().len(), 0);
}

/// A span that is larger than a datagram's usual size gets a datagram of its own.
#[test]
fn large_spans_are_sent_alone() {
    let collector = Collector::bind();
    let long = "x".repeat(9000);
    let layer = background(&collector).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        for n in 0..10 {
            let span = info_span!("large", a = long, b = long, n);
            span.in_scope(|| (0..20).for_each(|_| tracing::info!(long)));
        }
    });
    let spans = receive(&collector, |spans| spans.len() == 10);
    for span in spans {
        assert!(span["annotations"].as_array().unwrap().len() >= 4);
        assert_eq!(tag(&span, "a").map(str::len), Some(9000));
    }
}
