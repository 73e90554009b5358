//! The one writer to the terminal: blocks of lines, and below them, where it is a terminal of our own,
//! a status line that is drawn anew.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use anstream::ColorChoice;

use crate::view::cut;

/// Where to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// What was asked for.
    Stdout,
    /// Beside the output of another program.
    Stderr,
}

/// Text for the user, from any thread.
pub struct Screen {
    stream: Stream,
    terminal: bool,
    colour: bool,
    status: Mutex<String>,
}

/// Where nobody says how wide it is: a pipe, a file.
const COLUMNS_OF_A_FILE: usize = 100;

/// Back to the first column, and clear the line.
const CLEAR: &str = "\r\x1b[K";

impl Screen {
    /// Writes to `stream`, in colour as `colour` says: by default on a terminal, unless `NO_COLOR` is
    /// set or `TERM` is `dumb`.
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
        Self { stream, terminal, colour, status: Mutex::default() }
    }

    /// Somebody looks.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether there can be a line that is drawn anew: by control sequences, like colours.
    pub fn has_status(&self) -> bool {
        self.terminal && self.colour
    }

    /// Colours are wanted.
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// As wide as the terminal is now; `COLUMNS` says it where there is none.
    pub fn columns(&self) -> usize {
        let size = match self.stream {
            Stream::Stdout => terminal_size::terminal_size_of(io::stdout()),
            Stream::Stderr => terminal_size::terminal_size_of(io::stderr()),
        };
        let said = || std::env::var("COLUMNS").ok()?.parse().ok();
        size.map(|(width, _)| usize::from(width.0)).or_else(said).unwrap_or(COLUMNS_OF_A_FILE)
    }

    /// Writes whole lines. What can't be written is of no use to anybody: a reader that has gone
    /// doesn't end the forwarding.
    pub fn print(&self, lines: &str) {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(lines, &status);
    }

    /// Writes whole lines beside what was asked for: to stderr.
    pub fn tell(&self, lines: &str) {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if !status.is_empty() {
            self.raw(CLEAR);
        }
        let _ = io::stderr().lock().write_all(lines.as_bytes());
        self.raw(&status);
    }

    /// Replaces the status line, where there is one.
    pub fn status(&self, line: &str) {
        if !self.has_status() {
            return;
        }
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        // One column less: in the last one, some terminals go on to the next line.
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
