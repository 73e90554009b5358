//! Measures how long `spantap view` takes to answer from a capture of 1 GB, and how much memory it takes.
//!
//! The spans are those of the example `shop`, which answers real requests. They are recorded once, and written again and
//! again with other trace ids.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::sys::statvfs::statvfs;

use super::collectors::{Counter, busy_of};
use super::programs::{self, Programs, command, count};
use super::stage::progress;
use super::statistics::median;
use crate::demo::traffic;
use crate::process::{Started, lines};

/// What is asked of the capture.
pub(crate) struct Question {
    pub(crate) name: &'static str,
    arguments: &'static [&'static str],
}

/// The id of a trace is an argument of the first.
static QUESTIONS: [Question; 6] = [
    question("one trace, by its id", &["--trace"]),
    question("the latest 20 traces", &["--limit", "20"]),
    question("--where 'duration > 20ms', 20 of them", &["--limit", "20", "--where", "duration > 20ms"]),
    question("--where 'name == \"mail\"', none", &["--where", "name == \"mail\""]),
    question(
        "--where 'http.response.status_code == 500', 20 of them",
        &["--limit", "20", "--where", "http.response.status_code == 500"],
    ),
    question(
        "--where 'db.query.text =~ \"^UPDATE .* stock\"', 20 of them",
        &["--limit", "20", "--where", "db.query.text =~ \"^UPDATE .* stock\""],
    ),
];

const fn question(name: &'static str, arguments: &'static [&'static str]) -> Question {
    Question { name, arguments }
}

pub(crate) struct Answer {
    pub(crate) question: &'static Question,
    /// The median, and that of the CPU time of all threads.
    pub(crate) seconds: f64,
    pub(crate) cpu_s: f64,
    /// The most memory of all runs.
    pub(crate) peak_bytes: u64,
}

pub(crate) struct Captures {
    pub(crate) bytes: u64,
    pub(crate) spans: u64,
    pub(crate) answers: Vec<Answer>,
}

pub(crate) enum Measured {
    All(Captures),
    /// What was skipped, and why.
    Skipped(String, String),
}

/// The text below the table.
pub(crate) const NOTES: [&str; 3] = [
    "The median of the runs, with the file in the page cache. The spans are those of the example shop, again and again with",
    "other trace ids, so that all traces are different. Without --trace, all spans are read. memory: the most that",
    "spantap had at once (VmHWM). It includes the ids of all traces that match.",
];

const BYTES: u64 = 1_000_000_000;
const QUICK_BYTES: u64 = 100_000_000;
/// How often all requests are sent: some thousands of spans.
const DRIVES: usize = 4;
const TIMEOUT: Duration = Duration::from_secs(300);

impl Captures {
    /// Makes the capture in `folder`.
    pub(crate) fn measure(programs: &Programs, folder: &Path, quick: bool) -> Result<Measured> {
        let (size, runs) = if quick { (QUICK_BYTES, 1) } else { (BYTES, 3) };
        let what = format!("spantap view of a capture of {} MB", size / 1_000_000);
        let free = statvfs(folder).context("can't find how much room there is")?;
        let free = free.blocks_available() * free.fragment_size();
        if free < size + size / 5 {
            let free = free / 1_000_000;
            return Ok(Measured::Skipped(
                what,
                format!("{free} MB are free; set TMPDIR to a folder with more"),
            ));
        }
        progress("recording the shop");
        let recording = record_shop(programs, folder).context("can't record the shop")?;
        progress(&format!("making {what}"));
        let capture = folder.join("large.spans");
        let mut make = command(programs.path("large_capture"));
        make.arg(&recording).arg(&capture).arg(size.to_string());
        let made = programs::run("large_capture", &mut make)?.json;
        let trace_id = made["trace_id"].as_str().context("large_capture named no trace")?;
        let mut answers = Vec::new();
        for question in &QUESTIONS {
            let mut measured = Vec::new();
            for run in 1..=runs {
                progress(&format!("{what}, {}: run {run} of {runs}", question.name));
                let mut view = command(programs.path("spantap"));
                view.arg("view").arg(&capture).args(question.arguments);
                if question.arguments == ["--trace"] {
                    view.arg(trace_id);
                }
                measured.push(answer(view).with_context(|| question.name)?);
            }
            answers.push(Answer {
                question,
                seconds: median(measured.iter().map(|(seconds, ..)| *seconds)),
                cpu_s: median(measured.iter().map(|(_, cpu_s, _)| *cpu_s)),
                peak_bytes: measured.iter().map(|(.., peak)| *peak).max().unwrap_or(0),
            });
        }
        std::fs::remove_file(&capture).context("can't remove the capture")?;
        progress("");
        let (bytes, spans) = (count(&made, "bytes")?, count(&made, "spans")?);
        Ok(Measured::All(Self { bytes, spans, answers }))
    }
}

/// Records the datagrams of the shop while it answers requests.
fn record_shop(programs: &Programs, folder: &Path) -> Result<PathBuf> {
    let (file, socket) = (folder.join("shop.datagrams"), folder.join("shop.sock"));
    let recorder = Counter::start(command(programs.path("record")).arg(&socket).arg(&file), socket.clone())?;
    let mut shop = command(programs.path("shop"));
    shop.arg("0").stderr(Stdio::null()).env("TMPDIR", folder);
    shop.env("TRACING_USDT_SOCKET", &recorder.socket).env("TRACING_USDT_FORMAT", "otlp-protobuf");
    shop.env("TRACING_USDT_MAX_WAIT_MS", "1000");
    let mut shop = Started::spawn("shop", &mut shop)?;
    let line = lines(shop.output()?.0).recv_timeout(TIMEOUT).context("the shop did not get ready")?;
    let address = line.rsplit_once("http://").and_then(|(_, address)| address.parse().ok());
    let address = address.with_context(|| format!("the shop printed {line:?} instead of its address"))?;
    for _ in 0..DRIVES {
        traffic::drive(address, traffic::CONNECTIONS)?;
    }
    shop.signal(Signal::SIGTERM)?;
    let status = shop.wait(TIMEOUT)?;
    if !status.success() {
        bail!("the shop failed when asked to stop ({status})");
    }
    recorder.end()?;
    recorder.reap()?;
    Ok(file)
}

/// The seconds until `view` has ended, those of its CPU time, and its memory in bytes.
fn answer(mut view: Command) -> Result<(f64, f64, u64)> {
    let begin = Instant::now();
    let mut process = Started::spawn("spantap view", view.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let (mut peak, mut seconds) = (0, 0.0);
    let busy = busy_of(|| {
        let status = loop {
            peak = process.peak_memory().unwrap_or(0).max(peak);
            if let Some(status) = process.ended()? {
                break status;
            }
            sleep(Duration::from_millis(2));
        };
        seconds = begin.elapsed().as_secs_f64();
        // 1: no trace matches.
        if !matches!(status.code(), Some(0 | 1)) {
            bail!("spantap view failed ({status})");
        }
        Ok(())
    })?;
    Ok((seconds, busy.as_secs_f64(), peak))
}
