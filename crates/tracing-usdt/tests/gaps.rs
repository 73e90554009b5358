//! Each datagram holds the number of spans sent before it and its own number of spans. From these a receiver
//! knows how many spans it has missed, such as the spans in the queue of a receiver that was killed.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod collector;

use std::os::unix::net::UnixDatagram;

use collector::{Collector, TIMEOUT};
use serde_json::Value;
use tracing::info_span;
use tracing_subscriber::prelude::*;
use tracing_usdt::{Delivery, Format, UsdtLayer};

/// A datagram's sender, its count of spans sent before, and its own number of spans. The span that reports
/// losses does not count.
fn sequence(datagram: &str, format: Format) -> (String, u64, u64) {
    let json: Value = serde_json::from_str(datagram).unwrap();
    let (member, spans) = match format {
        Format::Zipkin => {
            let spans = json.as_array().unwrap();
            let members = spans.iter().filter(|span| span.get("tracingUsdt").is_some()).count();
            assert_eq!(members, 1, "once in a datagram: {datagram}");
            (&spans[spans.len() - 1]["tracingUsdt"], spans)
        }
        _ => (&json["tracingUsdt"], json["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap()),
    };
    let counted = spans.iter().filter(|span| span["name"] != "tracing_usdt.dropped").count();
    assert_eq!(member["spans"], counted, "{datagram}");
    let sender = member["sender"].as_str().unwrap();
    assert_eq!(sender.len(), 16, "{datagram}");
    (sender.to_owned(), member["sentBefore"].as_u64().unwrap(), counted as u64)
}

fn close_spans(layer: UsdtLayer, count: usize) {
    let handle = layer.handle();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        (0..count).for_each(|_| drop(info_span!("one")));
    });
    handle.flush(TIMEOUT).unwrap();
}

#[test]
fn each_datagram_counts_the_spans_sent_before_it() {
    for format in [Format::Zipkin, Format::OtlpJson] {
        for delivery in [Delivery::Background, Delivery::Inline] {
            let collector = Collector::bind();
            let layer = || collector.builder().with_format(format).with_delivery(delivery).build();
            // Few enough for a queue of ten datagrams, however delivery distributes them.
            let count = if delivery == Delivery::Inline { 4 } else { 30 };
            close_spans(layer(), count);
            close_spans(layer(), count);
            let sequences: Vec<_> =
                collector.drain_text().iter().map(|datagram| sequence(datagram, format)).collect();
            let mut senders: Vec<&String> = sequences.iter().map(|(sender, ..)| sender).collect();
            senders.dedup();
            assert_eq!(senders.len(), 2, "each layer is a sender of its own: {sequences:?}");
            for sender in senders {
                let mut expected = 0;
                for (_, sent_before, spans) in sequences.iter().filter(|(other, ..)| other == sender) {
                    assert_eq!(*sent_before, expected, "{format:?}, {delivery:?}: {sequences:?}");
                    expected += spans;
                }
                assert_eq!(expected, count as u64, "{format:?}, {delivery:?}: {sequences:?}");
            }
        }
    }
}

#[test]
fn spans_lost_with_a_killed_receiver_make_a_gap() {
    let collector = Collector::bind();
    let layer = collector.builder().build();
    let (handle, path) = (layer.handle(), collector.path().to_owned());
    let close = |count: usize| (0..count).for_each(|_| drop(info_span!("one")));
    let received = tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        close(3);
        let received: u64 =
            collector.drain_text().iter().map(|datagram| sequence(datagram, Format::Zipkin).2).sum();
        // These are in the receiver's queue when it is closed.
        close(4);
        drop(collector);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let next = UnixDatagram::bind(&path).unwrap();
        close(1);
        let mut buffer = vec![0; 1 << 16];
        let bytes = next.recv(&mut buffer).unwrap();
        let (_, sent_before, _) = sequence(std::str::from_utf8(&buffer[..bytes]).unwrap(), Format::Zipkin);
        assert_eq!(handle.stats().sent, 8);
        assert_eq!(sent_before - received, 4, "the next receiver can compute how many it has missed");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        received
    });
    assert_eq!(received, 3);
}

/// A report of losses may be lost in the queue of a killed receiver, too.
#[test]
fn each_datagram_counts_the_losses_reported_before_it() {
    let collector = Collector::bind();
    let layer = collector.builder().build();
    let handle = layer.handle();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        // More than the queue's ten datagrams. The report is sent as soon as there is room.
        (0..30).for_each(|_| drop(info_span!("one")));
        let mut datagrams = collector.drain_text();
        let is_reported =
            |datagrams: &[String]| datagrams.iter().any(|text| text.contains("tracing_usdt.dropped"));
        collector::wait_until("the losses are reported", || {
            drop(info_span!("one"));
            datagrams.extend(collector.drain_text());
            is_reported(&datagrams)
        });
        drop(info_span!("one"));
        let last = collector.drain_text().pop().unwrap();
        let json: Value = serde_json::from_str(&last).unwrap();
        assert_eq!(json[0]["tracingUsdt"]["lostBefore"], handle.stats().dropped.total(), "{last}");
        assert!(!datagrams[0].contains("lostBefore"), "nothing was lost before: {}", datagrams[0]);
    });
}

#[test]
fn a_report_of_losses_is_not_counted_as_a_span() {
    let collector = Collector::bind();
    let layer = collector.builder().build();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        // More than the queue's ten datagrams.
        (0..30).for_each(|_| drop(info_span!("one")));
        let first = collector.drain_text();
        (0..2).for_each(|_| drop(info_span!("one")));
        let all: Vec<String> = first.into_iter().chain(collector.drain_text()).collect();
        let mut expected = 0;
        for datagram in &all {
            let (_, sent_before, spans) = sequence(datagram, Format::Zipkin);
            assert_eq!(sent_before, expected, "{all:?}");
            expected += spans;
        }
        assert!(expected < 32, "nothing was lost");
    });
    let last = collector.drain_text();
    let (_, sent_before, spans) = sequence(last.last().unwrap(), Format::Zipkin);
    assert!(spans == 0 && sent_before > 0, "the last datagram reports the losses alone: {last:?}");
}
