//! Limits for the instructions of a span on the thread that makes it. Unlike times, they do not depend on how
//! busy the machine is.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::process::Command;

use e2e::{Build, Collector, Fixture, Linkage, need};

/// Recorded instructions for a span with two fields, beyond those of a registry with a layer that does nothing.
/// A change that costs more raises its number here, on purpose.
const RECORDED: [(&str, f64); 8] = [
    ("idle", 77.0),
    ("on demand", 20.0),
    // A root: its ids are drawn, and kept for its children and for propagation.
    ("sampled out", 702.0),
    ("sampled out, a child", 502.0),
    ("background", 934.0),
    ("background, a child", 1072.0),
    // Looks at the open spans take none of the thread that makes them.
    ("background, looked at", 934.0),
    // The thread's name is checked to be a text again, as a span keeps it in bytes.
    ("inline", 4552.0),
];

/// Functions that only the sampling decision needs. They find the span's parent, or draw ids and ask the
/// sampler; keep the decision for the span's children and for propagation; and at its close remove and count it.
const DECISION: [&str; 2] = ["tracing_usdt::layer::new_span::*::begin", "tracing_usdt::layer::close::*::end"];

/// Instructions around the calls of these functions, in two callbacks: the arguments, the call, the check of the
/// result.
const CALLS: f64 = 2.0 * 3.0;

/// Instructions that find out, at an enter, an exit and the close, whether the span is tracked. They are part of the
/// decision, and inlined where they can't be told from the rest: 22 to 27 each, counted by callgrind by line. The word
/// that they find is also the lock of a span that is sampled, which makes up for it there.
const LOOK_UPS: f64 = 3.0 * 27.0;

/// Other compilers and C libraries may take more instructions by this factor,
const TOLERANCE_FACTOR: f64 = 1.05;

/// and by this many, for small numbers.
const TOLERANCE: f64 = 10.0;

/// Instructions of a program that makes `spans` spans, except those inside the functions `without`.
fn instructions(build: Build, way: &str, without: &[&str], spans: u32) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callgrind");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--separate-threads=yes", "--toggle-collect=fixture::burst", "-q"]);
    valgrind.arg("--toggle-collect=fixture::callsites::burst");
    // Toggles collection off inside these functions. `read_both` is among them because it runs once in a while,
    // by time.
    for function in without.iter().chain(&["tracing_usdt::clock::tsc::read_both"]) {
        valgrind.arg(format!("--toggle-collect={function}"));
    }
    valgrind.arg(format!("--callgrind-out-file={}", file.display()));
    valgrind.arg(build.path(Linkage::Executable, 0)).stderr(std::process::Stdio::null());
    let (way, burst) = match (way.strip_suffix(", a child"), way.strip_suffix(", our macro")) {
        (Some(way), _) => (way, "below 500"),
        (_, Some(way)) => (way, "callsite_burst 500"),
        _ => (way, "burst 500"),
    };
    let stack = match way {
        "base" => "base",
        "on demand" => "gate",
        "no subscriber" => "none",
        _ => "plain",
    };
    valgrind.env("FIXTURE_STACK", stack);
    let collector = ["background", "background, looked at", "inline", "sampled out"]
        .contains(&way)
        .then(Collector::start);
    match way {
        "sampled out" => {
            _ = valgrind.env("OTEL_TRACES_SAMPLER", "traceidratio").env("OTEL_TRACES_SAMPLER_ARG", "0")
        }
        "background, looked at" => {
            let looks = [("TRACING_USDT_OPEN_SPANS", "1ms"), ("TRACING_USDT_FORMAT", "otlp-protobuf")];
            _ = valgrind.env("TRACING_USDT_DELIVERY", "background").envs(looks);
        }
        "background" | "inline" => _ = valgrind.env("TRACING_USDT_DELIVERY", way),
        _ => {}
    }
    let mut fixture = Fixture::spawn(&mut valgrind, collector.as_ref().map(Collector::path));
    // Warms up: some state is made once.
    fixture.run(burst);
    for _ in 0..spans / 500 {
        fixture.run("flush");
        fixture.run(burst);
    }
    fixture.end();
    // File 01 is the first thread's, which makes the spans.
    let counts = std::fs::read_to_string(folder.path().join("callgrind-01")).unwrap();
    let totals = counts.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
    totals.trim().parse().unwrap()
}

