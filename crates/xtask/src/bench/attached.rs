//! Measures what attached consumers cost a program: `spantap attach` with and without kernel events, and bpftrace with
//! the same join. The costs are those of each span, each enter and exit, and each kernel event, also in a program that
//! has no consumer. Also measures how many spans a second pass through spantap's ring buffer.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::machine::cores;
use super::programs::{self, command, number};
use super::stage::Stage;
use super::statistics::median;
use crate::bpftrace::Bpftrace;
use crate::process::Started;
use crate::setup;

/// The consumer that is attached.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Consumer {
    Detached,
    /// None, but the program publishes its threads' context by itself.
    Context,
    /// `spantap listen`, to which the program sends its spans from the background.
    Listener,
    /// The same, and the program publishes its threads' context by itself.
    ListenerAndContext,
    /// `spantap attach` with these arguments.
    Spantap(&'static [&'static str]),
    /// `spanoffcpu.bt`, which joins spans with their off-CPU time.
    Bpftrace,
}

pub(crate) const CONSUMERS: [(&str, Consumer); 9] = [
    ("no consumer", Consumer::Detached),
    ("no consumer, with_thread_context()", Consumer::Context),
    ("spantap listen, background delivery", Consumer::Listener),
    ("the same, with_thread_context()", Consumer::ListenerAndContext),
    ("spantap attach --kernel none", Consumer::Spantap(&["--kernel", "none"])),
    ("spantap attach --kernel sched", Consumer::Spantap(&["--kernel", "sched"])),
    ("spantap attach", Consumer::Spantap(&[])),
    ("spantap attach, also syscall", Consumer::Spantap(&["--kernel", "sched,block,net,exec,syscall"])),
    ("bpftrace, spanoffcpu.bt", Consumer::Bpftrace),
];

impl Consumer {
    fn is_with_context(self) -> bool {
        matches!(self, Self::Context | Self::ListenerAndContext)
    }
}

/// Work that is measured.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// The argument of the program `attached`.
    argument: &'static str,
    /// Repetitions in a run.
    count: u64,
    /// A program without a consumer does it.
    by_detached: bool,
}

impl Operation {
    const fn new(name: &'static str, argument: &'static str, count: u64) -> Self {
        Self { name, argument, count, by_detached: false }
    }

    const fn by_detached(name: &'static str, argument: &'static str, count: u64) -> Self {
        Self { by_detached: true, ..Self::new(name, argument, count) }
    }
}

pub(crate) const OPERATIONS: [Operation; 8] = [
    Operation::new("span", "spans", 20_000),
    Operation::new("enter+exit", "steps", 40_000),
    Operation::new("switch", "switches", 20_000),
    Operation::new("TCP", "packets", 10_000),
    Operation::new("block", "blocks", 500),
    Operation::new("syscall", "calls", 100_000),
    Operation::by_detached("others: switch", "switches", 20_000),
    Operation::by_detached("others: syscall", "calls", 100_000),
];

const TIMEOUT: Duration = Duration::from_secs(30);

/// Nanoseconds by consumer and operation.
#[derive(Default)]
pub(crate) struct Attached {
    ns: Vec<[Vec<f64>; OPERATIONS.len()]>,
    pub(crate) throughput: Vec<Throughput>,
}

