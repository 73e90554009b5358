//! Measures `spantap top` from outside, in a terminal of its own, while it receives 100,000 spans a second: how soon
//! the screen shows what a key does, how much memory and CPU time it takes, and whether it counts all spans.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_getcpuclockid};

use super::key_presses::{Presses, keys, sort_by_name};
use super::programs::{self, Programs, command, count, number};
use super::spantap::{Stats, is_listening, stats_at_the_end};
use super::stage::progress;
use crate::process::{Started, lines};
use crate::screen::Program;

pub(crate) const SPANS_PER_S: u32 = 100_000;
pub(crate) const COLUMNS: u16 = 140;
pub(crate) const LINES: u16 = 40;

/// How many names the spans have.
pub(crate) const NAMES: [u32; 2] = [20, 100_000];

pub(crate) struct Top {
    pub(crate) names: u32,
    pub(crate) sent_per_s: f64,
    /// The spans that the first line of the screen counts.
    pub(crate) counted_per_s: f64,
    /// The part of the spans that came too fast to be counted.
    pub(crate) missed: f64,
    /// While the spans arrive.
    pub(crate) presses: Presses,
    /// Once no more spans arrive.
    pub(crate) at_rest: Presses,
    /// The part of one core that all threads used while the spans arrived.
    pub(crate) busy: f64,
    pub(crate) peak_bytes: u64,
    /// Whether each span that was sent was counted or reported as missed.
    pub(crate) adds_up: bool,
}

/// The text below the table.
pub(crate) const NOTES: [&str; 5] = [
    "Traces of five spans, of one program, in datagrams of 100 spans. shown: the time from a press of a key until the",
    "last byte of the screen that shows what it does, with that of the terminal and of the program that presses. The",
    "keys select a row, invert the order, sort by another column, and go to other pages. at rest: the same table, once no",
    "more spans arrive. busy: the CPU time of all threads, in cores. memory: the most at once (VmHWM). missed: the spans",
    "that came too fast for the screen.",
];

const TIMEOUT: Duration = Duration::from_secs(30);

/// The spans arrive for so long before a key is pressed.
const WARM_UP: Duration = Duration::from_secs(1);

/// The figures are copied to the screen twice a second.
const TWO_COPIES: Duration = Duration::from_millis(1200);

impl Top {
    /// Runs with each number of names.
    pub(crate) fn measure(programs: &Programs, folder: &Path, quick: bool) -> Result<Vec<Self>> {
        let runs = NAMES.iter().map(|names| {
            Self::run(programs, folder, *names, quick)
                .with_context(|| format!("spantap top with {names} names"))
        });
        let runs = runs.collect();
        progress("");
        runs
    }

    fn run(programs: &Programs, folder: &Path, names: u32, quick: bool) -> Result<Self> {
        let (seconds, presses) = if quick { (6, 18) } else { (10, 50) };
        progress(&format!("spantap top, {names} names: {SPANS_PER_S} spans a second for {seconds} s"));
        let recording = folder.join(format!("{names}-names.datagrams"));
        let mut generate = command(programs.path("generate"));
        programs::run("generate", generate.arg(&recording).arg(names.to_string()))?;
        let (mut top, socket) = start(programs, folder, names)?;

        let mut blast = command(programs.path("blast"));
        blast.arg(&socket).arg(&recording).args([(seconds * 1000).to_string(), SPANS_PER_S.to_string()]);
        let mut blast = Started::spawn("blast", blast.stderr(Stdio::inherit()))?;
        let output = lines(blast.output()?.0);
        wait_for_spans(&top)?;
        sort_by_name(&mut top)?;
        sleep(WARM_UP);
        let mut keys = keys();
        let under_load = Presses::measure(&mut top, &mut keys, presses, || Ok(blast.ended()?.is_some()))?;
        let line = output.recv_timeout(TIMEOUT).context("blast printed nothing; see its message above")?;
        blast.wait(TIMEOUT)?;
        let sent = serde_json::from_str(&line)?;
        let counted = all_counted(&top)?;
        let busy = cpu_time(&mut top)?;
        let at_rest = Presses::measure(&mut top, &mut keys, presses / 2, || Ok(false))?;
        let peak_bytes = top.process().peak_memory().context("spantap top has ended")?;
        let last = top.quit()?.contents();
        let last: Vec<String> = last.lines().map(str::to_owned).collect();
        let Stats { spans, not_viewed, .. } = stats_at_the_end(&last)?;
        std::fs::remove_file(&recording).context("can't remove the recording")?;

        let (of_blast, sending_s) = (count(&sent, "spans")?, number(&sent, "sending_s")?);
        Ok(Self {
            names,
            sent_per_s: of_blast as f64 / sending_s,
            counted_per_s: counted as f64 / sending_s,
            missed: not_viewed as f64 / of_blast as f64,
            presses: under_load,
            at_rest,
            busy: busy.as_secs_f64() / sending_s,
            peak_bytes,
            adds_up: spans == of_blast && counted + not_viewed == of_blast,
        })
    }
}

/// Starts `spantap top` on a socket, and waits until it receives and draws.
fn start(programs: &Programs, folder: &Path, names: u32) -> Result<(Program, PathBuf)> {
    let socket = folder.join(format!("top-{names}.sock"));
    let mut command = command(programs.path("spantap"));
    command.arg("top").arg(&socket);
    let mut top = Program::start(command, COLUMNS, LINES)?;
    let begin = Instant::now();
    while !is_listening(&socket) || counted(&top).is_none() {
        if top.process().ended()?.is_some() || begin.elapsed() > TIMEOUT {
            bail!("spantap top did not get ready; the screen has\n{}", top.screen().contents());
        }
        sleep(Duration::from_millis(1));
    }
    Ok((top, socket))
}

fn wait_for_spans(top: &Program) -> Result<()> {
    let begin = Instant::now();
    while counted(top).is_none_or(|spans| spans == 0) {
        if begin.elapsed() > TIMEOUT {
            bail!("spantap top shows no spans; the screen has\n{}", top.screen().contents());
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The number of spans on the screen, once it does not grow any more.
fn all_counted(top: &Program) -> Result<u64> {
    let deadline = Instant::now() + TIMEOUT;
    let (mut before, mut since) = (None, Instant::now());
    while since.elapsed() < TWO_COPIES {
        if Instant::now() > deadline {
            bail!("spantap top still counts, long after the last span");
        }
        sleep(Duration::from_millis(20));
        let now = counted(top);
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    before.context("the first line of the screen has no number of spans")
}

/// The number of spans in the first line of the screen.
fn counted(top: &Program) -> Option<u64> {
    of_first_line(top.screen().rows(0, COLUMNS).next()?.as_str())
}

fn of_first_line(line: &str) -> Option<u64> {
    let (before, _) = line.strip_prefix("spantap top")?.split_once(" spans  ")?;
    before.rsplit(' ').next()?.replace(',', "").parse().ok()
}

/// The CPU time of all threads so far.
fn cpu_time(top: &mut Program) -> Result<Duration> {
    let clock: ClockId = clock_getcpuclockid(top.process().pid()).context("spantap top has no clock")?;
    Ok(clock.now().context("can't read the CPU time of spantap top")?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spans_of_the_first_line_are_counted() {
        let line =
            "spantap top  /run/10 spans.sock  17:00:01  1,234,567 spans  99.8k/s     ! 12 spans not shown";
        assert_eq!(of_first_line(line), Some(1_234_567));
        assert_eq!(of_first_line("spantap top  x  17:00:01  0 spans  0/s"), Some(0));
        assert_eq!(of_first_line("an error about 10 spans  in it"), None);
    }
}
