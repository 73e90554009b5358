//! The only writer to the terminal. Writes blocks of lines, and keeps a status line below them where no other program
//! writes to the terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anstream::ColorChoice;

use crate::text::{counted, cut};

/// The stream for traces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// Traces are the program's output.
    Stdout,
    /// stdout belongs to another program.
    Stderr,
}

/// Writes text for the user, from any thread.
pub struct Screen {
    stream: Stream,
    terminal: bool,
    colour: bool,
    status: Mutex<String>,
    /// The lines that wait while a full screen is shown.
    held: Mutex<Option<Vec<String>>>,
    /// How many notices there were beyond [`MAX_HELD`].
    not_held: AtomicU64,
}

/// The width for a pipe or a file, if `COLUMNS` is not set.
const DEFAULT_COLUMNS: usize = 100;

/// The most notices that are held back.
const MAX_HELD: usize = 10_000;

/// Moves the cursor to the first column and clears the line.
const CLEAR: &str = "\r\x1b[K";

impl Screen {
    /// Writes to `stream`. With [`ColorChoice::Auto`], uses colours on a terminal, unless `NO_COLOR` is set or `TERM` is
    /// `dumb`.
    pub fn new(stream: Stream, colour: ColorChoice) -> Self {
        let (terminal, by_default) = match stream {
            Stream::Stdout => (io::stdout().is_terminal(), anstream::AutoStream::choice(&io::stdout())),
            Stream::Stderr => (io::stderr().is_terminal(), anstream::AutoStream::choice(&io::stderr())),
        };
        let colour = match colour {
            ColorChoice::Auto => by_default != ColorChoice::Never,
            ColorChoice::Never => false,
            ColorChoice::Always | ColorChoice::AlwaysAnsi => true,
        };
        Self {
            stream,
            terminal,
            colour,
            status: Mutex::default(),
            held: Mutex::default(),
            not_held: AtomicU64::new(0),
        }
    }

    /// Whether the stream is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether a status line is possible. Like colours, it takes control sequences.
    pub fn has_status(&self) -> bool {
        self.terminal && self.colour
    }

    /// Whether to use colours.
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// The current width of the terminal; without a terminal, the value of `COLUMNS`.
    pub fn columns(&self) -> usize {
        let variable = || std::env::var("COLUMNS").ok()?.parse().ok();
        self.size().map(|(width, _)| usize::from(width.0)).or_else(variable).unwrap_or(DEFAULT_COLUMNS)
    }

    /// The current height of the terminal; `None` without a terminal.
    pub fn rows(&self) -> Option<usize> {
        self.size().map(|(_, height)| usize::from(height.0))
    }

    fn size(&self) -> Option<(terminal_size::Width, terminal_size::Height)> {
        match self.stream {
            Stream::Stdout => terminal_size::terminal_size_of(io::stdout()),
            Stream::Stderr => terminal_size::terminal_size_of(io::stderr()),
        }
    }

    /// Writes whole lines to the stream. Ignores errors: forwarding goes on when the reader of the output has left.
    pub fn print(&self, lines: &str) {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(lines, &status);
    }

    /// Holds back all notices until [`release`](Self::release): another part has the terminal.
    pub fn hold(&self) {
        self.held().get_or_insert_default();
    }

    /// The notices that are held back.
    pub fn held_notices(&self) -> Vec<String> {
        self.held().clone().unwrap_or_default()
    }

    /// Writes what was held back.
    pub fn release(&self) {
        let held = self.held().take();
        held.into_iter().flatten().for_each(|lines| self.print_notice(&lines));
        let more = self.not_held.swap(0, Ordering::Relaxed);
        if more > 0 {
            let notices = counted(more, "more notice", "more notices");
            self.print_notice(&format!("spantap: and {notices}, for which there was no room\n"));
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes whole lines to stderr, above the status line.
    pub fn print_notice(&self, lines: &str) {
        if let Some(held) = &mut *self.held() {
            match held.len() < MAX_HELD {
                true => held.push(lines.to_owned()),
                false => _ = self.not_held.fetch_add(1, Ordering::Relaxed),
            }
            return;
        }
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if !status.is_empty() {
            self.raw(CLEAR);
        }
        let _ = io::stderr().lock().write_all(lines.as_bytes());
        self.raw(&status);
    }

    /// Replaces the status line, if there is one.
    pub fn status(&self, line: &str) {
        if !self.has_status() {
            return;
        }
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        // Some terminals wrap when the last column is written.
        *status = cut(line, self.columns().saturating_sub(1));
        if status.is_empty() {
            self.raw(CLEAR);
        } else {
            self.write("", &status);
        }
    }

    fn write(&self, lines: &str, status: &str) {
        if status.is_empty() {
            self.raw(lines);
        } else {
            self.raw(&format!("{CLEAR}{lines}{status}"));
        }
    }

    fn raw(&self, text: &str) {
        let _ = match self.stream {
            Stream::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
            Stream::Stderr => io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}
