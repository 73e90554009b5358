//! Tests of the sampler as a whole, against an oracle that sees everything.
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

mod bounds;
mod model;
mod shares;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, Status};
use prost::Message;

use super::{Counters, Counts, Limits, Rules, Sampler, Wait};
use crate::process::{Process, Progress, Sender};
use crate::span::Summary;
use crate::span::attributes::find;

/// Those of the command line, unless it says otherwise.
const WAIT: Wait = Wait { most: Duration::from_secs(30), quiet: Duration::from_secs(10) };

/// A span to take, and the process that sends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sent {
    process: usize,
    trace: u128,
    span: u64,
    /// 0 without a parent.
    parent: u64,
    is_error: bool,
    /// How long it lasts.
    ms: u32,
    /// How long its thread waited for the disk; 0 if the kernel did not report it.
    disk_ms: u32,
    is_of_acme: bool,
}

impl Sent {
    fn of(trace: u128, span: u64, parent: u64) -> Self {
        let (process, is_error) = (0, false);
        Self { process, trace, span, parent, is_error, ms: 1, disk_ms: 0, is_of_acme: false }
    }

    fn failed(self) -> Self {
        Self { is_error: true, ..self }
    }

    fn proto(self) -> Span {
        let id = |id: u64| if id == 0 { Vec::new() } else { id.to_be_bytes().to_vec() };
        let attribute = |key: &str, value| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        };
        let mut attributes = Vec::new();
        if self.disk_ms > 0 {
            attributes
                .push(attribute("kernel.disk_ns", Value::IntValue(i64::from(self.disk_ms) * 1_000_000)));
        }
        if self.is_of_acme {
            attributes.push(attribute("tenant", Value::StringValue("acme".to_owned())));
        }
        let code = if self.is_error { StatusCode::Error } else { StatusCode::Unset };
        Span {
            trace_id: self.trace.to_be_bytes().to_vec(),
            span_id: id(self.span),
            parent_span_id: id(self.parent),
            name: format!("of {}", self.process),
            start_time_unix_nano: 1_000_000_000,
            end_time_unix_nano: 1_000_000_000 + u64::from(self.ms) * 1_000_000,
            attributes,
            status: Some(Status { code: code.into(), message: String::new() }),
            ..Span::default()
        }
    }
}

/// A kept span, with what was added to it.
#[derive(Clone, PartialEq, Debug)]
struct Got {
    span: Span,
    pid: u32,
    rule: String,
    weight: f64,
    is_incomplete: bool,
}

/// A sampler whose time the test moves.
struct Bench {
    sampler: Sampler,
    processes: Vec<Arc<Process>>,
    counters: Arc<Counters>,
    now: Instant,
    got: Vec<Got>,
    progress: HashMap<u64, Progress>,
}

fn rules(rules: &[&str]) -> Rules {
    Rules::new(rules.iter().map(|rule| rule.parse().unwrap()).collect()).unwrap()
}

impl Bench {
    fn new(of: &[&str]) -> Self {
        Self::with(of, Limits::default())
    }

    fn with(of: &[&str], limits: Limits) -> Self {
        let counters = Arc::<Counters>::default();
        let process = |pid| {
            let sender = Sender { pid, uid: 0, gid: 0 };
            Arc::new(Process { sender, service: format!("service {pid}"), resource: Resource::default() })
        };
        Self {
            sampler: Sampler::new(&rules(of), WAIT, limits, Arc::clone(&counters)),
            processes: (1..=3).map(process).collect(),
            counters,
            now: Instant::now(),
            got: Vec::new(),
            progress: HashMap::new(),
        }
    }

    fn send(&mut self, sent: Sent) {
        self.send_with(sent, &[]);
    }

    fn send_with(&mut self, sent: Sent, progress: &[Progress]) {
        self.send_span(sent.process, sent.proto(), progress);
    }

