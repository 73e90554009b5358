//! Measures how many spans a second a collector can receive. Recorded datagrams of the layer are sent repeatedly, as
//! fast as the collector receives them, to spantap, to a loop that only counts, and to a collector in Python.

use std::collections::HashMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver as Lines;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::Value;

use super::cores::{Cores, Pinned};
use super::programs::{self, command, count, number};
use super::spantap::Spantap;
use super::stage::Stage;
use super::statistics::{median, median_and_spread};
use crate::process::{Started, lines};

/// A program that receives the datagrams.
pub(crate) struct Collector {
    /// Its name in goals and ratios.
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    pub(crate) cores: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// The program `count`.
    Count,
    Python,
    /// spantap with its view, which prints one trace a second, and a backend that accepts everything.
    Forward,
    /// The program `stages`, which has no socket.
    Stages,
}

/// Ratios are relative to the first.
pub(crate) static COLLECTORS: [Collector; 4] = [
    collector("recv", "a loop of recv, which counts datagrams", "1", Kind::Count),
    collector("python", "Python: json.loads(recv()), count", "1", Kind::Python),
    collector("forward", "spantap --to otlp, sender and backend beside it", "2", Kind::Forward),
    collector("stages", "spantap's decode, encode, assembly, no socket", "2", Kind::Stages),
];

const fn collector(key: &'static str, name: &'static str, cores: &'static str, kind: Kind) -> Collector {
    Collector { key, name, cores, kind }
}

pub(crate) const FORMATS: [&str; 3] = ["zipkin", "otlp-json", "otlp-protobuf"];

/// The text below the tables.
pub(crate) const NOTES: [&str; 5] = [
    "Another process sends recorded background datagrams repeatedly, with new trace ids. cores 1: all threads of the",
    "receiver share one core, and the sender has another. busy: the receiver's CPU time per span. x recv is the",
    "median of each round's ratio. A run ends when the receiver has printed its counts. taken: the part of the sent",
    "spans that it counted; forwarded, viewed: the parts that reached the backend and the view. The collector in",
    "Python is like the one in Core Lightning's documentation.",
];

/// One run of a collector.
#[derive(Default)]
struct Run {
    spans_per_s: f64,
    busy_ns: Option<f64>,
    taken: f64,
    forwarded: Option<f64>,
    viewed: Option<f64>,
    /// Nanoseconds per span of decode, encode and assembly.
    stages: Option<[f64; 3]>,
}

/// Recorded datagrams of one format.
pub(crate) struct Recording {
    pub(crate) format: &'static str,
    file: PathBuf,
    pub(crate) spans_of_datagram: f64,
    pub(crate) bytes_of_span: f64,
}

#[derive(Default)]
pub(crate) struct Collectors {
    runs: HashMap<(&'static str, &'static str), Vec<Run>>,
    pub(crate) recordings: Vec<Recording>,
    pub(crate) mismatches: Vec<String>,
}

/// How long one recording takes.
const RECORDING_MS: u64 = 500;

impl Collectors {
    pub(crate) fn measure(stage: &mut Stage, rounds: usize, milliseconds: u64) -> Result<Self> {
        let mut all = Self::default();
        if !stage.rows().iter().any(|row| row.key == "background") {
            stage.skip(
                "collectors",
                "they need the datagrams of the row background, which was left out above",
            );
            return Ok(all);
        }
        for format in FORMATS {
            stage.progress(&format!("recording {format} datagrams"));
            all.recordings.push(Recording::make(stage, format)?);
        }
        let python = python();
        if let Err(why) = &python {
            stage.skip("a collector in Python", &format!("{why:#}"));
        }
        let python = python.ok();
        let feeder = Feeder { stage, cores: Cores::of_this_machine()?, python: &python, milliseconds };
        for round in 1..=rounds {
            for recording in &all.recordings {
                for collector in &COLLECTORS {
                    // Python's standard library reads JSON, not protobuf.
                    let is_text = recording.format != "otlp-protobuf";
                    if collector.kind == Kind::Python && (python.is_none() || !is_text) {
                        continue;
                    }
                    let (name, format) = (collector.name, recording.format);
                    feeder
                        .stage
                        .progress(&format!("collectors, round {round} of {rounds}: {name}, {format}"));
                    let run = feeder.run(collector.kind, recording);
                    let (run, mismatches) = run.with_context(|| format!("{name}, {format}"))?;
                    all.runs.entry((collector.key, format)).or_default().push(run);
                    let lines = mismatches.iter().map(|what| format!("MISMATCH: {name}, {format}: {what}"));
                    all.mismatches.extend(lines);
                }
            }
        }
        Ok(all)
    }

