//! What a program pays while somebody is attached to it: `spantap attach`, with and without what the kernel
//! does, and bpftrace doing the same join; for each span, each enter and exit, and each thing that the kernel does:
//! in the program's spans, and for a program that nobody is attached to. And how many spans a second get through
//! the ring buffer.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::machine::cores;
use super::programs::{self, command, number};
use super::rounds::quantile;
use super::stage::Stage;
use crate::bpftrace::Bpftrace;
use crate::process::Started;
use crate::setup;

/// Who looks.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Consumer {
    Nobody,
    /// `spantap attach` with these arguments.
    Spantap(&'static [&'static str]),
    /// The tool that joins spans with the time off the CPU, by itself.
    Bpftrace,
}

pub(crate) const CONSUMERS: [(&str, Consumer); 6] = [
    ("nobody", Consumer::Nobody),
    ("spantap attach --kernel none", Consumer::Spantap(&["--kernel", "none"])),
    ("spantap attach --kernel sched", Consumer::Spantap(&["--kernel", "sched"])),
    ("spantap attach", Consumer::Spantap(&[])),
    ("the same, and syscall", Consumer::Spantap(&["--kernel", "sched,block,net,exec,syscall"])),
    ("bpftrace, spanoffcpu.bt", Consumer::Bpftrace),
];

/// What is done.
pub(crate) struct Deed {
    pub(crate) name: &'static str,
    /// For the program.
    word: &'static str,
    /// How often in a run.
    count: u64,
    /// By a program that nobody is attached to.
    by_others: bool,
}

impl Deed {
    const fn new(name: &'static str, word: &'static str, count: u64) -> Self {
        Self { name, word, count, by_others: false }
    }

    const fn by_others(name: &'static str, word: &'static str, count: u64) -> Self {
        Self { by_others: true, ..Self::new(name, word, count) }
    }
}

pub(crate) const DEEDS: [Deed; 8] = [
    Deed::new("span", "spans", 20_000),
    Deed::new("enter+exit", "steps", 40_000),
    Deed::new("switch", "switches", 20_000),
    Deed::new("TCP", "packets", 10_000),
    Deed::new("block", "blocks", 500),
    Deed::new("syscall", "calls", 100_000),
    Deed::by_others("others: switch", "switches", 20_000),
    Deed::by_others("others: syscall", "calls", 100_000),
];

const PATIENCE: Duration = Duration::from_secs(30);

/// In nanoseconds; by consumer and deed.
#[derive(Default)]
pub(crate) struct Attached {
    ns: Vec<[Vec<f64>; DEEDS.len()]>,
    pub(crate) through: Vec<Through>,
}

/// Spans made as fast as so many threads can.
pub(crate) struct Through {
    pub(crate) kernel: &'static str,
    pub(crate) threads: usize,
    pub(crate) made_per_s: f64,
    /// The part that spantap did not get.
    pub(crate) lost: f64,
    /// Of those that it did not get, it knows of all.
    pub(crate) adds_up: bool,
}

impl Attached {
    pub(crate) fn measure(stage: &mut Stage, rounds: usize) -> Result<Self> {
        if let Err(why) = can_attach() {
            stage.skip("spantap attach", &format!("{why:#}"));
            return Ok(Self::default());
        }
        let mut attached = Self::default();
        let mut programs = Vec::new();
        for index in 0..CONSUMERS.len() {
            programs.push(stage.copy_of("attached", &format!("attached-{index}"))?);
            attached.ns.push(Default::default());
        }
        let nobodys = programs[0].clone();
        // On a disk, which the folder of the stage need not be.
        let attached_program = stage.programs.path("attached");
        let on_disk = attached_program.parent().context("it is in a folder")?.to_owned();
        for round in 1..=rounds {
            for ((name, consumer), (program, ns)) in
                CONSUMERS.iter().zip(programs.iter().zip(&mut attached.ns))
            {
                stage.progress(&format!("round {round} of {rounds}, attached: {name}"));
                // Alone: what one does at each change of threads, it does to all programs.
                let watch = Watch::start(stage, *consumer, program)?;
                for (deed, ns) in DEEDS.iter().zip(ns) {
                    let mut command = command(if deed.by_others { &nobodys } else { program });
                    command.args([deed.word, "--count", &deed.count.to_string()]).current_dir(&on_disk);
                    ns.push(number(&programs::run("attached", &mut command)?.json, "ns")?);
                }
                watch.end()?;
            }
        }
        for kernel in ["none", "sched,block,net,exec"] {
            for threads in [1, cores()] {
                stage.progress(&format!("through the ring buffer: {threads} threads, {kernel}"));
                attached.through.push(through(stage, kernel, threads)?);
            }
        }
        Ok(attached)
    }

