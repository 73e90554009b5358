//! The goals of the design, each a ratio taken within one run, held against what was measured.

use super::Results;
use super::attached::{CONSUMERS, Consumer, DEEDS};
use super::collectors::FORMATS;
use super::end_to_end::Reader;
use super::rows::SCENARIOS;
use super::table::{count, digits, percent, rate};

pub(crate) struct Goal {
    what: String,
    measured: String,
    /// None where it could not be measured.
    pub(crate) met: Option<bool>,
}

/// What the base took where the goals were set.
pub(super) const BASE_NS: f64 = 61.0;

/// Below it the two cores share a cache, and what crosses between them is cheap.
const NEAR_NS: f64 = 120.0;

impl Goal {
    pub(crate) fn line(&self) -> String {
        let verdict = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        format!("goal: {:<70} {:>9}  {verdict}", self.what, self.measured)
    }
}

pub(crate) fn hold(results: &Results) -> Vec<Goal> {
    let base = &SCENARIOS[0];
    let rounds = &results.rounds;
    let ratio = |key, to| rounds.each_round([key, to], base, |[this, that]| this / that);
    let latency = results.core_to_core.iter().flatten().copied().reduce(f64::max);
    let (background, cores) = match latency {
        Some(ns) if ns > NEAR_NS => (4.5, "far"),
        _ => (2.0, "near"),
    };
    let mut goals = vec![
        at_most("idle", 1.08, "x base", ratio("idle", "base")),
        at_most("idle, on_demand() for all", 1.3, "x no subscriber", ratio("gate", "none")),
        at_most("fmt + idle", 1.02, "x fmt", ratio("fmt+idle", "fmt")),
        at_most(&format!("background, {cores} cores"), background, "x base", ratio("background", "base")),
        at_most("background", 0.3, "x fastrace-tracing", ratio("background", "fastrace-tracing")),
        at_most("background", 0.15, "x tracing-opentelemetry", ratio("background", "otel")),
    ];
    let counted = [
        ("instructions", 1250.0, &results.counts.instructions),
        ("allocations", 0.0, &results.counts.allocations),
    ];
    goals.extend(counted.map(|(what, limit, counts)| {
        let found = counts.get("background").copied();
        goal(format!("background <= {limit} {what} a span"), found, count, |found| found.round() <= limit)
    }));
    let inline =
        rounds.each_round(["inline", "send", "base"], base, |[inline, send, base]| inline / (send + base));
    goals.push(at_most("inline", 1.5, "x a bare send + base", inline));
    for (key, name, probes) in [("close", "bpftrace at close", 1.0), ("all", "bpftrace at all four", 4.0)] {
        let of_probe = rounds
            .each_round([key, "base", "hit"], base, |[attached, base, hit]| (attached - base) / probes / hit);
        goals.push(at_most(&format!("{name}, each probe, less base"), 1.1, "x a bare probe hit", of_probe));
    }

    let flood = |wait_ms, threads| {
        let is = |flood: &&super::Flood| {
            (flood.reader, flood.delivery) == (Reader::Spantap, "background")
                && flood.wait_ms == wait_ms
                && flood.threads == threads
        };
        results.floods.iter().find(is)
    };
    let one = flood(1000, 1);
    goals.push(goal("background, 1 thread, may wait: none lost", one.map(|flood| flood.lost), percent, none));
    let all = flood(1000, results.cores).map(|flood| flood.lost);
    goals.push(goal(
        format!("background, {} threads, may wait: none lost", results.cores),
        all,
        percent,
        none,
    ));
    for format in FORMATS {
        let limit = 3e5;
        let what =
            format!("spantap, {format}: >= {} spans/s decoded, assembled, encoded on two cores", rate(limit));
        let found = results.collectors.spans_per_s("stages", format).map(|(median, _)| median);
        goals.push(goal(what, found, rate, move |found| found >= limit));
    }
    let floods = results.floods.iter().filter(|flood| !flood.mismatches.is_empty()).count();
    let adds_up = (floods + results.collectors.mismatches.len()) as f64;
    goals.push(goal("every span accounted for: runs that don't add up", Some(adds_up), count, none));
    let of_attached = &results.attached;
    let steps = DEEDS.iter().position(|deed| deed.name == "enter+exit");
    let added = |consumer| {
        let row = CONSUMERS.iter().position(|(_, other)| *other == consumer);
        of_attached.ns(row?, steps?).map(|(_, added)| added)
    };
    let (spantap, bpftrace) = (added(Consumer::Spantap(&["--kernel", "sched"])), added(Consumer::Bpftrace));
    let ratio = spantap.zip(bpftrace).map(|(spantap, bpftrace)| spantap / bpftrace);
    goals.push(at_most("spantap attach --kernel sched, an enter and exit", 1.0, "x bpftrace's join", ratio));
    if !of_attached.through.is_empty() {
        let wrong = of_attached.through.iter().filter(|through| !through.adds_up).count();
        let what = "spantap attach: runs in which a lost span is not counted";
        goals.push(goal(what, Some(wrong as f64), count, none));
    }
    let bytes = results.counts.bytes.iter().find(|(name, _)| name.starts_with("tracing-usdt"));
    goals.push(goal(
        "tracing-usdt <= 500 bytes an open span",
        bytes.map(|(_, bytes)| *bytes),
        count,
        |bytes| bytes <= 500.0,
    ));
    goals
}

fn none(value: f64) -> bool {
    value == 0.0
}

fn at_most(name: &str, limit: f64, of: &str, found: Option<f64>) -> Goal {
    let unit = if of.starts_with('x') { "x" } else { "" };
    goal(
        format!("{name} <= {limit}{of}"),
        found,
        |found| format!("{}{unit}", digits(found)),
        |found| found <= limit,
    )
}

fn goal(
    what: impl Into<String>,
    found: Option<f64>,
    show: impl Fn(f64) -> String,
    is_met: impl Fn(f64) -> bool,
) -> Goal {
    let measured = found.map_or("-".to_owned(), show);
    Goal { what: what.into(), measured, met: found.map(is_met) }
}
