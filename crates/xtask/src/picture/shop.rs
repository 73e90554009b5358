//! The shop of `examples/` under a small load, recorded for the pictures of `spantap top` and `spantap view`.
//!
//! Its report is a long query, so other requests wait for the database meanwhile; some requests fail.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::{COLUMNS, svg};
use crate::demo::traffic;
use crate::process::{Started, capture, lines};
use crate::screen::Program;

/// The name of the capture, as the pictures show it.
const CAPTURE: &str = "shop.spans";

/// Enough for requests to wait for each other. With more, they wait for a CPU most of the time.
const CONNECTIONS: usize = 4;

/// Rounds of load with a pause after each. They take more than the minute of which `top` draws the latency.
const ROUNDS: usize = 16;
const PAUSE: Duration = Duration::from_secs(2);

const TIMEOUT: Duration = Duration::from_secs(30);

/// Records to a file in `folder`.
pub(super) fn record(spantap: &Path, shop: &Path, folder: &Path) -> Result<()> {
    let mut command = Command::new(shop);
    command.arg("0").env("TMPDIR", folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut shop = Started::spawn("shop", &mut command)?;
    let line = lines(shop.output()?.0).recv_timeout(TIMEOUT).context("the shop does not listen")?;
    let address = line.rsplit_once("http://").and_then(|(_, address)| address.parse().ok());
    let address = address.with_context(|| format!("the shop printed {line:?} instead of its address"))?;

    let mut command = Command::new(spantap);
    // Shorter waits are added up, so that they do not hide the spans.
    command.args(["record", CAPTURE, "--kernel", "sched", "--min", "2ms", "--pid", &shop.pid().to_string()]);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut recorder = Started::spawn("spantap record", &mut command)?;
    let notices = lines(recorder.errors()?);
    let notice = notices.recv_timeout(TIMEOUT).context("spantap record does not attach")?;
    ensure!(notice.contains("attached"), "spantap record did not attach: {notice}");

    for _ in 0..ROUNDS {
        traffic::drive(address, CONNECTIONS)?;
        thread::sleep(PAUSE);
    }
    recorder.signal(Signal::SIGTERM)?;
    let status = recorder.wait(TIMEOUT)?;
    ensure!(status.success(), "spantap record failed ({status}): {:?}", notices.iter().collect::<Vec<_>>());
    Ok(())
}

/// Draws the table of spans of `spantap top`, and a trace.
pub(super) fn draw_top(spantap: &Path, folder: &Path) -> Result<(String, String)> {
    let mut command = Command::new(spantap);
    command.args(["top", CAPTURE]).current_dir(folder);
    let mut top = Program::start(command, 124, 28)?;
    let spans = top.settled(&["P95", "sqlite", "sort"])?;
    top.press("/name == \"GET /products/{id}\"\r")?;
    top.settled(&["/name =="])?;
    top.press("2")?;
    top.settled(&["ROOT SPAN", "GET /products/{id}"])?;
    top.press("\r")?;
    let mut trace = top.settled(&["on the critical path", "exchange_rate"])?;
    // Down to a query, which has more details than others.
    for _ in 0..10 {
        if trace.contents().contains("db.query.text") {
            break;
        }
        top.press("j")?;
        trace = top.settled(&["on the critical path"])?;
    }
    top.quit()?;
    Ok((svg::draw(&spans), svg::draw(&trace)))
}

/// Draws a trace that failed.
pub(super) fn draw_view(spantap: &Path, folder: &Path) -> Result<String> {
    let query = r#"error and name == "place_order""#;
    let mut command = Command::new(spantap);
    command
        .args(["view", CAPTURE, "--color", "always", "--sort", "duration", "--limit", "1", "--where", query])
        .env("COLUMNS", COLUMNS)
        .current_dir(folder);
    let trace = capture(&mut command, TIMEOUT)?;
    Ok(svg::draw_text(&format!(
        "\x1b[2m$\x1b[0m spantap view {CAPTURE} --sort duration --limit 1 --where '{query}'\n\n{}",
        trace.trim_end()
    )))
}