    fn send_span(&mut self, process: usize, span: Span, progress: &[Progress]) {
        let summary = Summary::of(&span).unwrap();
        let field = ScopeSpans { spans: vec![span], ..ScopeSpans::default() }.encode_to_vec();
        let scope = ScopeSpans { schema_url: "of the test".to_owned(), ..ScopeSpans::default() };
        self.sampler.begin(&self.processes[process], progress);
        self.sampler.scope(&scope.encode_to_vec());
        self.sampler.take(&summary, &field, self.now);
        self.sampler.end(progress, self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.sampler.due(self.now);
        self.collect();
    }

    fn finish(&mut self) {
        while self.sampler.finish(self.now) {
            self.collect();
        }
        self.collect();
        assert_eq!(self.counts().waiting_spans, 0);
    }

    fn collect(&mut self) {
        let (chunks, progress) = self.sampler.kept(self.now);
        let of_chunks = chunks.iter().flat_map(|chunk| chunk.progress.iter().copied());
        self.progress.extend(of_chunks.chain(progress).map(|progress| (progress.sender, progress)));
        for chunk in chunks {
            let decoded = chunk.decode().unwrap();
            let spans = decoded.scope_spans.into_iter().flat_map(|scope| {
                assert_eq!(scope.schema_url, "of the test");
                scope.spans
            });
            let before = self.got.len();
            self.got.extend(spans.map(|mut span| {
                assert_eq!(
                    span.attributes.iter().filter(|of| of.key == "spantap.sampling.weight").count(),
                    1
                );
                let text = |key| find(&span.attributes, key).cloned();
                let Some(Value::StringValue(rule)) = text("spantap.sampling.rule") else {
                    panic!("{span:?}")
                };
                let Some(Value::DoubleValue(weight)) = text("spantap.sampling.weight") else {
                    panic!("{span:?}")
                };
                let is_incomplete = text("spantap.sampling.incomplete") == Some(Value::BoolValue(true));
                span.attributes.retain(|of| !of.key.starts_with("spantap.sampling."));
                Got { span, pid: chunk.sender.pid, rule, weight, is_incomplete }
            }));
            assert_eq!(self.got.len() - before, chunk.spans as usize);
        }
    }

    fn counts(&self) -> Counts {
        self.counters.get().unwrap()
    }

    /// The ids of the kept spans of a trace, in order.
    fn kept(&self, trace: u128) -> Vec<u64> {
        let of_trace = self.got.iter().filter(|got| got.span.trace_id == trace.to_be_bytes());
        let mut ids: Vec<u64> =
            of_trace.map(|got| u64::from_be_bytes(got.span.span_id.clone().try_into().unwrap())).collect();
        ids.sort_unstable();
        ids
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// The random bits of these ids are the first and the last of all.
const FIRST: u128 = 1 << 64;
const LAST: u128 = u128::MAX;

#[test]
fn an_error_that_comes_last_keeps_the_whole_trace_with_the_weight_1() {
    // By its id, the ratio would keep this trace, too.
    let mut bench = Bench::new(&["error", "ratio(1%)"]);
    bench.send(Sent::of(LAST, 3, 2));
    bench.send(Sent::of(LAST, 2, 1));
    bench.wait(10 * SECOND);
    assert_eq!(bench.kept(LAST), [0; 0]);
    bench.send(Sent::of(LAST, 1, 0).failed());
    bench.collect();
    assert_eq!(bench.kept(LAST), [1, 2, 3]);
    assert!(bench.got.iter().all(|got| got.weight.to_string() == "1" && got.rule == "error"));
    assert_eq!(bench.counts().rules[0].traces, 1);
}

#[test]
fn a_complete_trace_is_decided_when_it_is_quiet_and_an_incomplete_one_at_the_end_of_its_wait() {
    let mut bench = Bench::new(&["error", "ratio(50%)"]);
    bench.send(Sent::of(LAST, 1, 0));
    bench.wait(5 * SECOND);
    bench.send(Sent::of(LAST, 2, 1));
    // A span without its parent.
    bench.send(Sent::of(LAST - 1, 2, 1));
    bench.wait(5 * SECOND);
    bench.wait(5 * SECOND - SECOND / 100);
    assert!(bench.got.is_empty());
    bench.wait(SECOND / 100);
    assert_eq!((bench.kept(LAST), bench.kept(LAST - 1)), (vec![1, 2], vec![]));
    bench.wait(20 * SECOND - SECOND / 100);
    assert_eq!(bench.kept(LAST - 1), [0; 0]);
    bench.wait(SECOND / 100);
    assert_eq!((bench.kept(LAST - 1), bench.counts().waited), (vec![2], 1));
}

/// OpenTelemetry's batch processors send every five seconds, unless they are told otherwise.
#[test]
fn an_error_of_another_process_five_seconds_after_the_root_keeps_the_whole_trace() {
    let mut bench = Bench::new(&["error"]);
    bench.send(Sent::of(FIRST, 1, 0));
    bench.send(Sent::of(FIRST, 2, 1));
    (0..5).for_each(|_| bench.wait(SECOND));
    bench.send(Sent { process: 1, ..Sent::of(FIRST, 3, 2).failed() });
    bench.finish();
    assert_eq!(bench.kept(FIRST), [1, 2, 3]);
    assert!(bench.got.iter().all(|got| !got.is_incomplete));
    assert_eq!(bench.counts().incomplete_traces, 0);
}

#[test]
fn a_complete_trace_that_gets_spans_is_decided_at_the_end_of_its_wait() {
    let mut bench = Bench::new(&["error", "ratio(50%)"]);
    for span in 1..6 {
        assert!(bench.got.is_empty());
        bench.send(Sent::of(LAST, span, span - 1));
        bench.wait(6 * SECOND);
    }
    assert_eq!(bench.kept(LAST), [1, 2, 3, 4, 5]);
    // It was complete.
    assert_eq!(bench.counts().waited, 0);
}

#[test]
fn what_nothing_can_change_is_decided_at_once() {
    let mut bench = Bench::new(&["error and ratio(10%)", "name == \"none\" and ratio(1%)"]);
    bench.send(Sent::of(FIRST, 1, 0).failed());
    assert_eq!((bench.sampler.waiting_spans(), bench.kept(FIRST)), (0, vec![]));
    bench.send(Sent::of(LAST, 2, 1));
    assert_eq!(bench.sampler.waiting_spans(), 1);
    bench.send(Sent::of(LAST, 1, 0).failed());
    bench.collect();
    // The 1% are among the 10%, so they can't change this.
    assert_eq!(bench.kept(LAST), [1, 2]);
    assert_eq!(bench.got[0].weight.to_string(), "10");
    assert_eq!((bench.counts().late_kept, bench.counts().late_dropped), (0, 0));
}

#[test]
fn late_spans_follow_their_trace() {
    let mut bench = Bench::new(&["error", "ratio(50%)"]);
    for trace in [FIRST, LAST] {
        bench.send(Sent::of(trace, 1, 0));
    }
    bench.wait(10 * SECOND);
    for trace in [FIRST, LAST] {
        bench.send(Sent::of(trace, 2, 1));
    }
    bench.collect();
    assert_eq!((bench.kept(FIRST), bench.kept(LAST)), (vec![], vec![1, 2]));
    assert_eq!((bench.counts().late_kept, bench.counts().late_dropped), (1, 1));
}

#[test]
fn from_a_late_error_on_a_trace_is_kept_and_marked_as_incomplete_if_a_part_was_dropped() {
    let mut bench = Bench::new(&["error", "ratio(50%)"]);
    for trace in [FIRST, LAST] {
        bench.send(Sent::of(trace, 1, 0));
    }
    bench.wait(10 * SECOND);
    for trace in [FIRST, LAST] {
        bench.send(Sent::of(trace, 2, 1).failed());
        bench.send(Sent::of(trace, 3, 1));
    }
    bench.collect();
    assert_eq!((bench.kept(FIRST), bench.kept(LAST)), (vec![2, 3], vec![1, 2, 3]));
    let of = |trace: u128| bench.got.iter().filter(move |got| got.span.trace_id == trace.to_be_bytes());
    assert!(of(FIRST).all(|got| got.is_incomplete && got.rule == "error"));
    // Each span has the inverse of the probability with which it was kept.
    let weights: Vec<String> = of(LAST).map(|got| got.weight.to_string()).collect();
    assert_eq!(weights, ["2", "1", "1"]);
    assert!(of(LAST).all(|got| !got.is_incomplete));
    let counts = bench.counts();
    assert_eq!((counts.incomplete_traces, counts.dropped_traces, counts.dropped_spans), (1, 1, 1));
}

/// Each trace stands for what both have dropped. Ratios read the same bits, so the smaller one decides alone.
#[test]
fn weights_of_two_spantaps_in_a_row_are_those_of_both() {
    let long = format!("name != \"{}\" and ratio(50%)", "x".repeat(1_000));
    for (first, then, expected) in [
        ("ratio(50%)", "ratio(25%)", "4"),
        ("ratio(25%)", "ratio(50%)", "4"),
        ("not error", "ratio(50%)", "2"),
        ("ratio(50%)", "not error", "2"),
        ("rate(1/s)", "ratio(50%)", "8"),
        ("name != \"ratio(1%)\" and rate(1/s)", "ratio(50%)", "8"),
        (&long, "ratio(25%)", "4"),
    ] {
        let mut bench = Bench::new(&[first]);
        let sent = Sent::of(LAST, 1, 0);
        if first.contains("rate(") {
            // One is kept, three are refused, and the next that is kept stands for four.
            (1..5).for_each(|trace| bench.send(Sent::of(trace, 1, 0)));
            bench.now += SECOND;
            bench.sampler.kept(bench.now);
        }
        bench.send(sent);
        let (chunks, _) = bench.sampler.kept(bench.now);
        let forwarded = chunks[0].decode().unwrap().scope_spans.remove(0).spans.remove(0);
        let mut second = Bench::new(&[then]);
        second.send_span(0, forwarded, &[]);
        second.finish();
        let got = second.got.remove(0);
        assert_eq!((got.rule.as_str(), got.weight.to_string().as_str()), (then, expected), "{first}");
        assert_eq!(got.span, sent.proto());
    }
}

#[test]
fn progress_is_held_back_for_spans_that_wait() {
    let mut bench = Bench::new(&["error"]);
    let progress = |spans| Progress { sender: 7, spans, missing: 0, lost: 0 };
    bench.send_with(Sent::of(1, 2, 1), &[progress(1)]);
    bench.send_with(Sent::of(2, 1, 0), &[progress(2)]);
    bench.wait(SECOND / 2);
    assert_eq!(bench.progress[&7], progress(0));
    // The second is complete and dropped, and the first waits.
    bench.wait(10 * SECOND);
    bench.wait(SECOND);
    assert_eq!(bench.progress[&7], progress(1));
    bench.finish();
    assert_eq!(bench.progress[&7], progress(2));
}
