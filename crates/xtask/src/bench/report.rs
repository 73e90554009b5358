//! Prints the machine, the tables, the goals, and what was skipped.

use std::io::{Write, stdout};

use anyhow::Result;

use super::attached::{CONSUMERS, Consumer, OPERATIONS};
use super::captures::{self, Captures};
use super::collectors::{self, COLLECTORS, FORMATS};
use super::end_to_end::Reader;
use super::rows::{BASE, NOTES, ROWS, Row, SCENARIOS};
use super::table::{Style, Table, cell, count, digits, percent, rate};
use super::top::{self, Top};
use super::{Results, goals};
use crate::terminal::Colour;

pub(crate) fn print(results: &Results, style: Style) -> Result<()> {
    let mut out = stdout().lock();
    machine(&mut out, results, style)?;
    style.table(&mut out, &one_span(results))?;
    writeln!(out)?;
    for line in NOTES {
        style.line(&mut out, Colour::Dim, line)?;
    }
    style.table(&mut out, &scenarios(results))?;
    style.table(&mut out, &memory(results))?;
    style.table(&mut out, &end_to_end(results))?;
    for format in FORMATS {
        style.table(&mut out, &collectors(results, format))?;
    }
    style.table(&mut out, &stages(results))?;
    writeln!(out)?;
    for line in collectors::NOTES {
        style.line(&mut out, Colour::Dim, line)?;
    }
    if !results.attached.throughput.is_empty() {
        style.table(&mut out, &attached(results))?;
        style.table(&mut out, &throughput(results))?;
    }
    if let Some(captures) = &results.captures {
        of_captures(&mut out, captures, style)?;
    }
    of_top(&mut out, &results.top, style)?;
    let of_floods = results.floods.iter().flat_map(|flood| &flood.mismatches);
    let mismatches: Vec<&String> = of_floods.chain(&results.collectors.mismatches).collect();
    if !mismatches.is_empty() {
        writeln!(out)?;
    }
    for mismatch in mismatches {
        style.item(&mut out, Colour::Red, mismatch)?;
    }

    style.heading(&mut out, "Goals")?;
    for goal in goals::check(results) {
        style.item(&mut out, goal.colour(), &goal.line())?;
    }
    if let Some((base, _)) = results.rounds.ns("base", &SCENARIOS[0]) {
        let line = format!(
            "Goals in spans/s are for a machine on which the base takes {} ns; here it took {}.",
            goals::BASE_NS,
            digits(base)
        );
        style.line(&mut out, Colour::Dim, &line)?;
    }

    style.heading(&mut out, "Skipped")?;
    for line in results.skipped.iter().chain(&results.rounds.warnings) {
        style.item(&mut out, Colour::Red, line)?;
    }
    if results.skipped.is_empty() {
        style.item(&mut out, Colour::Plain, "no row")?;
    }
    style.item(&mut out, Colour::Dim, &format!("took {:.0} s", results.took.as_secs_f64()))
}

/// Prints only how fast `spantap view` answers.
pub(crate) fn print_captures(captures: &Captures, style: Style) -> Result<()> {
    of_captures(&mut stdout().lock(), captures, style)
}

/// Prints only the figures of `spantap top`.
pub(crate) fn print_top(of: &[Top], style: Style) -> Result<()> {
    let mut out = stdout().lock();
    of_top(&mut out, of, style)?;
    for goal in goals::of_top(of) {
        style.item(&mut out, goal.colour(), &goal.line())?;
    }
    Ok(())
}

fn of_top(out: &mut impl Write, of: &[Top], style: Style) -> Result<()> {
    style.table(out, &top(of))?;
    writeln!(out)?;
    for line in top::NOTES {
        style.line(out, Colour::Dim, line)?;
    }
    Ok(())
}

fn of_captures(out: &mut impl Write, of: &Captures, style: Style) -> Result<()> {
    style.table(out, &captures(of))?;
    writeln!(out)?;
    for line in captures::NOTES {
        style.line(out, Colour::Dim, line)?;
    }
    Ok(())
}

