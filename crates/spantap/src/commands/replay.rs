//! `spantap view --speed` and `spantap view --follow`: shows traces when they come, or as they came when they were recorded.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::cli::{Selection, View};
use super::failed::Failed;
use super::shown::{NONE_MATCHES, Shown};
use super::signals::Blocked;
use crate::capture::{Filter, Pace};
use crate::query::Query;
use crate::search::{BEFORE, Files, Order, Read, Replay, Tail, choose, is_chosen};
use crate::terminal::{Screen, Stream};
use crate::text::{counted, safe, time_ago};
use crate::trace::{Assembly, EncodedSpan, Limits, Trace};

/// How often files are looked at for more.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// Shows the traces of files at `speed` times the speed with which they were recorded.
///
/// # Errors
///
/// When the output fails.
pub(super) fn replay(options: &View, speed: f64) -> Result<ExitCode> {
    let stop = stop_on_signals()?;
    let files = Files::open(&options.files);
    let filter = chosen(options, &files);
    let mut output = Output::new(options, None);
    let mut assembly = Assembly::new(Limits::default());
    let (mut pace, mut spans) = (Pace::new(speed), Replay::new(&files, &filter));
    // The assembly waits in recorded time: so at each speed, traces are shown as they were then.
    let start = Instant::now();
    let (mut first_ns, mut latest_ns) = (None, 0);
    for arrived in spans.by_ref() {
        let first_ns = *first_ns.get_or_insert(arrived.at_ns);
        // A time before an earlier one is that of a clock that was set back.
        latest_ns = arrived.at_ns.max(latest_ns);
        let at = |ns: u64| start + Duration::from_nanos(ns.saturating_sub(first_ns));
        while let Some(due) = assembly.next_due().filter(|due| *due <= at(latest_ns)) {
            let due_ns = u64::try_from(due.saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX);
            if !pace.wait_until(first_ns.saturating_add(due_ns), &stop) {
                break;
            }
            assembly.due(due, &mut |trace| output.show(trace));
        }
        if output.has_failed() || !pace.wait_until(latest_ns, &stop) {
            break;
        }
        assembly.add(arrived.span, at(latest_ns), &mut |trace| output.show(trace));
    }
    let end = start + Duration::from_nanos(latest_ns.saturating_sub(first_ns.unwrap_or(0)));
    assembly.finish(end, &mut |trace| output.show(trace));
    let lines = none_matches(options, output.shown, spans.spans(), spans.read());
    output.end(spans.read(), lines.into_iter().chain(files.older()))
}

/// Selects the spans of the traces that the options choose, as `view` does: all spans of each of them.
fn chosen(options: &View, files: &Files) -> Filter {
    let Selection { query, trace_ids, since, until } = &options.selection;
    if query.is_none() && since.is_none() && until.is_none() {
        let traces = (!trace_ids.is_empty()).then(|| trace_ids.iter().copied().collect());
        return Filter { traces, ..Filter::default() };
    }
    let choice = choose(files, &options.selection.wanted(Order::Time, None));
    let traces = choice.trace_ids.into_iter().collect();
    Filter { traces: Some(traces), ..Filter::default() }
}

/// Shows the traces that are added to files, until a signal asks for the end.
///
/// # Errors
///
/// When the output fails.
pub(super) fn follow(options: &View) -> Result<ExitCode> {
    let stop = stop_on_signals()?;
    let traces = (!options.selection.trace_ids.is_empty())
        .then(|| options.selection.trace_ids.iter().copied().collect());
    let later = Filter { traces, since_ns: options.selection.since.unwrap_or(0), ..Filter::default() };
    let first =
        Filter { since_ns: options.selection.since.unwrap_or_else(|| time_ago(BEFORE)), ..later.clone() };
    let mut tail = Tail::open(&options.files, &first, later);
    let mut output = Output::new(options, options.selection.query.clone());
    let mut assembly = Assembly::new(Limits::default());
    let mut spans = 0;
    while !stop() && !output.has_failed() && !tail.is_over() {
        let has_more = tail.read_some(|span| {
            spans += 1;
            assembly.add(span, Instant::now(), &mut |trace| output.show(trace));
        });
        assembly.due(Instant::now(), &mut |trace| output.show(trace));
        if !has_more {
            sleep(POLL);
        }
    }
    assembly.finish(Instant::now(), &mut |trace| output.show(trace));
    let mut read = tail.end();
    // The end of a file that is still written may not be whole.
    read.forgive_tails();
    let lines = none_matches(options, output.shown, spans, &read);
    output.end(&read, lines)
}

/// A line if no trace was shown. If no file could be read, the reason says enough.
fn none_matches(options: &View, shown: u64, spans: u64, read: &Read) -> Option<String> {
    if shown > 0 || (spans == 0 && read.is_damaged()) {
        return None;
    }
    let spans = counted(spans, "span", "spans");
    Some(match options.selection.query.is_none() && options.selection.trace_ids.is_empty() {
        true => format!("no trace was shown, of {spans}"),
        false => format!("no trace matches, among {spans}"),
    })
}

/// Whether a signal has asked spantap to end. A second signal ends it at once.
///
/// # Errors
///
/// When the kernel refuses.
pub(super) fn stop_on_signals() -> Result<impl Fn() -> bool> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    Blocked::ending()?.read()?.on_first(move || set.store(true, Ordering::Relaxed))?;
    Ok(move || stop.load(Ordering::Relaxed))
}

/// Writes traces as they come.
struct Output<'a> {
    shown_as: Shown<'a>,
    screen: Screen,
    out: BufWriter<io::Stdout>,
    query: Option<Query>,
    shown: u64,
    failed: Option<io::Error>,
}

impl<'a> Output<'a> {
    /// Shows only traces with a span that `query` chooses.
    fn new(options: &'a View, query: Option<Query>) -> Self {
        let screen = Screen::new(Stream::Stdout, options.color.into());
        Self {
            shown_as: Shown::new(options),
            screen,
            out: BufWriter::new(io::stdout()),
            query,
            shown: 0,
            failed: None,
        }
    }

    fn show(&mut self, trace: &Trace<EncodedSpan>) {
        if self.has_failed() || !self.query.as_ref().is_none_or(|query| is_chosen(trace, query)) {
            return;
        }
        self.shown += 1;
        let written = self.shown_as.write(&trace.decode(), &self.screen, &mut self.out);
        self.failed = written.and_then(|()| self.out.flush()).err();
    }

    fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Reports what the user has to know at the end, and returns the exit code.
    fn end(self, read: &Read, lines: impl IntoIterator<Item = String>) -> Result<ExitCode> {
        match self.failed {
            // The reader, such as `head`, has seen enough.
            Some(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            Some(error) => return Err(error).context("can't write the traces"),
            None => {}
        }
        let mut err = io::stderr().lock();
        for line in lines.into_iter().chain(read.lines()) {
            let _ = writeln!(err, "spantap: {}", safe(&line));
        }
        Ok(match () {
            () if read.is_damaged() => Failed::EXIT_CODE.into(),
            () if self.shown == 0 => NONE_MATCHES.into(),
            () => ExitCode::SUCCESS,
        })
    }
}
