//! Assembly of traces from spans that arrive in any order.
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use proptest::prelude::*;
use spantap::encode::Chunk;
use spantap::process::{Process, Sender};
use spantap::span::Summary;
use spantap::trace::{Assembly, EncodedSpan, Limits, Shown, Trace};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn process(pid: u32) -> Arc<Process> {
    let sender = Sender { pid, uid: 0, gid: 0 };
    Arc::new(Process { sender, service: "test".into(), resource: Default::default() })
}

/// A span; a parent of 0 means none.
fn span(trace: u128, id: u64, parent: u64) -> EncodedSpan {
    let parent_span_id = if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() };
    let span = Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id,
        name: format!("span {id}"),
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        ..Span::default()
    };
    let mut encoded = None;
    let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
    let process = process(1);
    Chunk::encode_each(&process, &[scope], |_, span, bytes| {
        encoded = Summary::of(span).map(|span| EncodedSpan::new(&process, &span, bytes))
    });
    encoded.unwrap()
}

/// An assembly with a clock of the test.
struct Bench {
    assembly: Assembly,
    now: Instant,
    shown: Vec<Trace>,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self { assembly: Assembly::new(limits), now: Instant::now(), shown: Vec::new() }
    }

    fn add(&mut self, span: EncodedSpan) {
        self.assembly.add(span, self.now, &mut |trace| self.shown.push(trace.decode()));
    }

    /// Lets time pass, in the steps in which the collector checks for due traces.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.assembly.next_due().map_or(end, |due| due.clamp(self.now + MS, end));
            self.assembly.due(self.now, &mut |trace| self.shown.push(trace.decode()));
        }
    }

    fn finish(&mut self) {
        self.assembly.finish(self.now, &mut |trace| self.shown.push(trace.decode()));
    }

    /// The traces shown since the last call: the reason, the number of spans, and the number of late spans.
    fn take(&mut self) -> Vec<(Shown, usize, usize)> {
        self.shown.drain(..).map(|trace| (trace.shown, trace.spans.len(), trace.late)).collect()
    }
}

#[test]
fn a_complete_trace_is_shown_once_no_more_spans_come() {
    let mut bench = Bench::new(Limits::default());
    bench.add(span(1, 3, 2));
    bench.add(span(1, 2, 1));
    bench.pass(200 * MS);
    bench.add(span(1, 1, 0));
    bench.pass(200 * MS);
    assert_eq!(bench.take(), [], "another span may come");
    bench.pass(150 * MS);
    assert_eq!(bench.take(), [(Shown::Complete, 3, 0)]);
    bench.pass(60 * SECOND);
    assert_eq!((bench.take(), bench.assembly.bytes()), (vec![], 0), "shown once and removed");
}

/// Its root closes long after its children.
#[test]
fn a_slow_trace_is_shown_once_no_more_spans_come() {
    let mut bench = Bench::new(Limits::default());
    bench.add(span(1, 3, 2));
    bench.pass(SECOND);
    bench.add(span(1, 2, 1));
    bench.pass(SECOND);
    bench.add(span(1, 1, 0));
    bench.pass(350 * MS);
    assert_eq!(bench.take(), [(Shown::Complete, 3, 0)]);
}

#[test]
fn a_late_span_shows_the_trace_again() {
    let mut bench = Bench::new(Limits::default());
    bench.add(span(1, 1, 0));
    bench.pass(SECOND);
    bench.add(span(1, 2, 1));
    bench.pass(SECOND);
    bench.add(span(1, 2, 1));
    bench.pass(SECOND);
    assert_eq!(
        bench.take(),
        [(Shown::Complete, 1, 0), (Shown::Complete, 2, 1)],
        "a duplicate does not show the trace again"
    );
}

#[test]
fn a_trace_whose_root_or_parent_never_comes_is_shown_after_a_while() {
    let mut bench = Bench::new(Limits::default());
    bench.add(span(1, 2, 1));
    bench.add(span(2, 1, 0));
    bench.add(span(2, 3, 2));
    bench.pass(4 * SECOND);
    assert_eq!(bench.take(), []);
    bench.pass(2 * SECOND);
    assert_eq!(bench.take(), [(Shown::Waited, 1, 0), (Shown::Waited, 2, 0)]);
    assert_eq!(bench.assembly.bytes(), 0);
}

#[test]
fn a_trace_that_never_stops_is_shown_in_parts() {
    let mut bench = Bench::new(Limits::default());
    for id in 2..302 {
        bench.add(span(1, id, 1));
        bench.pass(100 * MS);
    }
    let parts = bench.take();
    assert!((2..=3).contains(&parts.len()), "{parts:?}");
    bench.finish();
    let spans: usize = parts.iter().chain(&bench.take()).map(|(_, spans, _)| spans).sum();
    assert_eq!(spans, 300);
}

#[test]
fn duplicates_are_counted_and_left_out() {
    let mut bench = Bench::new(Limits::default());
    bench.add(span(1, 1, 0));
    bench.add(span(1, 1, 0));
    bench.finish();
    let trace = &bench.shown[0];
    assert_eq!((trace.spans.len(), trace.duplicates), (1, 1));
}

