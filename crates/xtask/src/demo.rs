//! `cargo xtask demo`: the shop of `examples/` under load, seen in the two ways this project
//! offers. Its spans come as datagrams to a socket of ours, and bpftrace watches its probes.
//!
//! ```text
//! traffic --HTTP--> shop --datagrams--> receiver --> spans --> tree, summary
//!                    |
//!                    +--probe `close`--> bpftrace --> histogram
//! ```

mod histogram;
mod receiver;
mod service;
mod spans;
mod summary;

mod traffic;
mod tree;

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::process::{Folder, clear_up_on_signals};
use crate::setup;
use crate::terminal::{Colour, Terminal, cut};
use histogram::Watch;
use receiver::Receiver;
use service::Service;
use spans::{Spans, Trace};
use traffic::{KINDS, Kind};
use tree::Columns;

pub(crate) fn run() -> Result<()> {
    clear_up_on_signals()?;
    if let [missing, ..] = &setup::ensure(&[setup::CC])[..] {
        bail!("the service's SQLite is written in C, and {missing}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().with_context(|| format!("{} is gone", root.display()))?;
    let binary = service::build(&root)?;

    let folder = Folder::new()?;
    let socket = folder.path().join("spans.sock");
    let receiver = Receiver::bind(&socket)?;
    // Attached before the service starts, so that it misses nothing and the numbers can be compared.
    let watch = Watch::attach(&binary, &root);
    let mut service = Service::start(&binary, &socket, folder.path())?;
    let traffic = traffic::drive(service.address)?;
    service.stop()?;
    let histogram = watch.and_then(Watch::finish);
    let spans = Spans::parse(&receiver.finish()?)?;

    let mut out = stdout().lock();
    let terminal = Terminal::of_stdout();
    show_service(&mut out, terminal, &service, &socket)?;
    show_traffic(&mut out, terminal, &traffic)?;
    show_traces(&mut out, terminal, &spans)?;
    summary::show(&mut out, terminal, &spans)?;
    histogram::show(&mut out, terminal, &histogram, &spans)?;
    Ok(())
}

fn show_service(out: &mut impl Write, terminal: Terminal, service: &Service, socket: &Path) -> Result<()> {
    let dim = |text: &str| terminal.paint(Colour::Dim, text);
    writeln!(out, "{}", terminal.heading("The service"))?;
    writeln!(out, "  examples/src/bin/shop: axum, tower-http, SQLite. All its set-up is:\n")?;
    writeln!(out, "      {}", terminal.paint(Colour::Green, "tracing_subscriber::registry()"))?;
    writeln!(out, "      {}", terminal.paint(Colour::Green, "    .with(tracing_usdt::layer())"))?;
    writeln!(out, "      {}", terminal.paint(Colour::Green, "    .with(fmt::layer() ... )"))?;
    writeln!(out, "      {}\n", terminal.paint(Colour::Green, "    .init();"))?;
    writeln!(out, "  {}  {}", dim("ran as  "), service.binary.display())?;
    writeln!(out, "  {}  pid {}, http://{}", dim("        "), service.pid(), service.address)?;
    writeln!(out, "  {}  {}", dim("spans to"), socket.display())?;
    let log = fs::read_to_string(&service.log)
        .with_context(|| format!("can't read the service's log {}", service.log.display()))?;
    writeln!(out, "  {}  {}", dim("log in  "), service.log.display())?;
    writeln!(
        out,
        "\n  It logs as before, {} lines, which begin (the times left out):\n",
        log.lines().count()
    )?;
    for line in log.lines().take(4) {
        let without_time = line.split_once(' ').map_or(line, |(_time, rest)| rest);
        writeln!(out, "      {}", dim(&cut(without_time, terminal.columns - 6)))?;
    }
    Ok(())
}

fn show_traffic(out: &mut impl Write, terminal: Terminal, traffic: &traffic::Report) -> Result<()> {
    writeln!(out, "{}", terminal.heading("What was sent"))?;
    writeln!(
        out,
        "  {} requests over {} connections at once, in {:.1} s\n",
        traffic.requests,
        traffic.connections,
        traffic.took.as_secs_f64(),
    )?;
    for Kind { method, path, requests, status, what, .. } in &KINDS {
        let colour = if *status < 400 { Colour::Green } else { Colour::Red };
        let status = terminal.paint(colour, &status.to_string());
        let request = format!("{method} {path}");
        writeln!(out, "  {requests:>4}  {request:<22}  {status}  {}", terminal.paint(Colour::Dim, what))?;
    }
    Ok(())
}

/// A tree for each kind of request: of all traces of the kind, the one of median duration.
fn show_traces(out: &mut impl Write, terminal: Terminal, spans: &Spans) -> Result<()> {
    let traces = spans.traces();
    let mut chosen = Vec::new();
    for kind in &KINDS {
        let of_kind = traces.iter().filter(|trace| trace.complete && kind.is_of(trace.root)).collect();
        if let Some((trace, of)) = median(of_kind) {
            let follower = traces.iter().find(|other| other.complete && other.follows_from(trace));
            chosen.push((format!("{}, {}", kind.what, one_of(of)), trace, follower));
        }
    }
    let own_work = traces.iter().filter(|trace| trace.complete && trace.root.name == "check_stock").collect();
    if let Some((trace, of)) = median(own_work) {
        chosen.push((format!("a periodic task, {}", one_of(of)), trace, None));
    }

    writeln!(out, "{}", terminal.heading("One trace of each kind"))?;
    let shown: Vec<&Trace<'_>> =
        chosen.iter().flat_map(|(_, trace, follower)| [Some(*trace), *follower]).flatten().collect();
    let columns = Columns::for_traces(terminal, &shown);
    writeln!(out, "{}", columns.header())?;
    for (title, trace, follower) in &chosen {
        writeln!(out, "\n  {}", terminal.paint(Colour::Dim, title))?;
        write!(out, "{}", columns.tree(trace))?;
        if let Some(follower) = follower {
            writeln!(out, "  {}", terminal.paint(Colour::Dim, "and what follows from it"))?;
            write!(out, "{}", columns.tree(follower))?;
        }
    }
    Ok(())
}

fn median<'a>(mut traces: Vec<&'a Trace<'a>>) -> Option<(&'a Trace<'a>, usize)> {
    traces.sort_by_key(|trace| trace.root.duration_us);
    Some((*traces.get(traces.len() / 2)?, traces.len()))
}

fn one_of(traces: usize) -> String {
    if traces == 1 { "the only one".to_owned() } else { format!("the median of {traces}") }
}