/// The difference of two runs leaves out the program's start and end.
fn of_one_span(way: &str, without: &[&str]) -> f64 {
    of_one_span_in(Build::Release, way, without)
}

fn of_one_span_in(build: Build, way: &str, without: &[&str]) -> f64 {
    (instructions(build, way, without, 4000) - instructions(build, way, without, 2000)) / 2000.0
}

/// Beyond the instructions of a span with a layer that does nothing.
fn beyond_base(way: &str, without: &[&str]) -> f64 {
    let base = if way.ends_with(", a child") { "base, a child" } else { "base" };
    let base = of_one_span(base, &[]);
    assert!((300.0..3000.0).contains(&base), "{base} instructions can't be a span's");
    of_one_span(way, without) - base
}

/// Without the sampling decision, a span that is not sampled takes no more than with an idle layer.
#[test]
fn a_span_that_is_sampled_out_costs_an_idle_span_and_the_decision() {
    if !need(&["valgrind"]) {
        return;
    }
    for kind in ["", ", a child"] {
        let idle = beyond_base(&format!("idle{kind}"), &[]);
        let way = format!("sampled out{kind}");
        let (all, rest) = (beyond_base(&way, &[]), beyond_base(&way, &DECISION));
        let decision = all - rest;
        eprintln!("{way}: {all:.0} instructions, {decision:.0} of them the decision; idle{kind}: {idle:.0}");
        assert!(decision > 100.0, "{decision:.0}: have the functions of the decision been renamed?");
        assert!(rest <= idle + CALLS + LOOK_UPS, "{rest:.0} without the decision, {idle:.0} idle");
    }
}

#[test]
fn a_span_takes_no_more_instructions_than_were_recorded() {
    if !need(&["valgrind"]) {
        return;
    }
    let mut exceeded = Vec::new();
    for (way, recorded) in RECORDED {
        // A disabled callsite takes less than the base, so the base is not subtracted.
        let found = if way == "on demand" { of_one_span(way, &[]) } else { beyond_base(way, &[]) };
        eprintln!("{way}: {found:.0} instructions, {recorded} recorded");
        if found > recorded * TOLERANCE_FACTOR + TOLERANCE {
            exceeded.push(format!("{way}: {found:.0} instead of {recorded}"));
        }
    }
    assert!(exceeded.is_empty(), "more instructions than recorded: {exceeded:?}");
}

/// The counters of its probes are one load and one branch, whether a subscriber wants the span or not.
#[test]
fn a_callsite_with_a_probe_takes_at_most_three_instructions_more() {
    if !need(&["valgrind"]) {
        return;
    }
    for way in ["no subscriber", "on demand", "base", "idle"] {
        let [without, with] = ["", ", our macro"].map(|macros| of_one_span(&format!("{way}{macros}"), &[]));
        eprintln!("{way}: {without:.1} instructions by tracing's macro, {with:.1} by ours");
        assert!(without > 10.0, "{without} instructions can't be a span's");
        assert!(with <= without + 3.0, "{way}: {with:.1} instead of {without:.1}");
    }
}

/// Cargo unifies features, so a program may have this one without asking the layer for the ids of
/// `tracing-opentelemetry`.
#[test]
#[ignore = "deep: builds with another feature"]
fn the_feature_for_opentelemetry_alone_takes_at_most_a_fiftieth_more_instructions() {
    if !need(&["valgrind"]) {
        return;
    }
    let mut exceeded = Vec::new();
    for way in ["idle", "sampled out", "sampled out, a child", "background", "inline"] {
        // Beyond the base of the same build: the compiler may inline the registry in one of them and not in the other.
        let base = if way.ends_with(", a child") { "base, a child" } else { "base" };
        let [without, with] = [Build::Release, Build::WithOpentelemetry]
            .map(|build| of_one_span_in(build, way, &[]) - of_one_span_in(build, base, &[]));
        eprintln!("{way}: {without:.0} instructions without the feature, {with:.0} with it");
        // The layer checks a field a few times more, but not while nobody listens; and the compiler, given more
        // code, leaves calls that it inlined without (22 instructions of a span that is sampled out).
        let tolerance = if way == "idle" { 1.0 } else { without / 50.0 };
        if with > without + tolerance {
            exceeded.push(format!("{way}: {with:.0} instead of {without:.0}"));
        }
    }
    assert!(exceeded.is_empty(), "{exceeded:?}");
}
