//! Counts instructions, allocations and bytes.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};

use super::programs::{self, command, number};
use super::rows::{Around, Row};
use super::stage::Stage;
use crate::setup;

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) instructions: HashMap<&'static str, f64>,
    pub(crate) allocations: HashMap<&'static str, f64>,
    /// Bytes of an open span, with the name in the memory table.
    pub(crate) bytes: Vec<(&'static str, f64)>,
}

/// The rows of the memory table, by key and name. fastrace has spans of its own, below one root.
const MEMORY_ROWS: [(&str, &str); 6] = [
    ("base", "the base"),
    ("background", "tracing-usdt, background"),
    ("inline", "tracing-usdt, inline"),
    ("otel", "tracing-opentelemetry"),
    ("fastrace-root", "fastrace"),
    ("fastrace-tracing", "fastrace-tracing"),
];

const OPEN: &str = "100000";

/// Multiples of the burst of variants with a queue, so that the difference consists of whole bursts.
const FEW: u64 = 3000;
const MORE: u64 = 6000;

impl Counts {
    pub(crate) fn take(stage: &mut Stage) -> Result<Self> {
        let mut counts = Self::default();
        let valgrind = setup::ensure(&[setup::VALGRIND]);
        for missing in &valgrind {
            stage.skip("instructions", &missing.to_string());
        }
        // The kernel puts a breakpoint at an attached probe, and valgrind can't run it.
        let watched = |row: &Row| matches!(row.around, Around::Bpftrace(..));
        for row in stage.rows().into_iter().filter(|row| !row.is_floor && !watched(row)) {
            stage.progress(&format!("counting allocations: {}", row.name));
            let mut command = stage.command("span_counted", row);
            let output = programs::run(row.name, command.args(["--spans", "30000"]))?;
            counts.allocations.insert(row.key, number(&output.json, "allocations_per_span")?);
            if valgrind.is_empty() {
                stage.progress(&format!("counting instructions: {}", row.name));
                match instructions(stage, row) {
                    Ok(instructions) => drop(counts.instructions.insert(row.key, instructions)),
                    Err(why) => stage.skip(&format!("instructions of {}", row.name), &format!("{why:#}")),
                }
            }
        }
        for (key, name) in MEMORY_ROWS {
            let rows = stage.rows();
            let Some(row) = rows.iter().find(|row| row.key == key) else { continue };
            stage.progress(&format!("counting the bytes of open spans: {name}"));
            let output = programs::run(name, stage.command("span_counted", row).args(["--open", OPEN]))?;
            counts.bytes.push((name, number(&output.json, "bytes_per_open_span")?));
        }
        Ok(counts)
    }
}

/// Instructions of one span on its thread: the difference of two runs, divided by the difference of their spans.
fn instructions(stage: &Stage, row: &Row) -> Result<f64> {
    let (few, more) = (callgrind(stage, row, FEW)?, callgrind(stage, row, MORE)?);
    Ok((more.0 - few.0) / (more.1 - few.1))
}

/// The instructions of the first thread, and the number of spans it made.
fn callgrind(stage: &Stage, row: &Row, spans: u64) -> Result<(f64, f64)> {
    let file = stage.folder().join("callgrind");
    let mut command = command("valgrind");
    command.args(["--tool=callgrind", "--separate-threads=yes", "--toggle-collect=*timed_burst*"]);
    // Toggles the collection off inside this function: the clock is recalibrated after some time, so a slow run
    // calls it more often.
    command.arg("--toggle-collect=tracing_usdt::clock::tsc::read_both");
    command.arg(format!("--callgrind-out-file={}", file.display()));
    command.arg(stage.path("span", row)).args([row.variant, "--spans", &spans.to_string()]);
    command.args(["--warm-up", "1500"]); // few, because valgrind is slow
    stage.surround(&mut command, row);
    let output = programs::run("valgrind", &mut command)?;
    let first = file.with_file_name("callgrind-01");
    let text = fs::read_to_string(&first).with_context(|| format!("valgrind left no {}", first.display()))?;
    fs::remove_file(&first)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    Ok((total.context("callgrind gave no total")?, number(&output.json, "spans")?))
}
