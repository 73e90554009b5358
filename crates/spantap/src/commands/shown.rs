//! How `spantap view` writes traces, and its exit code if there is none.

use std::io::{self, Write};

use super::cli::View;
use crate::terminal::Screen;
use crate::trace::Trace;
use crate::view::{self, Look};

pub(super) const NONE_MATCHES: u8 = 1;

/// Writes traces as the user wants them.
pub(super) struct Shown<'a> {
    options: &'a View,
    is_first: bool,
}

impl<'a> Shown<'a> {
    pub(super) fn new(options: &'a View) -> Self {
        Self { options, is_first: true }
    }

    /// Writes a trace, in the width that the screen has now.
    pub(super) fn write(&mut self, trace: &Trace, screen: &Screen, out: &mut impl Write) -> io::Result<()> {
        let View { json, lines, critical_path, .. } = *self.options;
        if json {
            return view::json(trace, out);
        }
        let mut look = Look::new(screen.columns(), screen.colour());
        look.lines = if lines == 0 { usize::MAX } else { lines };
        look.begin = true;
        look.critical_path = critical_path;
        if std::mem::take(&mut self.is_first) && critical_path {
            writeln!(out, "{}", view::path_legend(&look))?;
        }
        writeln!(out, "{}", view::tree(trace, &look))
    }
}
