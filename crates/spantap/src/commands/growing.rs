//! `spantap graph --follow` and `spantap graph --speed`: shows a graph while it grows.

use std::cell::RefCell;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::cli::Graph;
use super::drawn::{by, is_closed, limit, report, text, write};
use super::replay::{POLL, stop_on_signals};
use crate::capture::{Filter, Pace};
use crate::graph::{CallGraph, Growing};
use crate::search::{Files, Read, Replay, Tail};
use crate::terminal::{Screen, Stream};

/// How often the graph is shown at most.
const PERIOD: Duration = Duration::from_secs(1);

/// Moves the cursor to the first line, and clears the screen.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Shows the graph of files while they are written, until a signal asks for the end.
///
/// # Errors
///
/// When the output fails.
pub(super) fn follow(options: &Graph) -> Result<ExitCode> {
    let stop = stop_on_signals()?;
    let mut tail = Tail::open(&options.files, &Filter::default(), Filter::default());
    let mut shown = Shown::new(options);
    while !stop() && shown.failed.is_none() && !tail.is_over() {
        let has_more = tail.read_some(|span| shown.graph.add(&span));
        shown.has_changed |= has_more;
        shown.show_if_due();
        if !has_more {
            shown.first_is_due();
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
        shown.borrow_mut().show_if_due();
        stop() || shown.borrow().failed.is_some()
    };
    for arrived in spans.by_ref() {
        if !pace.wait_until(arrived.at_ns, &ends) {
            break;
        }
        let mut shown = shown.borrow_mut();
        shown.graph.add(&arrived.span);
        shown.has_changed = true;
    }
    shown.into_inner().end(spans.read(), files.older())
}

/// A graph and how it was shown last.
struct Shown<'a> {
    options: &'a Graph,
    graph: Growing,
    /// Whether spans have come since it was shown.
    has_changed: bool,
    due: Instant,
    was_shown: bool,
    failed: Option<anyhow::Error>,
}

impl<'a> Shown<'a> {
    fn new(options: &'a Graph) -> Self {
        let graph = Growing::new(by(options), options.query.clone());
        Self {
            options,
            graph,
            has_changed: false,
            due: Instant::now() + PERIOD,
            was_shown: false,
            failed: None,
        }
    }

    fn show_if_due(&mut self) {
        let now = Instant::now();
        if self.has_changed && now >= self.due && self.failed.is_none() {
            self.show();
            self.due = now + PERIOD;
        }
    }

    /// All that was there is read.
    fn first_is_due(&mut self) {
        if !self.was_shown {
            self.due = Instant::now();
            self.show_if_due();
        }
    }

    fn show(&mut self) -> CallGraph {
        (self.has_changed, self.was_shown) = (false, true);
        let mut graph = self.graph.so_far();
        limit(&mut graph, self.options);
        let Graph { json, output, .. } = self.options;
        let mut text = text(&graph, self.options);
        if output.is_none() && !json {
            text = match Screen::new(Stream::Stdout, self.options.color.into()).rows() {
                // The edges with the most time come first.
                Some(rows) => text
                    .lines()
                    .take(rows.saturating_sub(1))
                    .fold(CLEAR.to_owned(), |screen, line| screen + line + "\n"),
                // One table after the other.
                None => text + "\n",
            };
        }
        self.failed = write(text.as_bytes(), output.as_deref()).err();
        graph
    }

    fn end(mut self, read: &Read, more: impl IntoIterator<Item = String>) -> Result<ExitCode> {
        let graph = match self.failed {
            None => self.show(),
            Some(_) => self.graph.so_far(),
        };
        match self.failed {
            // The reader, such as `head`, has seen enough.
            Some(error) if is_closed(&error) => Ok(ExitCode::SUCCESS),
            Some(error) => Err(error),
            None => Ok(report(&graph, read, more)),
        }
    }
}