    fn of(&self, key: &'static str, format: &'static str) -> Option<&[Run]> {
        self.runs.get(&(key, format)).map(Vec::as_slice)
    }

    /// The median and the interquartile range.
    pub(crate) fn spans_per_s(&self, key: &'static str, format: &'static str) -> Option<(f64, f64)> {
        Some(median_and_spread(self.of(key, format)?.iter().map(|run| run.spans_per_s)))
    }

    /// The median of each round's ratio.
    pub(crate) fn ratio(&self, key: &'static str, to: &'static str, format: &'static str) -> Option<f64> {
        let rounds = self.of(key, format)?.iter().zip(self.of(to, format)?);
        Some(median(rounds.map(|(this, that)| this.spans_per_s / that.spans_per_s)))
    }

    pub(crate) fn busy_ns(&self, key: &'static str, format: &'static str) -> Option<f64> {
        self.median_of(key, format, |run| run.busy_ns)
    }

    pub(crate) fn taken(&self, key: &'static str, format: &'static str) -> Option<f64> {
        self.median_of(key, format, |run| Some(run.taken))
    }

    pub(crate) fn forwarded(&self, key: &'static str, format: &'static str) -> Option<f64> {
        self.median_of(key, format, |run| run.forwarded)
    }

    pub(crate) fn viewed(&self, key: &'static str, format: &'static str) -> Option<f64> {
        self.median_of(key, format, |run| run.viewed)
    }

    /// One of decode, encode and assembly.
    pub(crate) fn stage_ns(&self, stage: usize, format: &'static str) -> Option<f64> {
        self.median_of("stages", format, |run| run.stages.map(|stages| stages[stage]))
    }

    fn median_of(
        &self,
        key: &'static str,
        format: &'static str,
        of: impl Fn(&Run) -> Option<f64>,
    ) -> Option<f64> {
        let values: Vec<f64> = self.of(key, format)?.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| median(values))
    }
}

/// The path of the interpreter itself: `python3` on the PATH may be a script that starts it.
fn python() -> Result<PathBuf> {
    let mut asked = command("python3");
    asked.args(["-c", "import json, sys; print(json.dumps({'path': sys.executable}))"]);
    let output = programs::run("python3", &mut asked)?.json;
    Ok(output["path"].as_str().context("python3 does not know its own path")?.into())
}

impl Recording {
    fn make(stage: &Stage, format: &'static str) -> Result<Self> {
        let file = stage.folder().join(format!("{format}.datagrams"));
        let mut recorder = command(stage.programs.path("record"));
        let recorder = recorder.arg(stage.folder().join(format!("{format}.sock"))).arg(&file);
        let recorder = Counter::start(recorder, stage.folder().join(format!("{format}.sock")))?;
        let mut command = command(stage.programs.path("flood"));
        command.args(["--milliseconds", &RECORDING_MS.to_string()]);
        command.env("TRACING_USDT_SOCKET", &recorder.socket);
        command.env("TRACING_USDT_DELIVERY", "background");
        command.env("TRACING_USDT_MAX_WAIT_MS", "1000");
        command.env("TRACING_USDT_FORMAT", format);
        let flood = programs::run("flood", &mut command)?.json;
        let (received, _) = recorder.end()?;
        recorder.reap()?;
        let (datagrams, bytes) = (number(&received, "datagrams")?, number(&received, "bytes")?);
        let spans = number(&flood["stats"], "sent")?;
        Ok(Self { format, file, spans_of_datagram: spans / datagrams, bytes_of_span: bytes / spans })
    }
}