/// A run in which threads make spans as fast as they can.
pub(crate) struct Throughput {
    pub(crate) kernel: &'static str,
    pub(crate) threads: usize,
    pub(crate) made_per_s: f64,
    /// The part of the spans that spantap did not receive.
    pub(crate) lost: f64,
    /// spantap counted each span that it did not receive.
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
        let detached_program = programs[0].clone();
        // The measured blocks must go to a disk. The folder of the stage may be in memory.
        let attached_program = stage.programs.path("attached");
        let on_disk = attached_program.parent().context("the program's path has no folder")?.to_owned();
        for round in 1..=rounds {
            for ((name, consumer), (program, ns)) in
                CONSUMERS.iter().zip(programs.iter().zip(&mut attached.ns))
            {
                stage.progress(&format!("round {round} of {rounds}, attached: {name}"));
                // One consumer at a time: each slows down the context switches of all programs.
                let watch = Watch::start(stage, *consumer, program)?;
                for (operation, ns) in OPERATIONS.iter().zip(ns) {
                    let mut command =
                        command(if operation.by_detached { &detached_program } else { program });
                    command
                        .args([operation.argument, "--count", &operation.count.to_string()])
                        .current_dir(&on_disk);
                    watch.surround(&mut command);
                    if consumer.is_with_context() && !operation.by_detached {
                        command.args(["--thread-context", "1"]);
                    }
                    ns.push(number(&programs::run("attached", &mut command)?.json, "ns")?);
                }
                watch.end()?;
            }
        }
        for kernel in ["none", "sched,block,net,exec"] {
            for threads in [1, cores()] {
                stage.progress(&format!("through the ring buffer: {threads} threads, {kernel}"));
                attached.throughput.push(throughput(stage, kernel, threads)?);
            }
        }
        Ok(attached)
    }

    /// The median, and the median of the increase over the run without a consumer in the same round.
    pub(crate) fn ns(&self, consumer: usize, operation: usize) -> Option<(f64, f64)> {
        let (ns, detached) = (&self.ns.get(consumer)?[operation], &self.ns.first()?[operation]);
        let added = ns.iter().zip(detached).map(|(ns, detached)| ns - detached);
        Some((median(ns.iter().copied()), median(added)))
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

/// A consumer that is attached to a program.
enum Watch {
    Detached,
    Listener(Spantap, PathBuf),
    Spantap(Spantap),
    Bpftrace(Bpftrace),
}

impl Watch {
    fn start(stage: &Stage, consumer: Consumer, program: &std::path::Path) -> Result<Self> {
        Ok(match consumer {
            Consumer::Detached | Consumer::Context => Self::Detached,
            Consumer::Listener | Consumer::ListenerAndContext => {
                let socket = program.with_extension("sock");
                Self::Listener(Spantap::listen(stage, program, &socket)?, socket)
            }
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

    /// Sets the environment variables of the program.
    fn surround(&self, command: &mut Command) {
        if let Self::Listener(_, socket) = self {
            command.env("TRACING_USDT_SOCKET", socket).env("TRACING_USDT_FORMAT", "otlp-protobuf");
        }
    }

    fn end(self) -> Result<()> {
        match self {
            Self::Detached => Ok(()),
            Self::Spantap(spantap) | Self::Listener(spantap, _) => spantap.end().map(drop),
            Self::Bpftrace(bpftrace) => bpftrace.finish().map(drop),
        }
    }
}

struct Spantap {
    process: Started,
    messages: PathBuf,
}

impl Spantap {
    fn attach(stage: &Stage, program: &std::path::Path, arguments: &[&str]) -> Result<Self> {
        let mut command = command(stage.programs.path("spantap"));
        command.args(["attach", "--max-traces", "1", "--exe"]).arg(program).args(arguments);
        Self::start(command, program, |spantap| spantap.messages().contains("attached to "))
    }

    fn listen(stage: &Stage, program: &std::path::Path, socket: &std::path::Path) -> Result<Self> {
        let mut command = command(stage.programs.path("spantap"));
        command.args(["listen", "--max-traces", "1"]).arg(socket);
        Self::start(command, program, |_| socket.exists())
    }

    fn start(
        mut command: Command,
        program: &std::path::Path,
        is_ready: impl Fn(&Self) -> bool,
    ) -> Result<Self> {
        let messages = program.with_extension("messages");
        command.stdout(Stdio::null()).stderr(File::create(&messages)?);
        let mut spantap = Self { process: Started::spawn("spantap", &mut command)?, messages };
        let begin = Instant::now();
        while !is_ready(&spantap) {
            if spantap.process.ended()?.is_some() || begin.elapsed() > TIMEOUT {
                bail!("spantap did not start: {}", spantap.messages());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(spantap)
    }

    fn messages(&self) -> String {
        fs::read_to_string(&self.messages).unwrap_or_default()
    }

    /// Stops spantap and returns its messages.
    fn end(mut self) -> Result<String> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(TIMEOUT)?;
        Ok(self.messages())
    }
}

fn throughput(stage: &Stage, kernel: &'static str, threads: usize) -> Result<Throughput> {
    const EACH: u64 = 250_000;
    let program = stage.copy_of("attached", &format!("through-{threads}-{}", kernel.len()))?;
    let spantap = Spantap::attach(stage, &program, &["--kernel", kernel])?;
    let mut command = command(&program);
    command.args(["spans", "--count", &EACH.to_string(), "--threads", &threads.to_string()]);
    let ns = number(&programs::run("attached", &mut command)?.json, "ns")?;
    let messages = spantap.end()?;
    let before = |words: &str| -> u64 {
        let numbers = messages.lines().filter_map(|line| line.split_once(words)?.0.rsplit(' ').next());
        numbers.filter_map(|number| number.replace(',', "").parse::<u64>().ok()).sum()
    };
    // The program also makes spans to warm up.
    let made = EACH * threads as u64 + WARM_UP;
    let received = messages.lines().find(|line| line.contains(" spans from ")).map_or(0, |line| {
        let number = line.split(' ').nth(1).unwrap_or_default();
        number.replace(',', "").parse().unwrap_or(0)
    });
    Ok(Throughput {
        kernel,
        threads,
        made_per_s: threads as f64 * 1e9 / ns,
        lost: made.saturating_sub(received) as f64 / made as f64,
        // Reports of losses are spans, too.
        adds_up: received + before(" missed spans:") + before(" lost by the sender") >= made,
    })
}

/// The spans with which the program `attached` warms up.
const WARM_UP: u64 = 100;
