//! `spantap graph`: shows who calls whom in files of spans.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::cli::{Graph, GraphBy};
use super::failed::Failed;
use crate::graph::{self, By, Found};
use crate::search::Files;
use crate::terminal::{Screen, Stream};
use crate::text::{counted, safe};

const NO_CALLS: u8 = 1;

/// Shows who calls whom.
///
/// # Errors
///
/// When the output fails.
pub(super) fn graph(options: Graph) -> Result<ExitCode> {
    show(options).context(Failed("can't show who calls whom"))
}

fn show(options: Graph) -> Result<ExitCode> {
    let by = match options.by {
        GraphBy::Service => By::Service,
        GraphBy::Span => By::Span,
    };
    let files = Files::open(&options.files);
    let mut found = graph::read(&files, by, options.query);
    if options.limit > 0 {
        found.graph.limit(options.limit);
    }
    let screen = Screen::new(Stream::Stdout, options.color.into());
    let text = match () {
        () if options.dot => graph::dot(&found.graph),
        () if options.mermaid => graph::mermaid(&found.graph),
        () if options.svg => graph::svg(&found.graph),
        () if options.json => graph::json(&found.graph),
        // A header alone would say nothing.
        () if found.graph.edges.is_empty() => String::new(),
        () => graph::table(&found.graph, screen.columns(), screen.colour()),
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader, such as `head`, has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        written => written.context("can't write the graph")?,
    }
    report(&found, &files);
    Ok(match () {
        () if found.read.is_damaged() => Failed::EXIT_CODE.into(),
        () if found.graph.edges.is_empty() => NO_CALLS.into(),
        () => ExitCode::SUCCESS,
    })
}

/// What the user has to know of the calls that are not shown.
fn report(found: &Found, files: &Files) {
    let mut err = io::stderr().lock();
    let mut say = |line: String| _ = writeln!(err, "spantap: {}", safe(&line));
    let (graph, uncounted) = (&found.graph, &found.graph.uncounted);
    let calls = |count| counted(count, "call", "calls");
    let spans = |count| counted(count, "span", "spans");
    // If no file could be read, the reason says enough.
    if graph.edges.is_empty() && (graph.spans > 0 || !found.read.is_damaged()) {
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
    found.read.lines().into_iter().chain(files.older()).for_each(say);
}
