//! The rows of the tables: the measured variants, and what each needs while it runs.

/// A variant: a way to record spans, or not to record them.
pub(crate) struct Row {
    /// Its name in goals and ratios.
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    /// The argument of the program `span`.
    pub(crate) variant: &'static str,
    pub(crate) around: Around,
    /// A bare operation. It costs the same in all scenarios, so only the first measures it.
    pub(crate) is_floor: bool,
}

/// What a row needs while it runs.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Around {
    Nothing,
    /// A receiver that drains the socket, and this `TRACING_USDT_DELIVERY`.
    Receiver(&'static str),
    /// bpftrace, which counts the hits of these probes of a provider.
    Bpftrace(&'static str, &'static [&'static str]),
}

use Around::{Bpftrace, Nothing, Receiver};

/// All ratios are relative to this row.
pub(crate) const BASE: &str = "base";

const ALL_PROBES: &[&str] = &["new_span", "enter", "exit", "close"];

pub(crate) static ROWS: [Row; 28] = [
    row("none", "no subscriber", "no-subscriber", Nothing),
    row(BASE, "registry + a layer that does nothing: the base", "base", Nothing),
    row("idle", "tracing-usdt, idle", "usdt", Nothing),
    row("gate", "tracing-usdt, idle, on_demand() for all", "usdt-gate", Nothing),
    row("background", "tracing-usdt, background", "usdt", Receiver("background")),
    row("inline", "tracing-usdt, inline", "usdt", Receiver("inline")),
    row("context", "tracing-usdt, idle, with_thread_context()", "usdt-context", Nothing),
    row(
        "context+background",
        "tracing-usdt, background, with_thread_context()",
        "usdt-context",
        Receiver("background"),
    ),
    row("close", "tracing-usdt, bpftrace at close", "usdt", Bpftrace("tracing", &["close"])),
    row("all", "tracing-usdt, bpftrace at all four", "usdt", Bpftrace("tracing", ALL_PROBES)),
    row("probed", "our macro, no subscriber", "probed", Nothing),
    row("probed+idle", "our macro, tracing-usdt, idle", "probed+usdt", Nothing),
    row(
        "probed+hit",
        "our macro, no subscriber, bpftrace at the callsite",
        "probed",
        Bpftrace("bench__spans", &["request"]),
    ),
    row("fmt", "fmt", "fmt", Nothing),
    row("fmt+idle", "fmt + tracing-usdt, idle", "fmt+usdt", Nothing),
    row("fmt+filter", "fmt + tracing-usdt, idle, on_demand()", "fmt+usdt-filter", Nothing),
    row("fmt-info", "fmt at INFO, spans at DEBUG", "fmt-info", Nothing),
    row("fmt-info+idle", "fmt at INFO + tracing-usdt, spans at DEBUG", "fmt-info+usdt", Nothing),
    row("fmt-info+filter", "the same, tracing-usdt on_demand()", "fmt-info+usdt-filter", Nothing),
    row("json", "fmt json, a line at each close", "fmt-json", Nothing),
    row("otel", "tracing-opentelemetry", "opentelemetry", Nothing),
    row("fastrace-root", "fastrace, root span", "fastrace-root", Nothing),
    row("fastrace-local", "fastrace, local span", "fastrace-local", Nothing),
    row("fastrace-tracing", "fastrace-tracing", "fastrace-tracing", Nothing),
    row("chrome", "tracing-chrome", "chrome", Nothing),
    floor("send", "a bare send of 300 bytes", "floor-send", Receiver("inline")),
    floor("hit", "a bare probe, hit by bpftrace", "floor-probe", Bpftrace("bench", &["hit"])),
    floor("clock", "clock_gettime", "floor-clock", Nothing),
];

/// The text below the table.
pub(crate) const NOTES: [&str; 7] = [
    "One INFO span with a u64 and a &str of 20 bytes: new, enter, exit, close. Medians of interleaved rounds,",
    "each run a process of its own; ± is the interquartile range; x base is the median of each round's ratio.",
    "Variants with a queue are timed in bursts that fit into it. instr, allocs: user instructions and allocations of",
    "the calling thread. arrived: the part that the receiver counted, over all rounds. fmt formats the fields and",
    "writes nothing, because the span has no event. All others write to sinks and exporters that only count.",
    "A fastrace local span is one of 1500 in a trace (polled: a Span in the future). A root span becomes the local",
    "parent. tracing-chrome runs with its option that records the fields.",
];

const fn row(key: &'static str, name: &'static str, variant: &'static str, around: Around) -> Row {
    Row { key, name, variant, around, is_floor: false }
}

const fn floor(key: &'static str, name: &'static str, variant: &'static str, around: Around) -> Row {
    Row { key, name, variant, around, is_floor: true }
}

/// The kind of span in a column.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) arguments: &'static [&'static str],
    /// How often a span is entered.
    pub(crate) enters: u64,
}

/// The main table shows the first.
pub(crate) static SCENARIOS: [Scenario; 6] = [
    Scenario { name: "1 thread", arguments: &[], enters: 1 },
    Scenario { name: "2 threads", arguments: &["--threads", "2"], enters: 1 },
    Scenario { name: "8 fields", arguments: &["--fields", "8"], enters: 1 },
    Scenario { name: "32 fields", arguments: &["--fields", "32"], enters: 1 },
    Scenario { name: "10 deep", arguments: &["--depth", "10"], enters: 1 },
    // `Instrumented` enters the span once more when it drops its future.
    Scenario { name: "10 polls", arguments: &["--async-polls", "10"], enters: 11 },
];

impl Row {
    /// How often one span hits the watched probes.
    pub(crate) fn hits_of_span(&self, scenario: &Scenario) -> u64 {
        let Bpftrace(_, probes) = self.around else { return 0 };
        let hits = |probe: &&str| if matches!(*probe, "enter" | "exit") { scenario.enters } else { 1 };
        probes.iter().map(hits).sum()
    }
}
