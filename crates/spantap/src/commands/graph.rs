//! `spantap graph`: shows who calls whom in files of spans.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::cli::Graph;
use super::drawn::{by, is_closed, limit, replaces_its_source, report, text, write};
use super::failed::Failed;
use super::growing;
use super::signals::Blocked;
use crate::graph;
use crate::replacement::abandon_all;
use crate::search::Files;

/// Shows who calls whom.
///
/// # Errors
///
/// When the output fails.
pub(super) fn graph(options: Graph) -> Result<ExitCode> {
    show(&options).context(Failed("can't show who calls whom"))
}

fn show(options: &Graph) -> Result<ExitCode> {
    let is_picture = options.dot || options.mermaid || options.svg;
    if (options.follow || options.speed.is_some()) && is_picture && options.output.is_none() {
        bail!("--follow and --speed make many pictures; --output FILE writes each of them to the same file");
    }
    if replaces_its_source(options) {
        bail!("--output is one of the files to read; choose another");
    }
    if options.follow {
        return growing::follow(options);
    }
    match options.speed {
        Some(speed) => growing::replay(options, speed),
        None => show_once(options),
    }
}

fn show_once(options: &Graph) -> Result<ExitCode> {
    if options.output.is_some() {
        // A picture that is not finished is removed also when a signal ends the process.
        Blocked::ending()?.read()?.end_after(abandon_all)?;
    }
    let files = Files::open(&options.files);
    let mut found = graph::read(&files, by(options), options.query.clone());
    limit(&mut found.graph, options);
    // If nothing could be read, an earlier picture stays.
    if found.graph.spans > 0 || !found.read.is_damaged() {
        match write(text(&found.graph, options).as_bytes(), options.output.as_deref()) {
            // The reader, such as `head`, has seen enough.
            Err(error) if is_closed(&error) => return Ok(ExitCode::SUCCESS),
            written => written?,
        }
    }
    Ok(report(&found.graph, &found.read, files.older()))
}
