//! What was won, held without a clock: instructions for each span on the thread that makes it, which are
//! the same on a busy machine and on an idle one.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::process::Command;

use e2e::{Build, Collector, Fixture, Linkage, need};

/// Instructions for a span with two fields, beyond those of a registry with a layer that does nothing, as
/// they were last recorded. A change that costs more is made here too, on purpose.
const RECORDED: [(&str, f64); 6] = [
    ("idle", 85.0),
    ("on demand", 20.0),
    // A root: its ids are drawn and kept, for those below it and for who asks.
    ("sampled out", 800.0),
    ("sampled out, a child", 485.0),
    ("background", 1845.0),
    ("inline", 4771.0),
];

/// What is done about a span because of the sampler, and for nothing else: to find its parent, or to draw its ids and
/// to ask; to keep the answer for those below it and for who asks for its context; to look for it at each enter, exit and
/// close; to forget and count it.
const DECISION: [&str; 4] = [
    "tracing_usdt::layer::UsdtLayer::begin",
    "tracing_usdt::layer::UsdtLayer::end",
    "tracing_usdt::spans::Spans::watches",
    "tracing_usdt::spans::Spans::may_have",
];

/// At each of the four callbacks the decision has to be called, too: the arguments, the call, the look at the answer.
const CALLS: f64 = 4.0 * 3.0;

/// Other compilers and C libraries differ by so much.
const MORE: f64 = 1.05;

/// And by so many, where there are few.
const FEW: f64 = 10.0;

/// Of `spans` spans and what is around them, but not inside of the functions `without`.
fn instructions(way: &str, without: &[&str], spans: u32) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callgrind");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--separate-threads=yes", "--toggle-collect=fixture::burst", "-q"]);
    // Collects less again in there: how often the clock has to be set anew is a matter of time.
    for function in without.iter().chain(&["tracing_usdt::clock::tsc::read_both"]) {
        valgrind.arg(format!("--toggle-collect={function}"));
    }
    valgrind.arg(format!("--callgrind-out-file={}", file.display()));
    valgrind.arg(Build::Release.path(Linkage::Executable, 0)).stderr(std::process::Stdio::null());
    let (way, burst) = match way.strip_suffix(", a child") {
        Some(way) => (way, "below 500"),
        None => (way, "burst 500"),
    };
    let stack = match way {
        "base" => "base",
        "on demand" => "gate",
        _ => "plain",
    };
    valgrind.env("FIXTURE_STACK", stack);
    let collector = ["background", "inline", "sampled out"].contains(&way).then(Collector::start);
    match way {
        "sampled out" => {
            _ = valgrind.env("OTEL_TRACES_SAMPLER", "traceidratio").env("OTEL_TRACES_SAMPLER_ARG", "0")
        }
        "background" | "inline" => _ = valgrind.env("TRACING_USDT_DELIVERY", way),
        _ => {}
    }
    let mut fixture = Fixture::spawn(&mut valgrind, collector.as_ref().map(Collector::path));
    // What is made once.
    fixture.run(burst);
    for _ in 0..spans / 500 {
        fixture.run("flush");
        fixture.run(burst);
    }
    fixture.end();
    // The first thread's: it is the one that makes the spans.
    let counts = std::fs::read_to_string(folder.path().join("callgrind-01")).unwrap();
    let totals = counts.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
    totals.trim().parse().unwrap()
}

fn of_one_span(way: &str, without: &[&str]) -> f64 {
    (instructions(way, without, 4000) - instructions(way, without, 2000)) / 2000.0
}

/// Beyond what a span takes that does nothing.
fn beyond_base(way: &str, without: &[&str]) -> f64 {
    let base = if way.ends_with(", a child") { "base, a child" } else { "base" };
    let base = of_one_span(base, &[]);
    assert!((300.0..3000.0).contains(&base), "{base} instructions can't be a span's");
    of_one_span(way, without) - base
}

/// That its trace is not sampled costs a span the decision, and nothing else: the rest of it is what an idle layer takes.
#[test]
fn a_span_that_is_sampled_out_takes_what_an_idle_one_does_and_the_decision() {
    if !need(&["valgrind"]) {
        return;
    }
    for kind in ["", ", a child"] {
        let idle = beyond_base(&format!("idle{kind}"), &[]);
        let way = format!("sampled out{kind}");
        let (all, rest) = (beyond_base(&way, &[]), beyond_base(&way, &DECISION));
        let decision = all - rest;
        eprintln!("{way}: {all:.0} instructions, {decision:.0} of them the decision; idle{kind}: {idle:.0}");
        assert!(decision > 100.0, "{decision:.0}: the functions of the decision have other names");
        assert!(rest <= idle + CALLS, "{rest:.0} beside the decision, {idle:.0} idle");
    }
}

#[test]
fn a_span_takes_no_more_instructions_than_were_recorded() {
    if !need(&["valgrind"]) {
        return;
    }
    let mut more = Vec::new();
    for (way, recorded) in RECORDED {
        // With callsites closed there are less than the base's.
        let found = if way == "on demand" { of_one_span(way, &[]) } else { beyond_base(way, &[]) };
        eprintln!("{way}: {found:.0} instructions, {recorded} recorded");
        if found > recorded * MORE + FEW {
            more.push(format!("{way}: {found:.0} instead of {recorded}"));
        }
    }
    assert!(more.is_empty(), "it takes more instructions than it did: {more:?}");
}
