//! `spantap view`: shows traces from files. `replay` does so while time passes.

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::cli::{Sort, View};
use super::failed::Failed;
use super::replay::{follow, replay};
use super::shown::{NONE_MATCHES, Shown};
use crate::search::{Choice, Files, Order, Wanted, choose, load};
use crate::terminal::{Screen, Stream};
use crate::text::{counted, grouped, safe};

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

/// What the user has to know of the traces that are not shown.
fn report(choice: &Choice, wanted: &Wanted, shown: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if choice.trace_ids.is_empty() && choice.spans == 0 && choice.read.is_damaged() {
        // If no file could be read, the reason says enough.
    } else if choice.trace_ids.is_empty() {
        lines.push(match (&*wanted.trace_ids, &wanted.query) {
            ([id], None) => format!("no span of trace {id:032x} was found"),
            ([_, ..], None) => "no span of these traces was found".to_owned(),
            _ => format!("no trace matches, among {}", counted(choice.spans, "span", "spans")),
        });
    } else if choice.trace_ids.len() < choice.matching {
        let [shown, all] = [shown, choice.matching].map(|traces| grouped(traces as u64));
        lines.push(format!("showed {shown} of {all} traces; --limit 0 shows all"));
    } else if wanted.query.is_none() {
        let missing = wanted.trace_ids.iter().filter(|id| !choice.trace_ids.contains(id));
        lines.extend(missing.map(|id| format!("no span of trace {id:032x} was found")));
    }
    if let Some(missing) = choice.trace_ids.len().checked_sub(shown).filter(|missing| *missing > 0) {
        let traces = counted(missing as u64, "trace", "traces");
        lines.push(format!("{traces} could not be read again: was a file changed meanwhile?"));
    }
    lines.extend(choice.read.lines());
    lines
}
