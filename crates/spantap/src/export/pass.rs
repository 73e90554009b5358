//! Reads the files for all targets.
//!
//! At first it finds the traces, as `spantap view` does. Then the files are read once more for the formats that are made of spans,
//! and again for those that are made of traces: once for each group of traces that fits into the memory together (`search::load`).

use std::io::{self, Write};

use anyhow::Result;
use memchr::memmem::Finder;

use super::html::Report;
use super::output::Output;
use super::parquet::Parquet;
use super::perfetto::Perfetto;
use super::stacks::Stacks;
use super::target::Format;
use super::{clickhouse, flamegraph, folded, otlp_json};
use crate::capture::{Filter, Spans};
use crate::search::{Choice, Files, Read, Wanted, choose, load};
use crate::text::counted;
use crate::trace::{EncodedSpan, Trace, breakdowns, finder};

/// What was written.
#[derive(Debug)]
pub struct Exported {
    /// How many traces were chosen.
    pub traces: usize,
    /// How many spans were read.
    pub spans: u64,
    /// What else the files had.
    pub read: Read,
    /// What the outputs lack, once they are written.
    pub notes: Vec<String>,
}

/// Writes the wanted traces of the files to all outputs. If there is none, nothing is written, and files are as before. An output
/// that nobody reads any more does not disturb the others.
///
/// The memory is bounded, except that the ids of all wanted traces are kept.
///
/// # Errors
///
/// When an output fails.
pub fn export(files: &Files, wanted: &Wanted, outputs: &mut [Output]) -> Result<Exported> {
    let Choice { trace_ids, spans, read, .. } = choose(files, wanted);
    let mut exported = Exported { traces: trace_ids.len(), spans, read, notes: Vec::new() };
    // What was written before stays.
    if trace_ids.is_empty() {
        return Ok(exported);
    }
    write_spans(files, wanted, &trace_ids, outputs)?;
    if outputs.iter().any(|output| output.format.needs_traces()) {
        write_traces(files, &trace_ids, outputs, &mut exported)?;
    }
    Output::finish(outputs)?;
    Ok(exported)
}

/// Writes the formats that are made of spans, in the order of the files.
fn write_spans(files: &Files, wanted: &Wanted, trace_ids: &[u128], outputs: &mut [Output]) -> Result<()> {
    let mut outputs: Vec<&mut Output> =
        outputs.iter_mut().filter(|output| !output.format.needs_traces()).collect();
    if outputs.is_empty() {
        return Ok(());
    }
    let traces = (!wanted.are_all()).then(|| trace_ids.iter().copied().collect());
    let filter = Filter { traces, ..Filter::default() };
    let has = |format| outputs.iter().any(|output| output.format == format);
    let (otlp_json, clickhouse) = (has(Format::OtlpJson), has(Format::Clickhouse));
    let mut written = Ok(());
    // The first pass has reported what is wrong with the files.
    let _ = files.read_while(
        &filter,
        move |spans: Spans| {
            let lines = otlp_json.then(|| otlp_json::lines(&spans));
            let rows = clickhouse.then(|| clickhouse::rows(&spans));
            (lines.unwrap_or_default(), rows.unwrap_or_default())
        },
        |(lines, rows)| {
            for output in &mut outputs {
                let lines = if output.format == Format::Clickhouse { &rows } else { &lines };
                if written.is_ok() {
                    written = output.write(|out| out.write_all(lines));
                }
            }
            written.is_ok() && outputs.iter().any(|output| output.is_open())
        },
    );
    written
}

/// What is made of traces, as far as it is needed.
#[derive(Default)]
struct Made {
    stacks: Option<Stacks>,
    perfetto: Option<Perfetto>,
    report: Option<Report>,
    parquet: Option<Parquet>,
}

