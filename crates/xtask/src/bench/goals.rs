//! Compares the goals of the design with the results. Most goals are ratios within one run. The command does not fail
//! if a goal is missed; `tests/instructions.rs` has limits that fail.

use super::Results;
use super::attached::{CONSUMERS, Consumer, OPERATIONS};
use super::collectors::FORMATS;
use super::end_to_end::Reader;
use super::rows::SCENARIOS;
use super::table::{count, digits, percent, rate};
use super::top::{SPANS_PER_S, Top};
use crate::terminal::Colour;

pub(crate) struct Goal {
    what: String,
    measured: String,
    /// None if it was not measured.
    met: Option<bool>,
}

/// Nanoseconds of the base on the machine for which the goals were set.
pub(super) const BASE_NS: f64 = 61.0;

/// Below this latency, the cores share a cache, and transfers between them are cheap.
const NEAR_NS: f64 = 120.0;

/// A screen that is drawn within this time follows the keys.
const SCREEN_MS: f64 = 50.0;

impl Goal {
    pub(crate) fn colour(&self) -> Colour {
        match self.met {
            Some(true) => Colour::Green,
            Some(false) => Colour::Red,
            None => Colour::Dim,
        }
    }

    pub(crate) fn line(&self) -> String {
        let verdict = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        format!("goal: {:<70} {:>9}  {verdict}", self.what, self.measured)
    }
}

pub(crate) fn check(results: &Results) -> Vec<Goal> {
    let base = &SCENARIOS[0];
    let rounds = &results.rounds;
    let ratio = |key, to| rounds.each_round([key, to], base, |[this, that]| this / that);
    let latency = results.core_to_core.iter().flatten().copied().reduce(f64::max);
    let (background, cores) = match latency {
        Some(ns) if ns > NEAR_NS => (4.5, "far"),
        _ => (2.3, "near"),
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
        ("instructions", 1600.0, &results.counts.instructions),
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
        goals.push(at_most(&format!("{name}, each probe, less base"), 1.5, "x a bare probe hit", of_probe));
    }

    let of = |key| results.counts.instructions.get(key).copied();
    goals.push(goal(
        "our macro, nobody looks: <= 3 instructions more than tracing's",
        of("probed").zip(of("none")).map(|(ours, theirs)| ours - theirs),
        |more| format!("{more:+.1}"),
        |more| more <= 3.0,
    ));
    let hit = rounds.each_round(["probed+hit", "probed", "hit"], base, |[hit, off, bare]| (hit - off) / bare);
    goals.push(at_most("our macro, bpftrace at the callsite, less nobody", 1.5, "x a bare probe hit", hit));

    let flood = |wait_ms, threads| {
        let is = |flood: &&super::Flood| {
            (flood.reader, flood.delivery) == (Reader::Spantap, "background")
                && flood.wait_ms == wait_ms
                && flood.threads == threads
        };
        results.floods.iter().find(is)
    };
    let one = flood(1000, 1);
    goals.push(goal(
        "background into spantap, 1 thread, may wait: none lost",
        one.map(|flood| flood.lost),
        percent,
        is_zero,
    ));
    let all = flood(1000, results.cores).map(|flood| flood.lost);
    goals.push(goal(
        format!("background into spantap, {} threads, may wait: none lost", results.cores),
        all,
        percent,
        is_zero,
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
    goals.push(goal(
        "each span is received or counted as lost: runs with a mismatch",
        Some(adds_up),
        count,
        is_zero,
    ));
    let of_attached = &results.attached;
    let added = |consumer, operation| {
        let row = CONSUMERS.iter().position(|(_, other)| *other == consumer)?;
        let operation = OPERATIONS.iter().position(|other| other.name == operation)?;
        of_attached.ns(row, operation).map(|(_, added)| added)
    };
    let spantap = Consumer::Spantap(&[]);
    for (operation, limit) in [("span", 50.0), ("enter+exit", 10.0)] {
        let more = added(spantap, operation).zip(added(Consumer::Listener, operation));
        let more = more.map(|(attached, listener)| attached - listener);
        goals.push(at_most(&format!("spantap attach, {operation}"), limit, " ns more than background", more));
    }
    let background = added(Consumer::Listener, "enter+exit");
    goals.push(at_most("background, enter+exit", 50.0, " ns more than idle", background));
    let ratio = added(spantap, "enter+exit").zip(added(Consumer::Bpftrace, "enter+exit"));
    let ratio = ratio.map(|(spantap, bpftrace)| spantap / bpftrace);
    goals.push(at_most("spantap attach, enter+exit", 0.1, "x bpftrace's join", ratio));
    if !of_attached.throughput.is_empty() {
        let wrong = of_attached.throughput.iter().filter(|throughput| !throughput.adds_up).count();
        let what = "spantap attach: runs in which a lost span is not counted";
        goals.push(goal(what, Some(wrong as f64), count, is_zero));
    }
    let bytes = results.counts.bytes.iter().find(|(name, _)| name.starts_with("tracing-usdt"));
    goals.push(goal(
        "tracing-usdt <= 500 bytes an open span",
        bytes.map(|(_, bytes)| *bytes),
        count,
        |bytes| bytes <= 500.0,
    ));
    goals.extend(of_top(&results.top));
    goals
}

/// The goals of `spantap top`.
pub(crate) fn of_top(of: &[Top]) -> Vec<Goal> {
    let of_run = |run: &Top| {
        let what = format!("spantap top, {} spans/s, {} names", rate(SPANS_PER_S.into()), run.names);
        let shown = format!("{what}: 95% of keys shown in {SCREEN_MS} ms");
        let mismatches = f64::from(u8::from(!run.adds_up));
        [
            goal(shown, Some(run.presses.p95_ms), |ms| format!("{ms:.1} ms"), |ms| ms <= SCREEN_MS),
            goal(format!("{what}: runs with a mismatch"), Some(mismatches), count, is_zero),
        ]
    };
    of.iter().flat_map(of_run).collect()
}

fn is_zero(value: f64) -> bool {
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
