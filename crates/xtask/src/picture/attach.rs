//! `spantap attach`: what the kernel did in each span of a trace.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::{COLUMNS, svg};
use crate::process::Started;

/// Long enough for about fifteen traces. The least disturbed one is drawn.
const WATCH: Duration = Duration::from_secs(8);

/// Texts in each complete trace. The last is the thread that releases the lock for which the program waits.
const PARTS: [&str; 6] = ["checkout", "reserve", "price", "charge", "write_receipt", "stock-report"];

pub(super) fn draw(spantap: &Path, checkout: &Path) -> Result<String> {
    let output = watch(spantap, checkout)?;
    let trace = least_disturbed(&output).with_context(|| {
        format!("no trace of {} was complete and waited for the lock; try again", checkout.display())
    })?;
    Ok(svg::draw_text(&format!("\x1b[2m$\x1b[0m sudo spantap attach --exe target/debug/checkout\n\n{trace}")))
}

/// The coloured output of spantap for a few seconds of the program.
fn watch(spantap: &Path, checkout: &Path) -> Result<String> {
    let mut attach = Command::new(spantap);
    attach
        .args(["attach", "--color", "always", "--exe"])
        .arg(checkout)
        .env("COLUMNS", COLUMNS)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut spantap = Started::spawn("spantap", &mut attach)?;
    let mut pipe = spantap.output()?.0;
    let text = thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).map(|_| text)
    });
    let mut command = Command::new(checkout);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let checkout = Started::spawn("checkout", &mut command)?;
    thread::sleep(WATCH);
    drop(checkout);
    spantap.signal(Signal::SIGTERM)?;
    let status = spantap.wait(Duration::from_secs(20))?;
    if !status.success() {
        bail!("spantap failed ({status}); see its message above");
    }
    let Ok(text) = text.join() else { bail!("the thread that reads from spantap panicked") };
    text.context("can't read the output of spantap")
}

/// The complete trace with the fewest lines: other programs of the machine add lines of their own, such as
/// preemptions.
fn least_disturbed(output: &str) -> Option<&str> {
    let traces = output.split("\n\n").map(str::trim_end);
    let complete = traces.filter(|trace| PARTS.iter().all(|part| trace.contains(part)));
    complete.min_by_key(|trace| trace.lines().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_no_incomplete_trace() {
        let whole = "trace 1\ncheckout\nreserve\nprice\ncharge\nwrite_receipt\nwaker=stock-report\npreempted";
        let short = "trace 2\ncheckout\nreserve\nprice\ncharge\nwrite_receipt\nwaker=stock-report";
        let output = format!("trace 0\nreserve\n\n{whole}\n\n{short}\n\n");
        assert_eq!(least_disturbed(&output), Some(short));
        assert_eq!(least_disturbed("trace 0\nreserve\n\n"), None);
    }
}
