//! `spantap view --findings`: what is wrong in the traces of files.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::cli::View;
use super::failed::Failed;
use super::shown::{NONE_MATCHES, report};
use crate::findings::{Findings, Found, json, lines};
use crate::search::{Files, Order, choose, load};
use crate::terminal::{Screen, Stream};
use crate::text::{counted, safe};
use crate::trace::{breakdowns, finder};

/// Shows what is wrong in the traces that match.
///
/// # Errors
///
/// When the output fails.
pub(super) fn findings(options: &View) -> Result<ExitCode> {
    let files = Files::open(&options.files);
    let screen = Screen::new(Stream::Stdout, options.color.into());
    let limit = options.limit.filter(|limit| *limit > 0);
    // In the order of time: what is compared are spans of about the same time.
    let wanted = options.selection.wanted(Order::Time, limit);
    let choice = choose(&files, &wanted);
    let (mut findings, accounts, mut left_out) = (Findings::default(), finder(), 0);
    let looked_at = load(&files, &choice.trace_ids, |trace| {
        left_out += trace.left_out;
        findings.add(trace, &breakdowns(&trace.spans, &accounts));
        true
    });
    let found = if options.json { findings.all() } else { findings.found() };
    match write(options, &found, looked_at, &screen) {
        // The reader has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        written => written.context("can't write the findings")?,
    }
    let mut notes = report(&choice, &wanted, looked_at);
    if left_out > 0 {
        notes.push(format!("left out {} of traces that are too large", counted(left_out, "span", "spans")));
    }
    let mut err = io::stderr().lock();
    for line in notes.into_iter().chain(found.lacks).chain(files.older()) {
        let _ = writeln!(err, "spantap: {}", safe(&line));
    }
    Ok(match () {
        () if choice.read.is_damaged() => Failed::EXIT_CODE.into(),
        () if looked_at == 0 => NONE_MATCHES.into(),
        () => ExitCode::SUCCESS,
    })
}

fn write(options: &View, found: &Found, looked_at: usize, screen: &Screen) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    if options.json {
        json(found, &mut out)?;
    } else if looked_at > 0 {
        let paths = options.files.iter().map(|path| shell_word(&path.display().to_string()));
        let open = format!("spantap view {}", paths.collect::<Vec<_>>().join(" "));
        for line in lines(found, &safe(&open), screen.columns(), screen.colour()) {
            writeln!(out, "{line}")?;
        }
    }
    out.flush()
}

/// A word for a shell, in quotes if it needs them.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
