//! `cargo xtask bench`: measures what a span costs with tracing-usdt, with comparable crates, and what the machine
//! needs for each part, and compares the results with the design's goals.
//!
//! ```text
//! rows, scenarios --> rounds      time, in interleaved short processes   --+
//!                     counts      instructions, allocations, open spans  --+--> report, goals
//!                     end_to_end  spans a second into a receiver, losses --+
//!                     collectors  spans a second that spantap can take   --+
//!                     attached    what spantap attach and bpftrace add   --+
//!                     captures    how fast spantap view answers          --+
//!                     top         how soon spantap top shows a key       --+
//! ```
//!
//! `top` presses keys by `key_presses`. `stage` holds the receiver and the bpftrace processes that run meanwhile. `programs` builds and runs the programs.

mod attached;
mod captures;
mod collectors;
mod cores;
mod counts;
mod end_to_end;
mod goals;
mod key_presses;
mod machine;
mod programs;
mod receiver;
mod report;
mod rounds;
mod rows;
mod spantap;
mod stage;
mod statistics;
mod table;
mod top;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::Folder;
use crate::terminal::Terminal;
use crate::workspace;
use attached::Attached;
use captures::{Captures, Measured};
use collectors::Collectors;
use counts::Counts;
use end_to_end::Flood;
use programs::Programs;
use rounds::Rounds;
use stage::{Hits, Stage};
use table::Style;
use top::Top;

/// The options of `cargo xtask bench`.
#[derive(Default)]
pub(crate) struct Options {
    quick: bool,
    markdown: bool,
    /// Measures only how fast `spantap view` answers.
    captures: bool,
    /// Measures only `spantap top`.
    top: bool,
}

impl Options {
    pub(crate) fn parse(arguments: &[&str]) -> Option<Self> {
        let mut options = Self::default();
        for argument in arguments {
            match *argument {
                "--quick" => options.quick = true,
                "--markdown" => options.markdown = true,
                "--captures" => options.captures = true,
                "--top" => options.top = true,
                _ => return None,
            }
        }
        // Each says that only it is measured.
        (!(options.captures && options.top)).then_some(options)
    }
}

/// The results of a whole run.
struct Results {
    machine: Vec<(&'static str, String)>,
    cores: usize,
    /// The latency in ns before and after the run: on a virtual machine it may change.
    core_to_core: [Option<f64>; 2],
    rounds: Rounds,
    counts: Counts,
    floods: Vec<Flood>,
    collectors: Collectors,
    attached: Attached,
    captures: Option<Captures>,
    top: Vec<Top>,
    hits: Hits,
    skipped: Vec<String>,
    took: Duration,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let root = workspace()?;
    let style = if options.markdown { Style::Markdown } else { Style::Aligned(Terminal::of_stdout()) };
    if options.captures {
        let (programs, folder) = (Programs::build_for_captures(&root)?, Folder::new()?);
        return match Captures::measure(&programs, folder.path(), options.quick)? {
            Measured::All(captures) => report::print_captures(&captures, style),
            Measured::Skipped(what, why) => bail!("skipped {what}: {why}"),
        };
    }
    if options.top {
        let (programs, folder) = (Programs::build_for_top(&root)?, Folder::new()?);
        return report::print_top(&Top::measure(&programs, folder.path(), options.quick)?, style);
    }
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
    let captures = match Captures::measure(&stage.programs, stage.folder(), options.quick)? {
        Measured::All(captures) => Some(captures),
        Measured::Skipped(what, why) => {
            stage.skip(&what, &why);
            None
        }
    };
    let top = Top::measure(&stage.programs, stage.folder(), options.quick)?;
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
        captures,
        top,
        hits,
        skipped,
        took: begin.elapsed(),
    };
    report::print(&results, style)
}
