//! The collector as its users run it, `spantap listen`, and what it says at the end.

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
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

/// By its figures at the end.
#[derive(Default, Debug, PartialEq)]
pub(crate) struct Account {
    pub(crate) datagrams: u64,
    /// With those in which senders tell what they lost.
    pub(crate) spans: u64,
    pub(crate) told_lost: u64,
    pub(crate) forwarded: u64,
    /// Spans for which the view was too slow.
    pub(crate) not_viewed: u64,
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Spantap {
    pub(crate) fn start(programs: &Programs, folder: &Path, name: &str, options: &[&str]) -> Result<Self> {
        let socket = folder.join(name);
        let mut command = command(programs.path("spantap"));
        command.arg("listen").arg(&socket).args(options);
        let mut process = Started::spawn("spantap", &mut command)?;
        // Traces on the one, its figures perhaps on the other.
        let (stdout, stderr) = process.output()?;
        let output = lines(stdout.chain(stderr.context("no pipe from spantap")?));
        let begin = Instant::now();
        // Not by the path: a receiver before it may have left a socket there that nobody listens on.
        while !is_listening(&socket) {
            if process.ended()?.is_some() || begin.elapsed() > PATIENCE {
                bail!("spantap did not get ready");
            }
            sleep(Duration::from_millis(1));
        }
        Ok(Self { process, output, socket })
    }

    /// Ends it, when its senders have ended. Also when it said its figures.
    pub(crate) fn end(&self) -> Result<(Account, Instant)> {
        self.process.signal(Signal::SIGTERM)?;
        let mut said = Vec::new();
        let mut at = None;
        while let Ok(line) = self.output.recv_timeout(PATIENCE) {
            if is_first_of_figures(&line) {
                at = Some(Instant::now());
                said.clear();
            }
            said.push(line);
        }
        Ok((account(&said)?, at.context("spantap did not say its figures")?))
    }

    /// Waits until it is gone.
    pub(crate) fn reap(mut self) -> Result<()> {
        self.process.wait(PATIENCE).map(drop)
    }
}

fn is_listening(socket: &Path) -> bool {
    UnixDatagram::unbound().is_ok_and(|probe| probe.connect(socket).is_ok())
}

fn is_first_of_figures(line: &str) -> bool {
    line.starts_with("spantap: ") && line.contains(" datagram") && line.contains(" from ")
}

fn account(lines: &[String]) -> Result<Account> {
    let first = lines.first().context("spantap said nothing at the end")?;
    let of_first = |what| before(first, what).with_context(|| format!("spantap said but {first:?}"));
    let sum = |what: &'static str| lines.iter().filter_map(|line| before(line, what)).sum();
    let forwarded = lines.iter().filter(|line| line.contains(" forwarded"));
    Ok(Account {
        datagrams: of_first(" datagram")?,
        spans: of_first(" span")?,
        told_lost: sum(" lost by the sender"),
        forwarded: forwarded.filter_map(|line| before(line, " span")).sum(),
        not_viewed: sum(" spans came too fast"),
    })
}

/// The number before some words.
fn before(line: &str, words: &str) -> Option<u64> {
    let (text, _) = line.split_once(words)?;
    text.rsplit(' ').next()?.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_at_the_end_are_understood() -> Result<()> {
        let lines = [
            "spantap: 1,234,567 spans in 6,543 datagrams from 1 sender",
            "  shop, pid 7, uid 0  1,234,567 spans, 1,002 lost by the sender (queue_full)",
            "  1 trace shown, 1,233 not shown; 34,567 spans came too fast to be shown",
            "  → http://127.0.0.1:4318/v1/traces: 1,200,000 spans forwarded in 600 requests, 0 retries",
        ];
        assert!(is_first_of_figures(lines[0]));
        assert!(!is_first_of_figures("spantap: 12 spans in 3 datagrams"), "those of a minute");
        let expected = Account {
            datagrams: 6_543,
            spans: 1_234_567,
            told_lost: 1_002,
            forwarded: 1_200_000,
            not_viewed: 34_567,
        };
        assert_eq!(account(&lines.map(str::to_owned))?, expected);
        Ok(())
    }
}
