//! Runs `spantap listen` as its users do, and reads the stats that it prints at the end.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::Receiver as Lines;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::programs::{Programs, command};
use crate::process::{Started, lines};

pub(crate) struct Spantap {
    process: Started,
    output: Lines<String>,
    pub(crate) socket: PathBuf,
}

/// The stats that spantap prints at the end.
#[derive(Default, Debug, PartialEq)]
pub(crate) struct Stats {
    pub(crate) datagrams: u64,
    /// Includes the spans in which senders report losses.
    pub(crate) spans: u64,
    pub(crate) reported_lost: u64,
    pub(crate) forwarded: u64,
    /// Spans that came too fast for the view.
    pub(crate) not_viewed: u64,
}

const TIMEOUT: Duration = Duration::from_secs(30);

impl Spantap {
    pub(crate) fn start(programs: &Programs, folder: &Path, name: &str, options: &[&str]) -> Result<Self> {
        let socket = folder.join(name);
        let mut command = command(programs.path("spantap"));
        // Traces go to stdout, and the stats at the end to stderr.
        command.arg("listen").arg(&socket).args(options).stdout(Stdio::null());
        let mut process = Started::spawn("spantap", &mut command)?;
        let output = lines(process.errors()?);
        let begin = Instant::now();
        // Connects, because the path alone proves nothing: an earlier receiver may have left its socket there.
        while !is_listening(&socket) {
            if process.ended()?.is_some() || begin.elapsed() > TIMEOUT {
                bail!("spantap did not get ready");
            }
            sleep(Duration::from_millis(1));
        }
        Ok(Self { process, output, socket })
    }

    /// Stops spantap, after its senders have ended. Returns its stats, and when it printed them.
    pub(crate) fn end(&self) -> Result<(Stats, Instant)> {
        self.process.signal(Signal::SIGTERM)?;
        let mut last_lines = Vec::new();
        let mut at = None;
        while let Ok(line) = self.output.recv_timeout(TIMEOUT) {
            if begins_stats(&line) {
                at = Some(Instant::now());
            }
            last_lines.push(line);
        }
        Ok((stats_at_the_end(&last_lines)?, at.context("spantap did not print its stats")?))
    }

    /// Waits until the process has ended.
    pub(crate) fn reap(mut self) -> Result<()> {
        self.process.wait(TIMEOUT).map(drop)
    }
}

pub(super) fn is_listening(socket: &Path) -> bool {
    UnixDatagram::unbound().is_ok_and(|probe| probe.connect(socket).is_ok())
}

fn begins_stats(line: &str) -> bool {
    line.starts_with("spantap: ") && line.contains(" datagram") && line.contains(" from ")
}

/// Reads the stats that come last.
pub(super) fn stats_at_the_end(lines: &[String]) -> Result<Stats> {
    let begin = lines.iter().rposition(|line| begins_stats(line)).context("spantap printed no stats")?;
    stats(&lines[begin..])
}

fn stats(lines: &[String]) -> Result<Stats> {
    let first = lines.first().context("spantap printed no stats at the end")?;
    let of_first =
        |what| before(first, what).with_context(|| format!("the first line of spantap's stats is {first:?}"));
    let sum = |what: &'static str| lines.iter().filter_map(|line| before(line, what)).sum();
    let forwarded = lines.iter().filter(|line| line.contains(" forwarded"));
    Ok(Stats {
        datagrams: of_first(" datagram")?,
        spans: of_first(" span")?,
        reported_lost: sum(" lost by the sender"),
        forwarded: forwarded.filter_map(|line| before(line, " span")).sum(),
        not_viewed: sum(" spans came too fast"),
    })
}

/// The number in front of `words`.
fn before(line: &str, words: &str) -> Option<u64> {
    let (text, _) = line.split_once(words)?;
    text.rsplit(' ').next()?.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_stats_at_the_end() -> Result<()> {
        let lines = [
            "spantap: 1,234,567 spans in 6,543 datagrams from 1 sender",
            "  shop, pid 7, uid 0  1,234,567 spans, 1,002 lost by the sender (queue_full)",
            "  1 trace shown, 1,233 not shown; 34,567 spans came too fast to be shown",
            "  → http://127.0.0.1:4318/v1/traces: 1,200,000 spans forwarded in 600 requests, 0 retries",
        ];
        assert!(begins_stats(lines[0]));
        assert!(!begins_stats("spantap: 12 spans in 3 datagrams"), "the line of each minute");
        let expected = Stats {
            datagrams: 6_543,
            spans: 1_234_567,
            reported_lost: 1_002,
            forwarded: 1_200_000,
            not_viewed: 34_567,
        };
        let before =
            ["spantap: 12 spans in 3 datagrams from 1 sender", "  7 spans came too fast to be shown"];
        let all: Vec<String> = before.iter().chain(&lines).map(|line| (*line).to_owned()).collect();
        assert_eq!(stats_at_the_end(&all)?, expected);
        assert!(stats_at_the_end(&["  1 trace shown".to_owned()]).is_err());
        Ok(())
    }
}
