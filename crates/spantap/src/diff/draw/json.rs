//! A comparison as JSON, for scripts. `docs/json.md` defines it; a change that could break a script gets a new [`VERSION`].

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::finding::{
    CalledMore, Cause, Change, ChangeOf, Diff, Figures, Finding, NotJudged, OneSided, SideOf, TooFew, Why,
};
use super::super::measured::Measured;
use super::super::names::Name;
use crate::text::write_json;

/// The version of the schema.
const VERSION: u32 = 1;

/// The comparison as an object, in a line. `failed` has a sentence for each change and each name that a condition names, and `unknown`
/// the measures of conditions that could not be judged.
pub fn json(diff: &Diff, failed: &[String], unknown: &BTreeSet<Measured>) -> String {
    let mut line = Vec::new();
    // Writing to a list doesn't fail.
    let _ = write_json(&object(diff, failed, unknown), &mut line);
    String::from_utf8(line).unwrap_or_default()
}

fn object(diff: &Diff, failed: &[String], unknown: &BTreeSet<Measured>) -> Value {
    let list = |of: &[OneSided]| of.iter().map(one_sided).collect::<Vec<_>>();
    let lost: u64 = diff.read.iter().map(|read| read.lost_by_senders).fold(0, u64::saturating_add);
    json!({
        "version": VERSION,
        "before": side(diff, 0),
        "after": side(diff, 1),
        "failed": failed,
        "unknown": unknown.iter().map(|of| of.word()).collect::<Vec<_>>(),
        "is_damaged": diff.is_damaged(),
        "compared_names": diff.compared,
        "findings": diff.findings.iter().map(finding).collect::<Vec<_>>(),
        "uneven": diff.uneven.iter().map(change_of).collect::<Vec<_>>(),
        "new": list(&diff.new),
        "vanished": list(&diff.vanished),
        "too_few": diff.too_few.iter().map(too_few).collect::<Vec<_>>(),
        "not_judged": diff.not_judged.iter().map(not_judged).collect::<Vec<_>>(),
        "crossing_traces": diff.crossing_traces,
        "left_out_spans": diff.left_out_spans,
        "unread_traces": diff.unread_traces,
        "left_out_calls": diff.left_out_calls,
        "lost_spans": lost,
    })
}

fn side(diff: &Diff, side: usize) -> Value {
    let SideOf { spans, traces } = diff.sides[side];
    json!({ "spans": spans, "traces": traces, "lost_spans": diff.read[side].lost_by_senders })
}

fn named(name: &Name) -> Value {
    json!({ "service": name.service, "name": name.span })
}

fn finding(of: &Finding) -> Value {
    let because_of = match &of.why {
        Why::Itself => Value::Null,
        Why::Follows(name) => named(name),
    };
    json!({
        "service": of.name.service,
        "name": of.name.span,
        "because_of": because_of,
        "changes": of.changes.iter().map(change).collect::<Vec<_>>(),
        "calls": of.calls.iter().map(called_more).collect::<Vec<_>>(),
        "causes": of.causes.iter().map(cause).collect::<Vec<_>>(),
        "before": figures(&of.figures[0], of.traces[0]),
        "after": figures(&of.figures[1], of.traces[1]),
    })
}

fn change(change: &Change) -> Value {
    json!({
        "measure": change.measured.word(),
        "before": change.before,
        "after": change.after,
        "chance": change.chance,
    })
}

fn change_of(ChangeOf { name, called, change: of }: &ChangeOf) -> Value {
    let called = called.as_ref().map(named);
    json!({ "service": name.service, "name": name.span, "called": called, "change": change(of) })
}

fn called_more(CalledMore { name, change }: &CalledMore) -> Value {
    json!({
        "service": name.service,
        "name": name.span,
        "before": change.before,
        "after": change.after,
        "chance": change.chance,
    })
}

fn cause(Cause { what, called, change_ns }: &Cause) -> Value {
    json!({ "cause": what, "called": called.as_ref().map(named), "change_ns": whole(*change_ns) })
}

fn figures(of: &Figures, trace: Option<u128>) -> Value {
    let [p50_ns, p95_ns, p99_ns] = of.percentiles_ns;
    json!({
        "spans": of.spans,
        "errors": of.errors,
        "p50_ns": p50_ns,
        "p95_ns": p95_ns,
        "p99_ns": p99_ns,
        "average_ns": whole(of.mean_ns),
        "self_ns": whole(of.own_ns),
        "trace_id": trace.map(|id| format!("{id:032x}")),
    })
}

fn one_sided(OneSided { name, figures: of, trace }: &OneSided) -> Value {
    json!({ "service": name.service, "name": name.span, "figures": figures(of, *trace) })
}

fn too_few(TooFew { name, spans }: &TooFew) -> Value {
    json!({ "service": name.service, "name": name.span, "spans_before": spans[0], "spans_after": spans[1] })
}

fn not_judged(NotJudged { name, measures }: &NotJudged) -> Value {
    let words: Vec<&str> = measures.iter().map(|of| of.word()).collect();
    json!({ "service": name.service, "name": name.span, "measures": words })
}

fn whole(ns: f64) -> i64 {
    ns.round() as i64
}