    /// The median, and the median of what it is beyond nobody's in the same round.
    pub(crate) fn ns(&self, consumer: usize, deed: usize) -> Option<(f64, f64)> {
        let (ns, nobody) = (&self.ns.get(consumer)?[deed], &self.ns.first()?[deed]);
        let median = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            quantile(&values, 0.5)
        };
        Some((median(ns.clone()), median(ns.iter().zip(nobody).map(|(ns, nobody)| ns - nobody).collect())))
    }
}

fn can_attach() -> Result<()> {
    if !setup::is_root() {
        bail!("it needs root; run: sudo -E env \"PATH=$PATH\" cargo xtask bench");
    }
    match &setup::ensure(&setup::EBPF)[..] {
        [] => Ok(()),
        [missing, ..] => bail!("{missing}"),
    }
}

/// Somebody who looks at a program.
enum Watch {
    Nobody,
    Spantap(Spantap),
    Bpftrace(Bpftrace),
}

impl Watch {
    fn start(stage: &Stage, consumer: Consumer, program: &std::path::Path) -> Result<Self> {
        Ok(match consumer {
            Consumer::Nobody => Self::Nobody,
            Consumer::Spantap(arguments) => Self::Spantap(Spantap::attach(stage, program, arguments)?),
            Consumer::Bpftrace => {
                let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/bpftrace/spanoffcpu.bt");
                let script = fs::read_to_string(tool).with_context(|| format!("can't read {tool}"))?;
                let script =
                    script.replace("#!/usr/bin/env bpftrace", "").replace("$1", &program.to_string_lossy());
                Self::Bpftrace(Bpftrace::attach(&script, stage.folder(), "bench")?)
            }
        })
    }

    fn end(self) -> Result<()> {
        match self {
            Self::Nobody => Ok(()),
            Self::Spantap(spantap) => spantap.end().map(drop),
            Self::Bpftrace(bpftrace) => bpftrace.finish().map(drop),
        }
    }
}

struct Spantap {
    process: Started,
    said: PathBuf,
}

impl Spantap {
    fn attach(stage: &Stage, program: &std::path::Path, arguments: &[&str]) -> Result<Self> {
        let said = program.with_extension("said");
        let mut command = command(stage.programs.path("spantap"));
        command.args(["attach", "--quiet", "--exe"]).arg(program).args(arguments);
        command.stdout(Stdio::null()).stderr(File::create(&said)?);
        let mut spantap = Self { process: Started::spawn("spantap", &mut command)?, said };
        let begin = Instant::now();
        while !spantap.said().contains("attached to ") {
            if spantap.process.ended()?.is_some() || begin.elapsed() > PATIENCE {
                bail!("spantap did not attach: {}", spantap.said());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(spantap)
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// What it had to say.
    fn end(mut self) -> Result<String> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(PATIENCE)?;
        Ok(self.said())
    }
}

fn through(stage: &Stage, kernel: &'static str, threads: usize) -> Result<Through> {
    const EACH: u64 = 250_000;
    let program = stage.copy_of("attached", &format!("through-{threads}-{}", kernel.len()))?;
    let spantap = Spantap::attach(stage, &program, &["--kernel", kernel])?;
    let mut command = command(&program);
    command.args(["spans", "--count", &EACH.to_string(), "--threads", &threads.to_string()]);
    let ns = number(&programs::run("attached", &mut command)?.json, "ns")?;
    let said = spantap.end()?;
    let before = |words: &str| -> u64 {
        let numbers = said.lines().filter_map(|line| line.split_once(words)?.0.rsplit(' ').next());
        numbers.filter_map(|number| number.replace(',', "").parse::<u64>().ok()).sum()
    };
    // Some are made first, to warm up.
    let made = EACH * threads as u64 + WARM_UP;
    let received = said.lines().find(|line| line.contains(" spans from ")).map_or(0, |line| {
        let number = line.split(' ').nth(1).unwrap_or_default();
        number.replace(',', "").parse().unwrap_or(0)
    });
    Ok(Through {
        kernel,
        threads,
        made_per_s: threads as f64 * 1e9 / ns,
        lost: made.saturating_sub(received) as f64 / made as f64,
        adds_up: received + before(" missed spans") == made,
    })
}

/// As the program has it.
const WARM_UP: u64 = 100;