/// Sends recordings to receivers, one after the other.
struct Feeder<'a> {
    stage: &'a Stage,
    cores: Cores,
    python: &'a Option<PathBuf>,
    milliseconds: u64,
}

/// The sender's output, and when it came.
struct Sent {
    json: Value,
    at: Instant,
    process: Started,
}

impl Feeder<'_> {
    fn run(&self, kind: Kind, recording: &Recording) -> Result<(Run, Vec<String>)> {
        match kind {
            Kind::Count | Kind::Python => self.counter(kind, recording),
            Kind::Forward => self.forward(recording),
            Kind::Stages => self.stages(recording),
        }
    }

    fn counter(&self, kind: Kind, recording: &Recording) -> Result<(Run, Vec<String>)> {
        let socket = self.stage.folder().join("collector.sock");
        let mut command = match (kind, self.python) {
            (Kind::Count, _) => command(self.stage.programs.path("count")),
            (_, python) => {
                let mut command = command(python.as_ref().context("there is no python3")?);
                command
                    .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/collector/json_loads.py"));
                command
            }
        };
        let pinned = Pinned::to(self.cores.receiver)?;
        let counter = Counter::start(command.arg(&socket), socket)?;
        drop(pinned);
        let mut sent = self.blast(recording, &counter.socket, true)?;
        let (stats, at) = counter.end()?;
        sent.reap()?;
        let busy = busy_of(|| counter.reap())?;
        let datagrams = count(&stats, "datagrams")?;
        let spans = stats["spans"].as_u64();
        let mut mismatches = sent.mismatches("datagrams", datagrams)?;
        mismatches
            .extend(spans.map(|spans| sent.mismatches("spans", spans)).transpose()?.unwrap_or_default());
        let taken = datagrams as f64 / number(&sent.json, "datagrams")?;
        Ok((Run { taken, ..sent.run(at, busy)? }, mismatches))
    }

    fn forward(&self, recording: &Recording) -> Result<(Run, Vec<String>)> {
        let backend = Backend::start(self.stage)?;
        let target = format!("otlp=http://{}", backend.address);
        let options = ["--max-traces", "1", "--to", &target];
        let spantap = Spantap::start(&self.stage.programs, self.stage.folder(), "collector.sock", &options)?;
        let mut sent = self.blast(recording, &spantap.socket, false)?;
        let (stats, at) = spantap.end()?;
        sent.reap()?;
        let busy = busy_of(|| spantap.reap())?;
        let mut mismatches = sent.mismatches("datagrams", stats.datagrams)?;
        mismatches.extend(sent.mismatches("spans", stats.spans)?);
        let spans = number(&sent.json, "spans")?;
        let run = Run {
            taken: stats.spans as f64 / spans,
            forwarded: Some(stats.forwarded as f64 / spans),
            viewed: Some(1.0 - stats.not_viewed as f64 / spans),
            ..sent.run(at, busy)?
        };
        Ok((run, mismatches))
    }

    fn stages(&self, recording: &Recording) -> Result<(Run, Vec<String>)> {
        let mut command = command(self.stage.programs.path("stages"));
        command.arg(&recording.file).arg(self.milliseconds.to_string());
        let output = programs::run("stages", &mut command)?.json;
        let (sent, spans) = (count(&output, "sent")?, count(&output, "spans")?);
        let mismatch = (sent != spans).then(|| format!("{spans} spans decoded of {sent}"));
        let stages =
            [number(&output, "decode_ns")?, number(&output, "encode_ns")?, number(&output, "assemble_ns")?];
        let run = Run {
            spans_per_s: number(&output, "spans_per_s")?,
            busy_ns: Some(stages.iter().sum()),
            taken: spans as f64 / sent as f64,
            stages: Some(stages),
            ..Run::default()
        };
        Ok((run, mismatch.into_iter().collect()))
    }

    /// Sends for `milliseconds`.
    fn blast(&self, recording: &Recording, socket: &Path, pinned: bool) -> Result<Sent> {
        let mut command = command(self.stage.programs.path("blast"));
        command.arg(socket).arg(&recording.file).stderr(Stdio::inherit());
        command.arg(self.milliseconds.to_string());
        let pinned = pinned.then(|| Pinned::to(self.cores.sender)).transpose()?;
        let mut process = Started::spawn("blast", &mut command)?;
        drop(pinned);
        let output = lines(process.output()?.0);
        let line = output.recv_timeout(TIMEOUT).context("blast printed nothing; see its message above")?;
        let at = Instant::now();
        Ok(Sent { json: serde_json::from_str(&line)?, at, process })
    }
}

