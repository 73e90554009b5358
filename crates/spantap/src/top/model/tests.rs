//! Tests of the model with whole traces.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, Status};
use prost::Message;

use super::*;
use crate::process::{Process, Sender};
use crate::span::Summary;
use crate::span::account::KEYS;
use crate::span::attributes::attribute;
use crate::trace::Shown;

const NOW_NS: u64 = 1_800_000_000_000_000_000;

/// A span of the service `service`. Its times are nanoseconds after [`NOW_NS`].
fn span(service: &str, (trace, id, parent): (u128, u64, u64), times: (u64, u64), more: Span) -> EncodedSpan {
    let sender = Sender { pid: 1, uid: 0, gid: 0 };
    let process = Arc::new(Process { sender, service: service.into(), resource: Default::default() });
    let name = if more.name.is_empty() { id.to_string() } else { more.name.clone() };
    let span = Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
        name,
        start_time_unix_nano: NOW_NS + times.0,
        end_time_unix_nano: NOW_NS + times.1,
        ..more
    };
    let summary = Summary::of(&span).expect("its ids");
    let field = ScopeSpans { spans: vec![span], ..ScopeSpans::default() }.encode_to_vec();
    EncodedSpan::new(&process, &summary, &field)
}

fn trace(id: u128, spans: Vec<EncodedSpan>) -> Trace<EncodedSpan> {
    Trace { id, spans, shown: Shown::Complete, duplicates: 0, left_out: 0, late: 0 }
}

fn failed() -> Span {
    Span { status: Some(Status { code: 2, ..Status::default() }), ..Span::default() }
}

/// A span with an account, made in a thread.
fn account(thread: i64, on_cpu_ns: i64, disk_ns: i64) -> Span {
    let number = |key: &str, number| attribute(key, Value::IntValue(number));
    let attributes = vec![
        number("thread.id", thread),
        number("kernel.on_cpu_ns", on_cpu_ns),
        number("kernel.disk_ns", disk_ns),
    ];
    Span { attributes, ..Span::default() }
}

fn parts(model: &Model, name: &str) -> Vec<u64> {
    let rows = model.rows(Window::All);
    let row = rows.iter().find(|row| row.of.name() == name).expect("a row");
    Part::ALL.map(|part| row.figures.breakdown.ns(part)).to_vec()
}

fn counted(trace: &Trace<EncodedSpan>) -> Model {
    let mut model = Model::new(NOW_NS);
    trace.spans.iter().for_each(|span| model.span(span));
    model.trace(trace);
    model
}

#[test]
fn the_time_of_a_span_is_in_its_children_and_what_its_own_thread_did() {
    let spans = vec![
        span("shop", (1, 1, 0), (0, 100), account(7, 40, 30)),
        // Within its parent, so the parent's states have its 20.
        span("shop", (1, 2, 1), (10, 40), account(7, 10, 10)),
        // In another thread, at the same time as nothing else.
        span("shop", (1, 3, 1), (50, 70), account(8, 20, 0)),
    ];
    let model = counted(&trace(1, spans));
    // 50 of 100 are in children; of its own 70, 20 were within the first child.
    //                      cpu queue disk network lock sleep blocked own idle called
    assert_eq!(parts(&model, "1"), [30, 0, 20, 0, 0, 0, 0, 0, 0, 50]);
    assert_eq!(parts(&model, "2"), [10, 0, 10, 0, 0, 0, 0, 0, 10, 0]);
    assert_eq!(parts(&model, "3"), [20, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn each_state_is_in_the_part_of_its_name() {
    for (place, key) in KEYS.into_iter().enumerate() {
        // A span's time on the CPU is never zero.
        let mut states = [0; KEYS.len()];
        (states[0], states[place]) = (1, 99);
        let attributes = KEYS.into_iter().zip(states).filter(|(_, ns)| *ns > 0);
        let attributes = attributes.map(|(key, ns)| attribute(key, Value::IntValue(ns))).collect();
        let spans = vec![span("a", (1, 1, 0), (0, 100), Span { attributes, ..Span::default() })];
        let found = parts(&counted(&trace(1, spans)), "1");
        let part = Part::ALL.into_iter().zip(found).find(|(_, ns)| *ns >= 99).map(|(part, _)| part);
        let state = key.trim_start_matches("kernel.").trim_end_matches("_ns");
        let name = match state {
            "on_cpu" => "Cpu",
            "run_queue" | "preempted" | "throttled" => "RunQueue",
            "stopped" | "unseen" => "Own",
            state => &format!("{}{}", state[..1].to_uppercase(), &state[1..]),
        };
        assert_eq!(format!("{part:?}"), format!("Some({name})"), "{key}");
    }
}

#[test]
fn without_an_account_own_time_is_own_time() {
    let plain = || Span::default();
    let spans = vec![span("a", (1, 1, 0), (0, 100), plain()), span("a", (1, 2, 1), (90, 200), plain())];
    let model = counted(&trace(1, spans));
    assert_eq!(parts(&model, "1"), [0, 0, 0, 0, 0, 0, 0, 90, 0, 10]);
    assert_eq!(parts(&model, "2"), [0, 0, 0, 0, 0, 0, 0, 110, 0, 0]);
}

#[test]
fn of_a_trace_that_comes_in_parts_the_longest_is_kept() {
    let mut model = Model::new(NOW_NS);
    let child = trace(9, vec![span("shop", (9, 2, 1), (0, 1_000), Span::default())]);
    let root = trace(9, vec![span("shop", (9, 1, 0), (0, 6_000_000_000), failed())]);
    model.trace(&child);
    model.trace(&root);
    model.trace(&child);
    let kept = model.traces();
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].duration_ns(), kept[0].errors), (6_000_000_000, 1));
}

