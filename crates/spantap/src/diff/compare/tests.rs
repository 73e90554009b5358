//! Many comparisons of spans that are drawn by chance, from their sums to what is reported. Only the files are missing.
#![allow(clippy::unwrap_used)] // a failing test is a panic

use std::sync::Arc;

use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use prost::Message;

use super::*;
use crate::diff::Why;
use crate::diff::random::Random;
use crate::process::{Process, Sender};
use crate::span::Summary;
use crate::trace::{EncodedSpan, Shown, Trace, breakdowns, finder};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const STEP_NS: u64 = 100_000_000;

impl Random {
    /// Around 1 ms, with a tail.
    fn duration_ns(&mut self) -> u64 {
        let tail = if self.share() < 0.01 { self.share().max(1e-4).powf(-0.7) } else { 1.0 };
        (1e6 * tail * (0.5 - 0.5 * (1.0 - self.share()).ln())) as u64
    }
}

/// A trace: a root, and a child, of which some have an error.
fn trace(
    random: &mut Random,
    process: &Arc<Process>,
    number: u64,
    slower: f64,
    fails: f64,
) -> Trace<EncodedSpan> {
    let start = (number + 1) * STEP_NS;
    let name = NAMES[number as usize % NAMES.len()];
    let of_child = (random.duration_ns() as f64 * if name == "a" { slower } else { 1.0 }) as u64;
    let of_root = of_child + random.duration_ns();
    let is_error = name == "a" && random.share() < fails || random.share() < 0.01;
    let spans = [(1, 0, name, of_root, false), (2, 1, "child", of_child, is_error)];
    let spans = spans.map(|(id, parent, name, ns, is_error)| {
        let mut span = Span {
            trace_id: u128::from(number + 1).to_be_bytes().to_vec(),
            span_id: u64::to_be_bytes(id).to_vec(),
            name: if parent > 0 {
                format!("{name} of {}", NAMES[number as usize % NAMES.len()])
            } else {
                name.into()
            },
            start_time_unix_nano: start,
            end_time_unix_nano: start + ns,
            ..Span::default()
        };
        if parent > 0 {
            span.parent_span_id = u64::to_be_bytes(parent).to_vec();
        }
        if is_error {
            span.status =
                Some(opentelemetry_proto::tonic::trace::v1::Status { code: 2, ..Default::default() });
        }
        let summary = Summary::of(&span).unwrap();
        let field = ScopeSpans { spans: vec![span], ..ScopeSpans::default() }.encode_to_vec();
        EncodedSpan::new(process, &summary, &field)
    });
    let id = u128::from(number + 1);
    Trace { id, spans: spans.into(), shown: Shown::Complete, duplicates: 0, left_out: 0, late: 0 }
}

/// Compares so many traces of each side. On the second, one name takes so many times as long, and so many of its children fail.
fn comparison(random: &mut Random, traces: u64, slower: f64, fails: f64) -> Diff {
    let process =
        Arc::new(Process { sender: Sender::UNKNOWN, service: String::new(), resource: Resource::default() });
    let mut names = Names::default();
    let sides = [(1.0, 0.0), (slower, fails)].map(|(slower, fails)| {
        let traces = (0..traces).map(|number| trace(random, &process, number, slower, fails));
        traces.collect::<Vec<Trace<EncodedSpan>>>()
    });
    let surveys = [0, 1].map(|side: usize| {
        let mut survey = Survey::default();
        for span in sides[side].iter().flat_map(|trace| &trace.spans) {
            survey.starts.add(span.times.0);
            let surveyed = survey.names.entry(names.id("", span.name(), true).unwrap()).or_default();
            surveyed.measure.add(span.duration_ns(), span.is_error);
            surveyed.starts.add(span.times.0);
        }
        survey
    });
    let thresholds = thresholds(&surveys);
    let (accounts, choice) = (finder(), Choice::default());
    let tallies = [0, 1].map(|side: usize| {
        let mut tallies = Tallies::new(&surveys[side], &thresholds);
        for trace in &sides[side] {
            tallies.add(trace, &breakdowns(&trace.spans, &accounts), &names, &choice);
        }
        tallies
    });
    differences(&names, &tallies)
}

#[test]
fn two_runs_of_the_same_have_no_difference_in_100_tries() {
    let mut random = Random(88_172_645_463_325_252);
    let alarms = (0..100).filter(|_| {
        let found = comparison(&mut random, 1_000, 1.0, 0.0);
        assert_eq!(found.compared, 2 * NAMES.len());
        found.is_different() || !found.uneven.is_empty()
    });
    assert_eq!(alarms.count(), 0);
}

#[test]
fn a_tenth_more_of_one_name_is_the_only_reason() {
    let mut random = Random(88_172_645_463_325_252);
    for _ in 0..3 {
        let found = comparison(&mut random, 20_000, 1.1, 0.0);
        let reasons: Vec<&str> =
            found.findings.iter().filter(|of| of.why == Why::Itself).map(|of| &*of.name.span).collect();
        assert_eq!(reasons, ["child of a"], "{found:#?}");
    }
}

#[test]
fn more_errors_of_one_name_are_the_only_change() {
    let mut random = Random(88_172_645_463_325_252);
    for _ in 0..5 {
        let found = comparison(&mut random, 5_000, 1.0, 0.1);
        let measures = found.findings.iter().flat_map(|of| of.changes.iter().map(|of| of.measured));
        assert_eq!(measures.collect::<Vec<_>>(), [Measured::Errors], "{found:#?}");
        assert_eq!(found.findings[0].name.span, "child of a");
    }
}