/// The sizes are around the limit where a trace's ids get an index.
#[test]
fn duplicates_and_parents_are_found_in_traces_of_any_size() {
    for size in [15, 16, 17, 18, 40] {
        let mut bench = Bench::new(Limits::default());
        for id in 1..=size {
            bench.add(span(1, id, id - 1));
            bench.add(span(1, id.div_ceil(2), 0));
        }
        bench.pass(SECOND);
        let trace = &bench.shown[0];
        let found = (trace.spans.len() as u64, trace.duplicates, trace.shown);
        assert_eq!(found, (size, size, Shown::Complete), "of {size}");
    }
}

#[test]
fn a_trace_with_too_many_spans_counts_the_missing_ones() {
    let mut bench = Bench::new(Limits { spans_of_a_trace: 10, ..Limits::default() });
    (1..=15).for_each(|id| bench.add(span(1, id, 0)));
    bench.finish();
    let trace = &bench.shown[0];
    assert_eq!((trace.spans.len(), trace.left_out), (10, 5));
}

#[test]
fn memory_is_bounded_and_traces_are_shown_before_they_are_removed() {
    let limit = 100_000;
    let mut bench = Bench::new(Limits { bytes: limit, ..Limits::default() });
    for trace in 1..2000 {
        bench.add(span(trace, 2, 1));
        assert!(bench.assembly.bytes() <= limit);
    }
    let early = bench.take();
    assert!(early.len() > 1000 && early.iter().all(|shown| *shown == (Shown::NoRoom, 1, 0)), "{early:?}");
    bench.finish();
    assert_eq!(early.len() + bench.shown.len(), 1999);
}

#[test]
fn shown_traces_are_removed_before_others() {
    let mut bench = Bench::new(Limits { bytes: 100_000, ..Limits::default() });
    bench.add(span(1, 1, 0));
    bench.pass(SECOND);
    assert_eq!(bench.take().len(), 1);
    for trace in 2.. {
        let before = bench.assembly.bytes();
        bench.add(span(trace, 2, 1));
        // If memory hardly grew, a trace was removed for the new one.
        if bench.assembly.bytes() < before + 100 {
            break;
        }
    }
    assert_eq!(bench.take(), [], "the trace that was not shown was removed");
}

/// A step in a run.
#[derive(Clone, Debug)]
enum Step {
    Span { trace: u8, id: u8, parent: u8 },
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..4, 1u8..20, 0u8..20).prop_map(|(trace, id, parent)| Step::Span { trace, id, parent }),
        2 => (0u16..6000).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// In any order of spans: each is shown, or counted as left out or as a duplicate. A trace is shown as
    /// complete only if it is. Memory stays within the limits.
    #[test]
    fn every_span_is_shown_or_counted(steps in prop::collection::vec(step(), 0..300), room in 2_000usize..200_000, most in 1usize..15) {
        let limits = Limits { bytes: room, spans_of_a_trace: most };
        let mut bench = Bench::new(limits);
        let mut added: HashMap<(u128, u64), u64> = HashMap::new();
        for step in steps {
            match step {
                Step::Span { trace, id, parent } => {
                    let trace = u128::from(trace) + 1;
                    bench.add(span(trace, id.into(), parent.into()));
                    *added.entry((trace, id.into())).or_default() += 1;
                    prop_assert!(bench.assembly.bytes() <= room);
                }
                Step::Pass(ms) => bench.pass(Duration::from_millis(ms.into())),
            }
        }
        bench.finish();

        let mut seen = HashSet::new();
        for trace in &bench.shown {
            let ids: HashSet<u64> =
                trace.spans.iter().map(|s| u64::from_be_bytes(s.span.span_id.clone().try_into().unwrap())).collect();
            prop_assert_eq!(ids.len(), trace.spans.len(), "a duplicate is shown");
            prop_assert!(trace.spans.len() <= most);
            prop_assert!(trace.spans.iter().all(|s| s.span.trace_id == trace.id.to_be_bytes()));
            prop_assert!(trace.late < trace.spans.len());
            if trace.shown == Shown::Complete {
                let parents = trace.spans.iter().map(|s| &s.span.parent_span_id);
                let (roots, parents): (Vec<_>, Vec<_>) = parents.partition(|parent| parent.is_empty());
                prop_assert!(!roots.is_empty());
                for parent in parents {
                    prop_assert!(ids.contains(&u64::from_be_bytes(parent.clone().try_into().unwrap())));
                }
            }
            seen.extend(ids.into_iter().map(|id| (trace.id, id)));
        }
        let left_out: u64 = bench.shown.iter().map(|trace| trace.left_out).sum();
        let missing = added.keys().filter(|key| !seen.contains(key)).count() as u64;
        prop_assert!(missing <= left_out, "{} missing, {} left out", missing, left_out);
        prop_assert!(seen.iter().all(|key| added.contains_key(key)));
    }
}
