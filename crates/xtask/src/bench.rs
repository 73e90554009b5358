//! `cargo xtask bench`: what a span costs with tracing-usdt, with its peers, and what the machine
//! takes for the parts; and whether the goals of the design are met.
//!
//! ```text
//! rows, scenarios --> rounds      time, in interleaved short processes   --+
//!                     counts      instructions, allocations, open spans  --+--> report, goals
//!                     end_to_end  spans a second into a receiver, losses --+
//!                     collectors  spans a second that spantap can take   --+
//!                     attached    what spantap attach and bpftrace add   --+
//! ```
//!
//! `stage` holds what stands around the programs meanwhile, `programs` builds and runs them.

mod attached;
mod collectors;
mod cores;
mod counts;
mod end_to_end;
mod goals;
mod machine;
mod programs;
mod receiver;
mod report;
mod rounds;
mod rows;
mod spantap;
mod stage;
mod table;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::clear_up_on_signals;
use crate::terminal::Terminal;
use attached::Attached;
use collectors::Collectors;
use counts::Counts;
use end_to_end::Flood;
use programs::Programs;
use rounds::Rounds;
use stage::{Hits, Stage};
use table::Style;

/// What may be said on the command line.
#[derive(Default)]
pub(crate) struct Options {
    quick: bool,
    markdown: bool,
}

impl Options {
    pub(crate) fn parse(arguments: &[&str]) -> Option<Self> {
        let mut options = Self::default();
        for argument in arguments {
            match *argument {
                "--quick" => options.quick = true,
                "--markdown" => options.markdown = true,
                _ => return None,
            }
        }
        Some(options)
    }
}

/// All that a run has found out.
struct Results {
    machine: Vec<(&'static str, String)>,
    cores: usize,
    /// Before and after: it may change under a virtual machine.
    core_to_core: [Option<f64>; 2],
    rounds: Rounds,
    counts: Counts,
    floods: Vec<Flood>,
    collectors: Collectors,
    attached: Attached,
    hits: Hits,
    skipped: Vec<String>,
    took: Duration,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    clear_up_on_signals()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().with_context(|| format!("{} is gone", root.display()))?;
    let programs = Programs::build(&root)?;
    let begin = Instant::now();
    let machine = machine::describe();

    let mut stage = Stage::set_up(programs)?;
    let before = machine::core_to_core(&stage.programs)?;
    let (rounds, run_ms, flood_ms) = if options.quick { (3, 30.0, 500) } else { (11, 100.0, 1500) };
    let rounds = Rounds::measure(&mut stage, rounds, run_ms)?;
    let counts = Counts::take(&mut stage)?;
    let floods = end_to_end::measure(&mut stage, flood_ms)?;
    let (rounds_of_collectors, collector_ms) = if options.quick { (3, 400) } else { (7, 1000) };
    let collectors = Collectors::measure(&mut stage, rounds_of_collectors, collector_ms)?;
    let attached = Attached::measure(&mut stage, if options.quick { 3 } else { 7 })?;
    let after = machine::core_to_core(&stage.programs)?;
    stage.clear_progress();
    let (hits, skipped) = stage.finish()?;

    let results = Results {
        machine,
        cores: machine::cores(),
        core_to_core: [before, after],
        rounds,
        counts,
        floods,
        collectors,
        attached,
        hits,
        skipped,
        took: begin.elapsed(),
    };
    let style = if options.markdown { Style::Markdown } else { Style::Aligned(Terminal::of_stdout()) };
    report::print(&results, style)
}
