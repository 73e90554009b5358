//! `cargo xtask demo`: the shop of `examples/` under load, seen in the two ways this project
//! offers. spantap shows its traces, and bpftrace watches its probes.
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
mod traffic;

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{Folder, clear_up_on_signals};
use crate::setup;
use crate::terminal::{Colour, Terminal, cut};
use histogram::Watch;
use service::{Binaries, Service};
use traffic::{KINDS, Kind};

/// Between the requests that are to be seen one by one.
const PAUSE: Duration = Duration::from_millis(400);

pub(crate) fn run(debug: bool) -> Result<()> {
    clear_up_on_signals()?;
    if let [missing, ..] = &setup::ensure(&[setup::CC])[..] {
        bail!("the service's SQLite is written in C, and {missing}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().with_context(|| format!("{} is gone", root.display()))?;
    let binaries = service::build(&root, debug)?;

    let folder = Folder::new()?;
    let file = folder.path().join("spans.jsonl");
    // Attached before the service starts, so that it misses nothing and the numbers can be compared.
    let watch = Watch::attach(&binaries.shop, &root);
    let mut out = stdout();
    let terminal = Terminal::of_stdout();
    show_set_up(&mut out, terminal, &binaries, &file)?;
    // From here on spantap writes to the same terminal.
    let mut service = Service::start(&binaries, &file, folder.path())?;
    traffic::one_of_each(service.address, PAUSE)?;
    let traffic = traffic::drive(service.address)?;
    service.stop()?;
    let histogram = watch.and_then(Watch::finish);
    let spans = spans::read(&file)?;

    show_log(&mut out, terminal, &service)?;
    show_traffic(&mut out, terminal, &traffic)?;
    summary::show(&mut out, terminal, &spans)?;
    histogram::show(&mut out, terminal, &histogram, spans.len())?;
    Ok(())
}

fn show_set_up(out: &mut impl Write, terminal: Terminal, binaries: &Binaries, spans: &Path) -> Result<()> {
    let green = |text: &str| terminal.paint(Colour::Green, text);
    writeln!(out, "{}", terminal.heading("The service"))?;
    writeln!(out, "  examples/src/bin/shop: axum, tower-http, SQLite. All its set-up is:\n")?;
    writeln!(out, "      {}", green("tracing_subscriber::registry()"))?;
    writeln!(out, "      {}", green("    .with(tracing_usdt::layer())"))?;
    writeln!(out, "      {}", green("    .with(fmt::layer() ... )"))?;
    writeln!(out, "      {}", green("    .init();"))?;
    writeln!(out, "{}", terminal.heading("Its traces, as they come"))?;
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
        "  is what it was before, {} lines, which begin (the times left out):\n",
        log.lines().count()
    )?;
    for line in log.lines().take(4) {
        let without_time = line.split_once(' ').map_or(line, |(_time, rest)| rest);
        writeln!(out, "      {}", terminal.paint(Colour::Dim, &cut(without_time, terminal.columns - 6)))?;
    }
    Ok(())
}

fn show_traffic(out: &mut impl Write, terminal: Terminal, traffic: &traffic::Report) -> Result<()> {
    writeln!(out, "{}", terminal.heading("What was sent"))?;
    writeln!(
        out,
        "  One request of each kind, and then {} over {} connections at once, in {:.1} s\n",
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
