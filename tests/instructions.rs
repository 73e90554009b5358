//! What was won, held without a clock: instructions for each span on the thread that makes it, which are
//! the same on a busy machine and on an idle one.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::process::Command;

use e2e::{Build, Collector, Fixture, Linkage, need};

/// Instructions for a span with two fields, beyond those of a registry with a layer that does nothing, as
/// they were last recorded. A change that costs more is made here too, on purpose.
const RECORDED: [(&str, f64); 5] = [
    ("idle", 89.0),
    ("on demand", 20.0),
    // A root: its ids are drawn and kept, for those below it and for who asks.
    ("sampled out", 898.0),
    ("background", 1675.0),
    ("inline", 4335.0),
];

/// Other compilers and C libraries differ by so much.
const MORE: f64 = 1.05;

/// And by so many, where there are few.
const FEW: f64 = 10.0;

/// Of `spans` spans and what is around them.
fn instructions(way: &str, spans: u32) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callgrind");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--separate-threads=yes", "--toggle-collect=fixture::burst", "-q"]);
    // Collects less again in there: how often the clock has to be set anew is a matter of time.
    valgrind.arg("--toggle-collect=tracing_usdt::clock::tsc::read_both");
    valgrind.arg(format!("--callgrind-out-file={}", file.display()));
    valgrind.arg(Build::Release.path(Linkage::Executable, 0)).stderr(std::process::Stdio::null());
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
    fixture.run("burst 500");
    for _ in 0..spans / 500 {
        fixture.run("flush");
        fixture.run("burst 500");
    }
    fixture.end();
    // The first thread's: it is the one that makes the spans.
    let counts = std::fs::read_to_string(folder.path().join("callgrind-01")).unwrap();
    let totals = counts.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
    totals.trim().parse().unwrap()
}

fn of_one_span(way: &str) -> f64 {
    (instructions(way, 4000) - instructions(way, 2000)) / 2000.0
}

#[test]
fn a_span_takes_no_more_instructions_than_were_recorded() {
    if !need(&["valgrind"]) {
        return;
    }
    let base = of_one_span("base");
    assert!((300.0..3000.0).contains(&base), "{base} instructions can't be a span's");
    let mut more = Vec::new();
    for (way, recorded) in RECORDED {
        // With callsites closed there are less than the base's.
        let found = if way == "on demand" { of_one_span(way) } else { of_one_span(way) - base };
        eprintln!("{way}: {found:.0} instructions, {recorded} recorded, the base takes {base:.0}");
        if found > recorded * MORE + FEW {
            more.push(format!("{way}: {found:.0} instead of {recorded}"));
        }
    }
    assert!(more.is_empty(), "it takes more instructions than it did: {more:?}");
}
