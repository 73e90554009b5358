//! Services of `examples/` that call each other, recorded for the pictures of `spantap record` and `spantap graph`.
//!
//! ```text
//! website --\
//!            gateway --> health      each sends its spans to one socket
//! app ------/
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::{COLUMNS, svg};
use crate::process::{Started, capture, lines};

/// The names of the files, as the pictures show them.
const CAPTURE: &str = "calls.spans";
const SOCKET: &str = "trace.sock";

const TIMEOUT: Duration = Duration::from_secs(30);

/// Longer than services keep spans before they send them.
const PAUSE: Duration = Duration::from_secs(1);

/// Callers: the name of the service, how often it calls, and for what. There is no service `bank`, so the gateway fails.
const CALLERS: [(&str, &str, &str); 3] =
    [("website", "120", "shop"), ("app", "75", "shop"), ("app", "5", "bank")];

pub(super) struct Programs {
    pub(super) spantap: PathBuf,
    pub(super) caller: PathBuf,
    pub(super) gateway: PathBuf,
    pub(super) health: PathBuf,
}

/// Records to a file in `folder`, and draws what `spantap record` wrote to the terminal.
pub(super) fn record(programs: &Programs, folder: &Path) -> Result<String> {
    let mut command = Command::new(&programs.spantap);
    command.args(["record", CAPTURE, SOCKET, "--color", "always"]).env("COLUMNS", COLUMNS);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut recorder = Started::spawn("spantap record", &mut command)?;
    let written = lines(recorder.errors()?);
    let deadline = Instant::now() + TIMEOUT;
    while !folder.join(SOCKET).exists() {
        ensure!(Instant::now() < deadline, "spantap record does not listen");
        thread::sleep(Duration::from_millis(10));
    }

    let health = Server::start("health", &programs.health, &["127.0.0.1:0"], folder)?;
    let upstream = format!("http://{}", health.address);
    let gateway = Server::start("gateway", &programs.gateway, &[&upstream, "127.0.0.1:0"], folder)?;
    for (service, times, about) in CALLERS {
        let url = format!("http://{}/health/{about}", gateway.address);
        capture(service_command(service, &programs.caller, folder).args([&*url, times]), TIMEOUT)
            .with_context(|| format!("{service} failed"))?;
    }
    thread::sleep(PAUSE);
    drop((gateway, health));
    recorder.signal(Signal::SIGTERM)?;
    let status = recorder.wait(TIMEOUT)?;
    let written = written.iter().collect::<Vec<_>>().join("\n");
    ensure!(status.success(), "spantap record failed ({status}): {written}");
    Ok(svg::draw_text(&format!("\x1b[2m$\x1b[0m spantap record {CAPTURE} {SOCKET}\n^C\n{written}")))
}

/// Who calls whom, as spantap draws it.
pub(super) fn draw_graph(spantap: &Path, folder: &Path) -> Result<String> {
    capture(Command::new(spantap).args(["graph", CAPTURE, "--svg"]).current_dir(folder), TIMEOUT)
}

fn service_command(service: &str, program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("OTEL_SERVICE_NAME", service)
        .env("TRACING_USDT_SOCKET", folder.join(SOCKET))
        .env("TRACING_USDT_FORMAT", "otlp-protobuf");
    command
}

struct Server {
    address: String,
    _process: Started,
}

impl Server {
    fn start(service: &str, program: &Path, arguments: &[&str], folder: &Path) -> Result<Self> {
        let mut command = service_command(service, program, folder);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Started::spawn(service, &mut command)?;
        let output = lines(process.output()?.0);
        let line = output.recv_timeout(TIMEOUT).with_context(|| format!("{service} does not listen"))?;
        let address = line.strip_prefix("listening on ").with_context(|| format!("{service}: {line}"))?;
        Ok(Self { address: address.to_owned(), _process: process })
    }
}
