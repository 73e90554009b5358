//! How `spantap view` writes a trace, and its exit code if there is none.

use std::io::{self, Write};

use super::cli::View;
use crate::terminal::Screen;
use crate::trace::Trace;
use crate::view::{self, Look};

pub(super) const NONE_MATCHES: u8 = 1;

/// How traces are drawn on this screen.
pub(super) fn look(screen: &Screen, options: &View) -> Look {
    let mut look = Look::new(screen.columns(), screen.colour());
    look.lines = if options.lines == 0 { usize::MAX } else { options.lines };
    look.begin = true;
    look
}

/// Writes a trace, as the user wants it.
pub(super) fn write(trace: &Trace, options: &View, look: &Look, out: &mut impl Write) -> io::Result<()> {
    match options.json {
        true => view::json(trace, out),
        false => writeln!(out, "{}", view::tree(trace, look)),
    }
}
