//! `spantap view`: shows traces from files. `replay` does so while time passes.

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::cli::{Sort, View};
use super::failed::Failed;
use super::findings::findings;
use super::replay::{follow, replay};
use super::shown::{NONE_MATCHES, Shown, report};
use crate::search::{Files, Order, choose, load};
use crate::terminal::{Screen, Stream};
use crate::text::safe;

/// How many traces are shown on a terminal if the user does not say how many.
const ON_A_TERMINAL: usize = 20;

/// Shows the traces that match.
///
/// # Errors
///
/// When the output fails.
pub(super) fn view(options: View) -> Result<ExitCode> {
    let shown = match options.speed {
        _ if options.follow => follow(&options),
        _ if options.findings.findings => findings(&options),
        Some(speed) => replay(&options, speed),
        None => show(options),
    };
    shown.context(Failed("can't show traces"))
}

fn show(options: View) -> Result<ExitCode> {
    let files = Files::open(&options.files);
    let screen = Screen::new(Stream::Stdout, options.color.into());
    let mut shown_as = Shown::new(&options);
    let mut out = BufWriter::new(io::stdout().lock());
    let default = if io::stdout().is_terminal() { ON_A_TERMINAL } else { 0 };
    let order = match options.sort {
        Sort::Time => Order::Time,
        Sort::Duration => Order::Duration,
    };
    let limit = Some(options.limit.unwrap_or(default)).filter(|limit| *limit > 0);
    let wanted = options.selection.wanted(order, limit);
    let choice = choose(&files, &wanted);

    let mut failed = None;
    let shown = load(&files, &choice.trace_ids, |trace| {
        failed = shown_as.write(&trace.decode(), &screen, &mut out).err();
        failed.is_none()
    });
    match failed.map_or_else(|| out.flush(), Err) {
        // The reader, such as `head`, has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        written => written.context("can't write the traces")?,
    }
    let mut err = io::stderr().lock();
    for line in report(&choice, &wanted, shown).into_iter().chain(files.older()) {
        let _ = writeln!(err, "spantap: {}", safe(&line));
    }
    Ok(match () {
        () if choice.read.is_damaged() => Failed::EXIT_CODE.into(),
        () if shown == 0 => NONE_MATCHES.into(),
        () => ExitCode::SUCCESS,
    })
}
