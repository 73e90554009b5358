//! `cargo xtask demo`: runs the shop of `examples/` under load. spantap shows its traces, and bpftrace watches its
//! probes.
//!
//! ```text
//! traffic --HTTP--> shop --datagrams--> spantap run --> the terminal
//!                    |                       \--to jsonl--> spans --> summary
//!                    +--probe `close`--> bpftrace --> histogram
//! ```

mod histogram;
mod service;
mod spans;
mod summary;
pub(crate) mod traffic;

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::Folder;
use crate::setup;
use crate::terminal::{Colour, Terminal, cut};
use crate::workspace;
use histogram::Watch;
use service::{Binaries, Service};
use traffic::{KINDS, Kind};

/// The pause after each of the first requests, so that their traces can be read one by one.
const PAUSE: Duration = Duration::from_millis(400);

/// The counts of a run.
pub(crate) struct Found {
    spans: usize,
    traces: usize,
    complete: usize,
    /// The spans that bpftrace counted; an error is the reason why it did not attach.
    pub(crate) by_bpftrace: Result<usize, String>,
}

impl Found {
    /// Checks that each span reached spantap. The demo sends so few that none may be lost. bpftrace attaches before the
    /// service starts, so it counts the same spans.
    pub(crate) fn verify(&self) -> Result<()> {
        let Self { spans, traces, complete, by_bpftrace } = self;
        ensure!(*spans > 0, "spantap received no span");
        ensure!(complete == traces, "only {complete} of {traces} traces are complete");
        if let Ok(counted) = by_bpftrace {
            ensure!(counted == spans, "bpftrace counted {counted} spans, but {spans} reached spantap");
        }
        Ok(())
    }
}

pub(crate) fn run(debug: bool) -> Result<Found> {
    if let [missing, ..] = &setup::ensure(&[setup::CC])[..] {
        bail!("the service's SQLite is written in C, and {missing}");
    }
    let root = workspace()?;
    let binaries = service::build(&root, debug)?;

    let folder = Folder::new()?;
    let file = folder.path().join("spans.jsonl");
    // Attaches before the service starts, so that bpftrace counts the same spans as spantap.
    let watch = Watch::attach(&binaries.shop, &root);
    let mut out = stdout();
    let terminal = Terminal::of_stdout();
    show_set_up(&mut out, terminal, &binaries, &file)?;
    // From now on, spantap writes to the same terminal.
    let mut service = Service::start(&binaries, &file, folder.path())?;
    traffic::one_of_each(service.address, PAUSE)?;
    let traffic = traffic::drive(service.address, traffic::CONNECTIONS)?;
    service.stop()?;
    let not_attached = watch.as_ref().err().map(|why| format!("{why:#}"));
    let histogram = watch.and_then(Watch::finish);
    let spans = spans::read(&file)?;

    show_log(&mut out, terminal, &service)?;
    show_traffic(&mut out, terminal, &traffic)?;
    let (traces, complete) = summary::show(&mut out, terminal, &spans)?;
    histogram::show(&mut out, terminal, &histogram, spans.len())?;
    let counted = histogram.map_or(0, |histograms| histograms.count());
    let by_bpftrace = not_attached.map_or(Ok(counted), Err);
    Ok(Found { spans: spans.len(), traces, complete, by_bpftrace })
}

fn show_set_up(out: &mut impl Write, terminal: Terminal, binaries: &Binaries, spans: &Path) -> Result<()> {
    let green = |text: &str| terminal.paint(Colour::Green, text);
    writeln!(out, "{}", terminal.heading("The service"))?;
    writeln!(out, "  examples/src/bin/shop: axum, tower-http, SQLite. Its whole set-up:\n")?;
    writeln!(out, "      {}", green("tracing_subscriber::registry()"))?;
    writeln!(out, "      {}", green("    .with(tracing_usdt::layer())"))?;
    writeln!(out, "      {}", green("    .with(fmt::layer() ... )"))?;
    writeln!(out, "      {}", green("    .init();"))?;
    writeln!(out, "{}", terminal.heading("Its traces, live"))?;
    let (spantap, shop) = (binaries.spantap.display(), binaries.shop.display());
    let options = format!("--max-traces {} --to jsonl={}", service::TRACES_A_SECOND, spans.display());
    writeln!(out, "  {}\n", green(&format!("{spantap} run {options} -- {shop} 0")))?;
    Ok(())
}

fn show_log(out: &mut impl Write, terminal: Terminal, service: &Service) -> Result<()> {
    writeln!(out, "{}", terminal.heading("Its log"))?;
    let log = fs::read_to_string(&service.log)
        .with_context(|| format!("can't read the service's log {}", service.log.display()))?;
    writeln!(out, "  {}", terminal.paint(Colour::Dim, &service.log.display().to_string()))?;
    writeln!(
        out,
        "  The log is the same as without tracing-usdt: {} lines. The first ones, without times:\n",
        log.lines().count()
    )?;
    for line in log.lines().take(4) {
        let without_time = line.split_once(' ').map_or(line, |(_time, rest)| rest);
        writeln!(out, "      {}", terminal.paint(Colour::Dim, &cut(without_time, terminal.columns - 6)))?;
    }
    Ok(())
}

fn show_traffic(out: &mut impl Write, terminal: Terminal, traffic: &traffic::Report) -> Result<()> {
    writeln!(out, "{}", terminal.heading("The requests"))?;
    writeln!(
        out,
        "  One request of each kind, then {} requests over {} connections at once, in {:.1} s\n",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_spans_or_with_fewer_than_bpftrace_counted_is_an_error() {
        let verify = |spans, traces, complete, by_bpftrace| {
            Found { spans, traces, complete, by_bpftrace }.verify().map_err(|error| error.to_string())
        };
        assert_eq!(verify(9, 3, 3, Ok(9)), Ok(()));
        assert_eq!(verify(9, 3, 3, Err("no bpftrace".to_owned())), Ok(()));
        assert!(verify(0, 0, 0, Ok(0)).is_err());
        assert!(verify(9, 3, 2, Ok(9)).is_err_and(|error| error.contains("2 of 3")));
        assert!(verify(9, 3, 3, Ok(10)).is_err_and(|error| error.contains("10 spans")));
    }
}
