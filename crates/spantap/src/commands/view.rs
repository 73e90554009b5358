//! `spantap view`: shows traces from files.

use std::fmt;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::cli::{Sort, View};
use crate::search::{Choice, Files, Order, Unread, Wanted, choose, load};
use crate::terminal::{Screen, Stream};
use crate::text::{counted, grouped, safe};
use crate::view::{self, Look};

/// How many traces are shown on a terminal if the user does not say how many.
const ON_A_TERMINAL: usize = 20;

const NONE_MATCHES: u8 = 1;
const DAMAGED: u8 = 2;

/// Marks an error of this command, whose exit code differs from that of other commands, because 1 means that no trace
/// matches, as for `grep`.
#[derive(Debug)]
pub(super) struct Failed;

impl Failed {
    pub(super) const EXIT_CODE: u8 = DAMAGED;
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("can't show traces")
    }
}

/// Shows the traces that match.
///
/// # Errors
///
/// When a file or the output fails.
pub(super) fn view(options: View) -> Result<ExitCode> {
    show(options).context(Failed)
}

fn show(options: View) -> Result<ExitCode> {
    let View { files, query, trace_ids, sort, limit, lines, json, color } = options;
    let files = Files::new(files);
    let screen = Screen::new(Stream::Stdout, color.into());
    let default = if io::stdout().is_terminal() { ON_A_TERMINAL } else { 0 };
    let limit = Some(limit.unwrap_or(default)).filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let order = match sort {
        Sort::Time => Order::Time,
        Sort::Duration => Order::Duration,
    };
    let wanted = Wanted { query, trace_ids, order, limit };
    let choice = choose(&files, &wanted)?;

    let mut look = Look::new(screen.columns(), screen.colour());
    look.lines = if lines == 0 { usize::MAX } else { lines };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut failed = None;
    load(&files, &choice.trace_ids, |trace| {
        let written = match json {
            true => writeln!(out, "{}", view::json(trace)),
            false => writeln!(out, "{}", view::tree(trace, &look)),
        };
        failed = written.err();
        failed.is_none()
    })?;
    match failed.map_or_else(|| out.flush(), Err) {
        // The reader, such as `head`, has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        written => written.context("can't write the traces")?,
    }
    report(&choice, &wanted);
    Ok(match () {
        () if choice.unread.iter().any(Unread::is_damaged) => DAMAGED.into(),
        () if choice.trace_ids.is_empty() => NONE_MATCHES.into(),
        () => ExitCode::SUCCESS,
    })
}

/// What the user has to know of the traces that are not shown.
fn report(choice: &Choice, wanted: &Wanted) {
    let mut err = io::stderr().lock();
    let mut say = |line: String| _ = writeln!(err, "spantap: {}", safe(&line));
    let shown = choice.trace_ids.len();
    if shown == 0 {
        say(format!("no trace matches, of {}", counted(choice.spans, "span", "spans")));
    } else if shown < choice.matching {
        let more = if choice.matching_more { "more than " } else { "" };
        say(format!(
            "showed {} of {more}{} traces; --limit 0 shows all",
            grouped(shown as u64),
            grouped(choice.matching as u64)
        ));
    }
    let is_there = |id: &u128| choice.trace_ids.contains(id);
    if wanted.query.is_none() && shown < wanted.limit && shown > 0 {
        for id in wanted.trace_ids.iter().filter(|id| !is_there(id)) {
            say(format!("trace {id:032x} is in none of the files"));
        }
    }
    if choice.lost_by_senders > 0 {
        let spans = counted(choice.lost_by_senders, "span", "spans");
        say(format!("{spans} are missing: the programs reported them as lost"));
    }
    for unread in &choice.unread {
        say(format!("{}: {}", unread.path.display(), unread.damage));
    }
}
