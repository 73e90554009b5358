//! `spantap graph --follow` and `spantap graph --speed`: shows a graph while it grows.

use std::cell::RefCell;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::cli::Graph;
use super::drawn::{by, is_closed, limit, report, text, write};
use super::replay::{POLL, stop_on_signals};
use crate::capture::{Filter, Pace};
use crate::graph::Growing;
use crate::search::{Files, Read, Replay, Tail};
use crate::terminal::{Screen, Stream};
use crate::text::{counted, safe};
use crate::trace::EncodedSpan;

/// How often the graph is shown at most.
const PERIOD: Duration = Duration::from_secs(1);

/// Control sequences: to the first place of the screen, and to clear from the cursor to the end of the line or the screen.
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K\n";
const END_OF_SCREEN: &str = "\x1b[J";
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows the graph of files while they are written, until a signal asks for the end.
///
/// # Errors
///
/// When the output fails.
pub(super) fn follow(options: &Graph) -> Result<ExitCode> {
    let stop = stop_on_signals()?;
    // Those that a recorder renames from now on are read.
    let older = Files::open(&options.files).older();
    let mut tail = Tail::open(&options.files, &Filter::default(), Filter::default());
    if !tail.is_over() {
        // At the end may be too late to know that a file is missing in the graph.
        let mut err = io::stderr().lock();
        for line in older.into_iter().chain(tail.not_read()) {
            let _ = writeln!(err, "spantap: {}", safe(&line));
        }
    }
    let mut shown = Shown::new(options);
    while !stop() && shown.failed.is_none() && !tail.is_over() {
        let has_more = tail.read_some(|span| shown.add(&span));
        shown.show_if_due(!has_more);
        if !has_more {
            sleep(POLL);
        }
    }
    let mut read = tail.end();
    // The end of a file that is still written may not be whole.
    read.forgive_tails();
    shown.end(&read, [])
}

/// Shows the graph of files as it grew, at `speed` times the speed with which they were recorded.
///
/// # Errors
///
/// When the output fails.
pub(super) fn replay(options: &Graph, speed: f64) -> Result<ExitCode> {
    let stop = stop_on_signals()?;
    let files = Files::open(&options.files);
    let (mut pace, mut spans) = (Pace::new(speed), Replay::new(&files, &Filter::default()));
    let shown = RefCell::new(Shown::new(options));
    // Also in a pause, what came before it is shown.
    let ends = || {
        shown.borrow_mut().show_if_due(true);
        stop() || shown.borrow().failed.is_some()
    };
    for arrived in spans.by_ref() {
        if !pace.wait_until(arrived.at_ns, &ends) {
            break;
        }
        shown.borrow_mut().add(&arrived.span);
    }
    shown.into_inner().end(spans.read(), files.older())
}

/// A graph and how it was shown last.
struct Shown<'a> {
    options: &'a Graph,
    screen: Screen,
    graph: Growing,
    /// Whether spans have come since it was shown.
    has_changed: bool,
    /// `None` before it was shown.
    next: Option<Instant>,
    failed: Option<anyhow::Error>,
}

impl<'a> Shown<'a> {
    fn new(options: &'a Graph) -> Self {
        let graph = Growing::new(by(options), options.query.clone());
        let screen = Screen::new(Stream::Stdout, options.color.into());
        Self { options, screen, graph, has_changed: false, next: None, failed: None }
    }

    fn add(&mut self, span: &EncodedSpan) {
        self.graph.add(span);
        self.has_changed = true;
    }

    /// Shows it if it has changed and was not shown lately. `has_all` says whether all that is there is read: nobody wants to
    /// see the half of it, except if more comes all the time.
    fn show_if_due(&mut self, has_all: bool) {
        let begin = Instant::now();
        let is_due = match self.next {
            None => has_all,
            Some(next) => next <= begin && (has_all || next + PERIOD <= begin),
        };
        if !is_due || !self.has_changed || self.failed.is_some() {
            return;
        }
        self.has_changed = false;
        let mut graph = self.graph.so_far();
        limit(&mut graph, self.options);
        let mut text = text(&graph, self.options);
        if self.is_redrawn() {
            text = frame(&text, self.screen.rows().unwrap_or(usize::MAX), self.next.is_none());
        }
        self.write(&text);
        // At most a tenth of the time goes into showing.
        self.next = Some(Instant::now() + PERIOD.max(9 * begin.elapsed()));
    }

    /// Whether a table takes the place of the one before, on a terminal.
    fn is_redrawn(&self) -> bool {
        let Graph { json, output, .. } = self.options;
        self.screen.has_status() && !json && output.is_none()
    }

    fn write(&mut self, text: &str) {
        let Graph { json, output, .. } = self.options;
        let is_table = !json && output.is_none() && !self.screen.has_status() && !text.is_empty();
        // One table after the other.
        let gap = if is_table && self.next.is_some() { "\n" } else { "" };
        self.failed = write(format!("{gap}{text}").as_bytes(), output.as_deref()).err();
    }

    fn end(mut self, read: &Read, more: impl IntoIterator<Item = String>) -> Result<ExitCode> {
        let mut graph = self.graph.so_far();
        limit(&mut graph, self.options);
        let is_redrawn = self.is_redrawn();
        // If nothing could be read, an earlier picture stays.
        let has_read = graph.spans > 0 || !read.is_damaged();
        if self.failed.is_none() && has_read && (self.has_changed || self.next.is_none() || is_redrawn) {
            // The last frame may be a part of the table.
            let clear = if is_redrawn && self.next.is_some() { CLEAR } else { "" };
            self.write(&format!("{clear}{}", text(&graph, self.options)));
        }
        match self.failed {
            // The reader, such as `head`, has seen enough.
            Some(error) if is_closed(&error) => Ok(ExitCode::SUCCESS),
            Some(error) => Err(error),
            None => Ok(report(&graph, read, more)),
        }
    }
}

/// A table as a frame of a screen with so many rows. The edges with the most time come first, and the rest is counted.
fn frame(table: &str, rows: usize, is_first: bool) -> String {
    let (room, all) = (rows.saturating_sub(1), table.lines().count());
    let shown = if all > room { room.saturating_sub(1) } else { all };
    let mut frame = if is_first { CLEAR } else { HOME }.to_owned();
    for line in table.lines().take(shown) {
        frame.extend([line, END_OF_LINE]);
    }
    if shown < all {
        let more = counted((all - shown) as u64, "more edge", "more edges");
        frame.extend([&*format!("… {more}"), END_OF_LINE]);
    }
    frame + END_OF_SCREEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_too_long_says_how_much_is_missing() {
        let table = "from to\na b\nb c\nc d\n";
        assert_eq!(
            frame(table, 5, true),
            "\x1b[H\x1b[Jfrom to\x1b[K\na b\x1b[K\nb c\x1b[K\nc d\x1b[K\n\x1b[J"
        );
        assert_eq!(frame(table, 4, false), "\x1b[Hfrom to\x1b[K\na b\x1b[K\n… 2 more edges\x1b[K\n\x1b[J");
        assert_eq!(frame(table, 1, false), "\x1b[H… 4 more edges\x1b[K\n\x1b[J");
    }
}