#[test]
fn late_spans_count_once_and_replace_what_was_kept() {
    let mut model = Model::new(NOW_NS);
    let root = span("web", (1, 1, 0), (0, 100), Span::default());
    let child = span("shop", (1, 2, 1), (10, 20), Span::default());
    model.trace(&trace(1, vec![root.clone()]));
    model.trace(&Trace { late: 1, ..trace(1, vec![root, child]) });
    let (calls, _) = model.calls(Window::All);
    let calls: Vec<_> = calls.iter().map(|call| (call.from.as_deref(), &*call.to, call.calls)).collect();
    assert_eq!(calls, [(None, "web", 1), (Some("web"), "shop", 1)]);
    let kept = model.traces();
    assert_eq!((kept.len(), kept[0].trace.spans.len()), (1, 2));
}

/// Whoever still looks at them: what is given up is what is kept.
#[test]
fn traces_take_bounded_memory_and_the_slowest_stay() {
    let mut model = Model::new(NOW_NS);
    let large = || Span { trace_state: "x".repeat(1 << 20), ..failed() };
    let mut seen = Vec::new();
    for id in 1..=300_u64 {
        // The first is the slowest.
        let times = (0, 1_000_000 - id);
        model.trace(&trace(id.into(), vec![span("shop", (id.into(), id, 0), times, large())]));
        seen.extend(model.traces());
    }
    let kept = model.traces();
    let bytes: usize = kept.iter().flat_map(|kept| &kept.trace.spans).map(|span| span.size).sum();
    assert!(bytes < 64 << 20, "{bytes}");
    let mut ids: Vec<u128> = kept.iter().map(|kept| kept.trace.id).collect();
    ids.sort_unstable();
    assert!(ids.len() > 50 && ids[ids.len() - 10..].iter().all(|id| *id <= 100), "the slowest: {ids:?}");
}

#[test]
fn a_query_counts_what_it_chooses_from_then_on() {
    let mut model = Model::new(NOW_NS);
    let of =
        |id: u64, times| span("shop", (id.into(), id, 0), times, Span { name: "GET".into(), ..failed() });
    model.span(&of(1, (0, 10)));
    model.choose(Some("duration > 5ms".parse().expect("a query")));
    assert!(model.rows(Window::All).is_empty());
    model.span(&of(2, (0, 10)));
    model.span(&of(3, (0, 10_000_000)));
    assert_eq!(model.rows(Window::All)[0].figures.calls, 1);
    assert_eq!(model.all_rows(Window::All)[0].figures.calls, 3);
    model.choose(None);
    assert_eq!(model.rows(Window::All)[0].figures.calls, 3);
}
