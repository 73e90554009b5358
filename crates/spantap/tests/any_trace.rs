//! The tree of any trace fits the terminal's columns, and each span is drawn or counted.
#![allow(clippy::unwrap_used)] // a failing test is a panic

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use proptest::prelude::*;
use spantap::process::{Process, Sender};
use spantap::trace::{Shown, Trace, TraceSpan};
use spantap::view::{Look, tree};
use unicode_width::UnicodeWidthStr;

/// Any text, often with escape sequences, control characters or characters of unusual width.
fn text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "\x1b[2J", "\u{9b}", "\r", "\n", "\t", "\u{202e}", "\u{2066}", "\u{200d}", "\u{fe0f}", "\u{301}",
        "\u{7f}", "注", "👩", "🇩🇪", "لا", "\u{2028}", "word", " ", "=",
    ]);
    prop_oneof![
        any::<String>(),
        prop::collection::vec(odd, 0..12).prop_map(|parts| parts.concat()),
        (0usize..400).prop_map(|length| "long ".repeat(length)),
    ]
}

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        text().prop_map(Value::StringValue),
        any::<bool>().prop_map(Value::BoolValue),
        any::<i64>().prop_map(Value::IntValue),
        any::<f64>().prop_map(Value::DoubleValue),
        prop::collection::vec(any::<u8>(), 0..4).prop_map(Value::BytesValue),
    ];
    let any = |value| AnyValue { value: Some(value) };
    leaf.prop_map(any).prop_recursive(6, 20, 3, move |inner| {
        let list = prop::collection::vec(inner, 0..3);
        prop_oneof![
            list.clone().prop_map(move |values| any(Value::ArrayValue(ArrayValue { values }))),
            (text(), list).prop_map(move |(key, list)| {
                let pair = |value| KeyValue { key: key.clone(), value: Some(value), ..KeyValue::default() };
                any(Value::KvlistValue(KeyValueList { values: list.into_iter().map(pair).collect() }))
            }),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let known = [
        "busy_ns",
        "idle_ns",
        "level",
        "http.route",
        "exception.message",
        "process.pid",
        "db.query.text",
        "spantap.odd",
        "zipkin.id",
        "zipkin.parent_id",
    ];
    let key = prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), text()];
    let value = prop_oneof![
        value(),
        prop_oneof![any::<u64>(), 0u64..3]
            .prop_map(|n| AnyValue { value: Some(Value::StringValue(n.to_string())) }),
        // Ids of shared spans, also invalid combinations.
        (1u8..20).prop_map(|id| AnyValue { value: Some(Value::StringValue(format!("{id:016x}"))) }),
        prop::sample::select(vec!["WARN", "ERROR"])
            .prop_map(|level| AnyValue { value: Some(Value::StringValue(level.to_owned())) }),
    ];
    let attribute = (key, prop::option::weighted(0.9, value)).prop_map(|(key, value)| KeyValue {
        key,
        value,
        ..KeyValue::default()
    });
    prop::collection::vec(attribute, 0..5)
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), 1_000_000u64..1_000_100]
}

/// A span's or parent's id. It is mostly one of a few, so that parents are among the spans.
fn id() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => (1u8..20).prop_map(|id| vec![0, 0, 0, 0, 0, 0, 0, id]),
        1 => Just(Vec::new()),
        1 => prop::collection::vec(any::<u8>(), 8..=8),
    ]
}

fn span() -> impl Strategy<Value = Span> {
    let name = prop_oneof![text(), text().prop_map(|path| format!("event /{path}/src/main.rs:7"))];
    let event = (time(), name, attributes()).prop_map(|(time_unix_nano, name, attributes)| Event {
        time_unix_nano,
        name,
        attributes,
        ..Event::default()
    });
    let link = (prop::collection::vec(any::<u8>(), 0..20), id()).prop_map(|(trace_id, span_id)| Link {
        trace_id,
        span_id,
        ..Link::default()
    });
    let status = prop::option::of((text(), 0..4).prop_map(|(message, code)| Status { message, code }));
    let times = (time(), time());
    let lists = (prop::collection::vec(event, 0..7), prop::collection::vec(link, 0..4));
    (id(), id(), (text(), 0..5), times, attributes(), lists, status).prop_map(
        |(span_id, parent_span_id, (name, kind), times, attributes, (events, links), status)| Span {
            span_id,
            parent_span_id,
            name,
            kind,
            start_time_unix_nano: times.0,
            end_time_unix_nano: times.1,
            attributes,
            events,
            links,
            status,
            ..Span::default()
        },
    )
}

fn trace() -> impl Strategy<Value = Trace> {
    let process = (0u32..3, text(), attributes()).prop_map(|(pid, service, attributes)| {
        let resource = Resource { attributes, ..Resource::default() };
        Arc::new(Process { sender: Sender { pid, uid: 0, gid: 0 }, service, resource })
    });
    let spans = prop::collection::vec((span(), any::<prop::sample::Index>()), 0..25);
    let shown = prop::sample::select(vec![
        Shown::Complete,
        Shown::Waited,
        Shown::NoRoom,
        Shown::End,
        Shown::ProcessEnded,
    ]);
    let counts = (any::<u64>(), any::<u64>(), 0usize..30);
    (any::<u128>(), prop::collection::vec(process, 1..4), spans, shown, counts).prop_map(
        |(id, processes, spans, shown, (duplicates, left_out, late))| {
            let span = |(index, (mut span, process)): (usize, (Span, prop::sample::Index))| {
                // The tree is searched for this prefix.
                span.name = format!("n{index};{}", span.name);
                TraceSpan { process: Arc::clone(process.get(&processes)), span }
            };
            let spans = spans.into_iter().enumerate().map(span).collect();
            Trace { id, spans, shown, duplicates, left_out, late }
        },
    )
}

/// The number in `… 9,800 more spans`.
fn left_out(line: &str) -> usize {
    let number = line.split_once("… ").and_then(|(_, rest)| rest.split_once(" more span"));
    number.and_then(|(number, _)| number.replace(',', "").parse().ok()).unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_fits_its_terminal_and_accounts_for_each_span(
        trace in trace(), columns in 0usize..220, lines in 0usize..60, critical_path in any::<bool>()
    ) {
        let look = Look { columns, colour: false, lines, begin: true, critical_path };
        let drawn = tree(&trace, &look);
        prop_assert!(!drawn.chars().any(|c| c.is_control() && c != '\n'), "{drawn:?}");
        for line in drawn.lines() {
            prop_assert!(line.width() <= columns.max(40), "{} columns: {line}", line.width());
        }
        // Names may be cut, but not within this prefix.
        let is_drawn = |index: &usize| drawn.contains(&format!("n{index};"));
        let shown = (0..trace.spans.len()).filter(is_drawn).count();
        let gaps: usize = drawn.lines().map(left_out).sum();
        prop_assert_eq!(shown + gaps, trace.spans.len(), "\n{}", drawn);

        // Colours only add escape sequences.
        let coloured = tree(&trace, &Look { colour: true, ..look });
        prop_assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), drawn);
    }
}