impl Sent {
    /// Call this after the receiver has printed its counts: a wait before that would be measured, too.
    fn reap(&mut self) -> Result<()> {
        self.process.wait(TIMEOUT).map(drop)
    }

    /// The time from the first datagram until the receiver has printed its counts (`counted_at`).
    fn run(&self, counted_at: Instant, busy: Duration) -> Result<Run> {
        let spans = number(&self.json, "spans")?;
        let after = counted_at.saturating_duration_since(self.at);
        let seconds = number(&self.json, "sending_s")? + after.as_secs_f64();
        let busy_ns = Some(busy.as_nanos() as f64 / spans);
        Ok(Run { spans_per_s: spans / seconds, busy_ns, ..Run::default() })
    }

    fn mismatches(&self, what: &str, got: u64) -> Result<Vec<String>> {
        let sent = count(&self.json, what)?;
        let wrong = (sent != got).then(|| format!("{got} {what} received of {sent} sent"));
        Ok(wrong.into_iter().collect())
    }
}

const TIMEOUT: Duration = Duration::from_secs(30);

/// The CPU time of the child process that `reap` reaps. `reap` may reap no other.
pub(super) fn busy_of(reap: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let of_reaped = || -> Result<i64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        Ok(usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
    };
    let before = of_reaped()?;
    reap()?;
    Ok(Duration::from_micros(u64::try_from(of_reaped()? - before).unwrap_or(0)))
}

/// A program that receives datagrams until an empty one arrives, and then prints its counts.
pub(super) struct Counter {
    process: Started,
    output: Lines<String>,
    pub(super) socket: PathBuf,
}

impl Counter {
    pub(super) fn start(command: &mut Command, socket: PathBuf) -> Result<Self> {
        let mut process = Started::spawn("the receiver", command.stderr(Stdio::inherit()))?;
        let output = lines(process.output()?.0);
        output.recv_timeout(TIMEOUT).context("the receiver did not get ready; see its message above")?;
        Ok(Self { process, output, socket })
    }

    /// Its counts, and when it printed them.
    pub(super) fn end(&self) -> Result<(Value, Instant)> {
        UnixDatagram::unbound()?.send_to(&[], &self.socket)?;
        let line = self.output.recv_timeout(TIMEOUT).context("the receiver printed no counts")?;
        Ok((serde_json::from_str(&line)?, Instant::now()))
    }

    pub(super) fn reap(mut self) -> Result<()> {
        self.process.wait(TIMEOUT)?;
        Ok(std::fs::remove_file(&self.socket)?)
    }
}

/// The program `http_sink`.
struct Backend {
    address: String,
    process: Started,
    stdin: Option<ChildStdin>,
}

impl Backend {
    fn start(stage: &Stage) -> Result<Self> {
        let mut command: Command = command(stage.programs.path("http_sink"));
        command.stdin(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = Started::spawn("http_sink", &mut command)?;
        let stdin = Some(process.input()?);
        let output: Lines<String> = lines(process.output()?.0);
        let address = output.recv_timeout(TIMEOUT).context("http_sink did not get ready")?;
        Ok(Self { address, process, stdin })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.process.wait(TIMEOUT);
    }
}