fn machine(out: &mut impl Write, results: &Results, style: Style) -> Result<()> {
    style.heading(out, "The machine")?;
    for (name, value) in &results.machine {
        style.item(out, Colour::Plain, &format!("{name:<15}  {value}"))?;
    }
    let [before, after] = results.core_to_core.map(|ns| cell(ns, digits));
    style.item(out, Colour::Plain, &format!("core to core     {before} ns one way, at the end {after} ns"))
}

fn one_span(results: &Results) -> Table {
    let (scenario, rounds, counts) = (&SCENARIOS[0], &results.rounds, &results.counts);
    let row = |row: &Row| {
        let ns = rounds.ns(row.key, scenario);
        let hits = results.hits.iter().find(|(key, _)| *key == row.key).map(|(_, hits)| *hits);
        vec![
            row.name.to_owned(),
            cell(ns.map(|(median, _)| median), digits),
            cell(ns.map(|(_, spread)| spread), digits),
            cell(rounds.x_base(row.key, scenario), digits),
            cell(counts.instructions.get(row.key), |instructions| format!("{instructions:.0}")),
            cell(counts.allocations.get(row.key).copied(), count),
            cell(hits.or(rounds.arrived(row.key, scenario)), percent),
        ]
    };
    Table {
        title: "One span, two fields, one thread".to_owned(),
        columns: owned(["", "ns/span", "±", "x base", "instr", "allocs", "arrived"]),
        rows: ROWS.iter().map(row).collect(),
    }
}

fn scenarios(results: &Results) -> Table {
    let row = |row: &Row| {
        let cells = SCENARIOS.iter().map(|scenario| match row.key {
            BASE => cell(results.rounds.ns(BASE, scenario), |(ns, _)| format!("{} ns", digits(ns))),
            key => cell(results.rounds.x_base(key, scenario), digits),
        });
        [row.name.to_owned()].into_iter().chain(cells).collect()
    };
    Table {
        title: "A span of other kinds, x base of the same kind".to_owned(),
        columns: owned([""])
            .into_iter()
            .chain(SCENARIOS.iter().map(|scenario| scenario.name.to_owned()))
            .collect(),
        rows: ROWS.iter().filter(|row| !row.is_floor).map(row).collect(),
    }
}

fn memory(results: &Results) -> Table {
    let rows = results.counts.bytes.iter().map(|(name, bytes)| vec![(*name).to_owned(), count(*bytes)]);
    Table {
        title: "Memory, 100,000 spans open at once".to_owned(),
        columns: owned(["", "bytes/span"]),
        rows: rows.collect(),
    }
}

fn end_to_end(results: &Results) -> Table {
    let rows = results.floods.iter().map(|flood| {
        let counts = if flood.mismatches.is_empty() { "agree" } else { "MISMATCH" };
        let reader = match flood.reader {
            Reader::Parser => "parser",
            Reader::Spantap => "spantap listen, shows 1 trace/s",
        };
        vec![
            flood.delivery.to_owned(),
            reader.to_owned(),
            flood.threads.to_string(),
            format!("{} ms", flood.wait_ms),
            rate(flood.closed_per_s),
            rate(flood.received_per_s),
            percent(flood.lost),
            counts.to_owned(),
        ]
    });
    Table {
        title: "End to end, into a process that reads each span".to_owned(),
        columns: owned([
            "delivery",
            "read by",
            "threads",
            "may wait",
            "closed/s",
            "received/s",
            "lost",
            "counts",
        ]),
        rows: rows.collect(),
    }
}

fn collectors(results: &Results, format: &'static str) -> Table {
    let of = &results.collectors;
    let recording = of.recordings.iter().find(|recording| recording.format == format);
    let recorded = cell(recording, |recording| {
        format!("{:.0} spans of {:.0} bytes", recording.spans_of_datagram, recording.bytes_of_span)
    });
    let rows = COLLECTORS.iter().map(|collector| {
        let key = collector.key;
        let rates = of.spans_per_s(key, format);
        vec![
            collector.name.to_owned(),
            collector.cores.to_owned(),
            cell(rates.map(|(median, _)| median), rate),
            cell(rates.map(|(_, spread)| spread), rate),
            cell(of.ratio(key, COLLECTORS[0].key, format), digits),
            cell(of.busy_ns(key, format), digits),
            cell(of.taken(key, format), percent),
            cell(of.forwarded(key, format), percent),
            cell(of.viewed(key, format), percent),
        ]
    });
    let columns = ["", "cores", "spans/s", "±", "x recv", "busy ns", "taken", "forwarded", "viewed"];
    Table {
        title: format!("Collectors, {format} datagrams of {recorded} on average"),
        columns: owned(columns),
        rows: rows.collect(),
    }
}

