//! `spantap export`: writes the spans of files in formats that other programs open.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::cli::Export;
use super::failed::Failed;
use super::shown::NONE_MATCHES;
use super::signals::Blocked;
use crate::export::{Exported, Output, export};
use crate::replacement::abandon_all;
use crate::search::{Files, Order};
use crate::text::{counted, safe};

/// Writes the spans to all targets.
///
/// # Errors
///
/// When a target can't be written.
pub(super) fn write(options: &Export) -> Result<ExitCode> {
    write_all(options).context(Failed("can't export spans"))
}

fn write_all(options: &Export) -> Result<ExitCode> {
    // A file that is not finished is removed also when a signal ends the process.
    Blocked::ending()?.read()?.end_after(abandon_all)?;
    let files = Files::open(&options.files);
    let mut outputs = Output::open(&options.to, &files)?;
    let wanted = options.selection.wanted(Order::Time, None);
    let exported = export(&files, &wanted, &mut outputs)?;
    let mut err = io::stderr().lock();
    for line in report(&exported).into_iter().chain(files.older()) {
        let _ = writeln!(err, "spantap: {}", safe(&line));
    }
    Ok(match () {
        () if exported.read.is_damaged() => Failed::EXIT_CODE.into(),
        () if exported.traces == 0 => NONE_MATCHES.into(),
        () => ExitCode::SUCCESS,
    })
}

/// What the user has to know of the spans that were not written.
fn report(exported: &Exported) -> Vec<String> {
    let mut lines = Vec::new();
    // If no file could be read, the reason says enough.
    if exported.traces == 0 && (exported.spans > 0 || !exported.read.is_damaged()) {
        let spans = counted(exported.spans, "span", "spans");
        lines.push(format!("no trace matches, among {spans}"));
    }
    lines.extend(exported.notes.iter().cloned());
    lines.extend(exported.read.lines());
    lines
}