impl Made {
    fn for_outputs(outputs: &[Output], files: &Files) -> Result<Self> {
        let mut made = Self::default();
        let tables = outputs.iter().filter(|output| output.format == Format::Parquet).count();
        for output in outputs {
            match output.format {
                Format::OtlpJson | Format::Clickhouse => {}
                Format::Folded | Format::FoldedCauses | Format::Flamegraph | Format::FlamegraphCauses => {
                    made.stacks.get_or_insert_default();
                }
                Format::Perfetto => _ = made.perfetto.get_or_insert_default(),
                Format::Parquet if made.parquet.is_none() => {
                    let file = if tables == 1 { output.file()? } else { None };
                    made.parquet = Some(Parquet::new(file)?);
                }
                Format::Parquet => {}
                Format::Html => {
                    made.stacks.get_or_insert_default();
                    made.report.get_or_insert_with(|| Report::new(files.names()));
                }
            }
        }
        Ok(made)
    }

    fn add(&mut self, trace: &Trace<EncodedSpan>, accounts: &Finder<'_>) -> Result<()> {
        if self.stacks.is_some() || self.parquet.is_some() {
            let breakdowns = breakdowns(&trace.spans, accounts);
            self.stacks.iter_mut().for_each(|stacks| stacks.add(trace, &breakdowns));
            self.report.iter_mut().for_each(|report| report.add(trace, &breakdowns));
            self.parquet.iter_mut().try_for_each(|parquet| parquet.add(trace, &breakdowns))?;
        }
        self.perfetto.iter_mut().for_each(|perfetto| perfetto.add(trace));
        Ok(())
    }

    /// Writes a format. `lacks` says what is missing in the files.
    fn write(&mut self, format: Format, lacks: &[String], out: &mut dyn Write) -> io::Result<()> {
        match (format, self) {
            (Format::Folded, Self { stacks: Some(stacks), .. }) => folded::write(stacks, false, out),
            (Format::FoldedCauses, Self { stacks: Some(stacks), .. }) => folded::write(stacks, true, out),
            (Format::Flamegraph, Self { stacks: Some(stacks), .. }) => flamegraph::write(stacks, false, out),
            (Format::FlamegraphCauses, Self { stacks: Some(stacks), .. }) => {
                flamegraph::write(stacks, true, out)
            }
            (Format::Perfetto, Self { perfetto: Some(perfetto), .. }) => perfetto.write(out),
            (Format::Parquet, Self { parquet: Some(parquet), .. }) => parquet.write(out),
            (Format::Html, Self { stacks: Some(stacks), report: Some(report), .. }) => {
                report.write(stacks, lacks, out)
            }
            _ => Ok(()),
        }
    }

    /// What the outputs lack.
    fn left_out(&self) -> impl Iterator<Item = String> {
        let stacks = self.stacks.as_ref().and_then(Stacks::left_out);
        let perfetto = self.perfetto.iter().flat_map(Perfetto::left_out);
        stacks.into_iter().chain(perfetto)
    }
}

/// Writes the formats that are made of traces.
fn write_traces(
    files: &Files,
    trace_ids: &[u128],
    outputs: &mut [Output],
    exported: &mut Exported,
) -> Result<()> {
    let mut made = Made::for_outputs(outputs, files)?;
    let (mut left_out, accounts) = (0, finder());
    let mut added = Ok(());
    let loaded = load(files, trace_ids, |trace| {
        left_out += trace.left_out;
        added = made.add(trace, &accounts);
        added.is_ok()
    });
    added?;
    made.parquet.as_mut().map_or(Ok(()), Parquet::finish)?;
    if let Some(missing) = trace_ids.len().checked_sub(loaded).filter(|missing| *missing > 0) {
        let traces = counted(missing as u64, "trace", "traces");
        exported.notes.push(format!("{traces} could not be read again: was a file changed meanwhile?"));
    }
    if left_out > 0 {
        let spans = counted(left_out, "span", "spans");
        exported.notes.push(format!("left out {spans} of traces that are too large"));
    }
    // The report says by itself what its parts lack.
    let lacks: Vec<String> = exported.notes.iter().cloned().chain(exported.read.lines()).collect();
    let written = outputs.iter_mut().try_for_each(|output| {
        let format = output.format;
        output.write(|out| made.write(format, &lacks, out))
    });
    exported.notes.extend(made.left_out());
    written
}