fn stages(results: &Results) -> Table {
    let row = |(stage, name): (usize, &&str)| {
        let cells = FORMATS.map(|format| cell(results.collectors.stage_ns(stage, format), digits));
        [(*name).to_owned()].into_iter().chain(cells).collect()
    };
    Table {
        title: "The stages of spantap, ns/span on a thread".to_owned(),
        columns: owned([""]).into_iter().chain(owned(FORMATS)).collect(),
        rows: ["decode", "encode for OTLP", "assembly"].iter().enumerate().map(row).collect(),
    }
}

fn attached(results: &Results) -> Table {
    let row = |(consumer, (name, _)): (usize, &(&str, Consumer))| {
        let cells = (0..OPERATIONS.len()).map(|operation| match results.attached.ns(consumer, operation) {
            Some((ns, _)) if consumer == 0 => digits(ns),
            Some((_, added)) => format!("{}{}", if added < 0.0 { "" } else { "+" }, digits(added)),
            None => "-".to_owned(),
        });
        [(*name).to_owned()].into_iter().chain(cells).collect()
    };
    let columns = [""].into_iter().chain(OPERATIONS.iter().map(|operation| operation.name));
    Table {
        title: "With consumers: ns without one, and ns added by each".to_owned(),
        columns: columns.map(str::to_owned).collect(),
        rows: CONSUMERS.iter().enumerate().map(row).collect(),
    }
}

fn throughput(results: &Results) -> Table {
    let rows = results.attached.throughput.iter().map(|throughput| {
        vec![
            format!("--kernel {}", throughput.kernel),
            throughput.threads.to_string(),
            rate(throughput.made_per_s),
            percent(throughput.lost),
            if throughput.adds_up { "agree" } else { "MISMATCH" }.to_owned(),
        ]
    });
    Table {
        title: "Throughput of spantap attach".to_owned(),
        columns: owned(["", "threads", "made/s", "lost", "counts"]),
        rows: rows.collect(),
    }
}

fn captures(captures: &Captures) -> Table {
    let rows = captures.answers.iter().map(|answer| {
        vec![
            answer.question.name.to_owned(),
            format!("{:.2} s", answer.seconds),
            format!("{:.2} s", answer.cpu_s),
            format!("{:.0} MB", answer.peak_bytes as f64 / 1e6),
        ]
    });
    let title = format!(
        "spantap view of a capture of {:.2} GB with {:.1} million spans",
        captures.bytes as f64 / 1e9,
        captures.spans as f64 / 1e6
    );
    Table { title, columns: owned(["", "time", "CPU time", "memory"]), rows: rows.collect() }
}

fn top(of: &[Top]) -> Table {
    let ms = |ms: f64| format!("{ms:.1} ms");
    let rows = of.iter().map(|run| {
        vec![
            format!("{} names", run.names),
            rate(run.sent_per_s),
            rate(run.counted_per_s),
            percent(run.missed),
            run.presses.keys.to_string(),
            ms(run.presses.p50_ms),
            ms(run.presses.p95_ms),
            ms(run.presses.max_ms),
            ms(run.at_rest.p50_ms),
            ms(run.at_rest.max_ms),
            format!("{:.2}", run.busy),
            format!("{:.0} MB", run.peak_bytes as f64 / 1e6),
            if run.adds_up { "agree" } else { "MISMATCH" }.to_owned(),
        ]
    });
    let title = format!("spantap top, {}x{}, while spans arrive", top::COLUMNS, top::LINES);
    let columns = ["", "sent/s", "counted/s", "missed", "keys", "shown p50", "p95", "max"];
    let more = ["at rest p50", "max", "busy", "memory", "counts"];
    Table { title, columns: owned(columns).into_iter().chain(owned(more)).collect(), rows: rows.collect() }
}

fn owned<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}
