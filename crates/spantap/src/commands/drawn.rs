//! How `spantap graph` writes a graph, as the user wants it.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::cli::{Graph, GraphBy};
use super::failed::Failed;
use crate::graph::{self, By, CallGraph};
use crate::replacement::Replacement;
use crate::search::Read;
use crate::terminal::{Screen, Stream};
use crate::text::{counted, safe};

const NO_CALLS: u8 = 1;

/// Of a new file. A graph has no more than names.
const MODE: u32 = 0o666;

/// How wide a table in a file may be.
const COLUMNS_OF_FILE: usize = 200;

/// What a node of the graph is.
pub(super) fn by(options: &Graph) -> By {
    match options.by {
        GraphBy::Service => By::Service,
        GraphBy::Span => By::Span,
    }
}

/// Leaves out what the user does not want to see.
pub(super) fn limit(graph: &mut CallGraph, options: &Graph) {
    if options.limit > 0 {
        graph.limit(options.limit);
    }
}

/// The graph in the form that the user wants.
pub(super) fn text(graph: &CallGraph, options: &Graph) -> String {
    let screen = Screen::new(Stream::Stdout, options.color.into());
    match () {
        () if options.dot => graph::dot(graph),
        () if options.mermaid => graph::mermaid(graph),
        () if options.svg => graph::svg(graph),
        () if options.json => graph::json(graph),
        // A header alone would say nothing.
        () if graph.edges.is_empty() => String::new(),
        () if options.output.is_some() => graph::table(graph, COLUMNS_OF_FILE, false),
        () => graph::table(graph, screen.columns(), screen.colour()),
    }
}

/// Writes to a file, which is replaced as a whole, or to stdout.
///
/// # Errors
///
/// When that fails.
pub(super) fn write(text: &[u8], file: Option<&Path>) -> Result<()> {
    let Some(file) = file else {
        let mut out = io::stdout().lock();
        return out.write_all(text).and_then(|()| out.flush()).context("can't write the graph");
    };
    replace(file, text).with_context(|| format!("can't write the graph to {}", file.display()))
}

fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut new = Replacement::of(file, MODE)?;
    new.write_all(text)?;
    new.finish()
}

/// Whether the graph would take the place of one of the files that it is of.
pub(super) fn replaces_its_source(options: &Graph) -> bool {
    let real = |path: &PathBuf| fs::canonicalize(path).ok();
    let output = options.output.as_ref().and_then(real);
    output.is_some() && options.files.iter().any(|file| real(file) == output)
}

/// Whether nobody reads what is written.
pub(super) fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Reports what the user has to know of the calls that are not shown, and returns the exit code.
pub(super) fn report(graph: &CallGraph, read: &Read, more: impl IntoIterator<Item = String>) -> ExitCode {
    let mut err = io::stderr().lock();
    let mut say = |line: String| _ = writeln!(err, "spantap: {}", safe(&line));
    let uncounted = &graph.uncounted;
    let calls = |count| counted(count, "call", "calls");
    let spans = |count| counted(count, "span", "spans");
    // If no file could be read, the reason says enough.
    if graph.edges.is_empty() && (graph.spans > 0 || !read.is_damaged()) {
        say(format!("no call was found, in {}", spans(graph.spans)));
    }
    if uncounted.left_out_edges > 0 {
        let edges = counted(uncounted.left_out_edges, "edge", "edges");
        say(format!("left out {edges} with {}; --limit 0 shows all", calls(uncounted.left_out_calls)));
    }
    if uncounted.beyond_limit > 0 {
        let count = calls(uncounted.beyond_limit);
        say(format!("{count} not counted: there are too many edges. --where chooses some of them"));
    }
    if uncounted.parent_missing > 0 {
        let count = spans(uncounted.parent_missing);
        say(format!("{count} not counted: the parent is in none of the files, or too far away in them"));
    }
    if uncounted.repeated > 0 {
        say(format!("{} not counted again: the files have them more than once", spans(uncounted.repeated)));
    }
    read.lines().into_iter().chain(more).for_each(say);
    match () {
        () if read.is_damaged() => Failed::EXIT_CODE.into(),
        () if graph.edges.is_empty() => NO_CALLS.into(),
        () => ExitCode::SUCCESS,
    }
}
