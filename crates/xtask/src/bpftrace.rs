//! Runs bpftrace, waits until it is attached, and reads its output at the end.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::process::{Started, lines};
use crate::setup;

const ATTACHED: [&str; 2] = ["the first probe is attached", "the last probe is attached"];

pub(crate) struct Bpftrace {
    process: Started,
    output: Receiver<String>,
    errors: JoinHandle<String>,
}

/// The output of bpftrace.
pub(crate) struct Output {
    pub(crate) lines: Vec<String>,
    /// Its exit status and its last error message, for the case that `lines` lacks something.
    pub(crate) end: String,
}

impl Bpftrace {
    /// Runs the bpftrace script `program`, whose paths are relative to `folder`, and waits until its probes are
    /// attached. `command` is the command of `cargo xtask` that the error message names.
    pub(crate) fn attach(program: &str, folder: &Path, command: &str) -> Result<Self> {
        if !setup::is_root() {
            bail!("bpftrace needs root; run: sudo -E env \"PATH=$PATH\" cargo xtask {command}");
        }
        if let [missing, ..] = &setup::ensure(&[setup::BPFTRACE])[..] {
            bail!("{missing}");
        }
        // bpftrace attaches in the order of the script: once the first and the last probe fire, the
        // ones between them are attached as well.
        let [first, last] =
            ["first", "last"].map(|name| format!("interval:ms:10 /!@{name}/ {{ @{name} = 1; "));
        let script = format!(
            "{first} printf(\"{}\\n\"); }} {program} {last} printf(\"{}\\n\"); }}",
            ATTACHED[0], ATTACHED[1]
        );
        let mut command = with_tracefs();
        command
            .args(["-B", "line", "-e", &script])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Started::spawn("bpftrace", &mut command)?;
        let (stdout, stderr) = process.output()?;
        let errors = thread::spawn(|| {
            let mut text = Vec::new();
            let _ = stderr.map(|mut stderr| stderr.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut bpftrace = Self { process, output: lines(stdout), errors };

        let deadline = Instant::now() + Duration::from_secs(30);
        let mut waiting_for = ATTACHED.to_vec();
        while !waiting_for.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            match bpftrace.output.recv_timeout(left) {
                Ok(line) => waiting_for.retain(|marker| *marker != line),
                Err(RecvTimeoutError::Timeout) => bail!("bpftrace did not attach within 30 s"),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = bpftrace.process.wait(Duration::from_secs(5))?;
                    bail!("bpftrace could not attach ({status}): {}", last_error(bpftrace.errors));
                }
            }
        }
        Ok(bpftrace)
    }

    /// Stops bpftrace and returns its output.
    pub(crate) fn finish(mut self) -> Result<Output> {
        self.process.signal(Signal::SIGINT)?;
        let status = self.process.wait(Duration::from_secs(20))?;
        let lines = self.output.iter().collect();
        Ok(Output { lines, end: format!("{status}: {}", last_error(self.errors)) })
    }
}

/// bpftrace needs tracefs. If it is not mounted, mounts it in a mount namespace of bpftrace's own.
fn with_tracefs() -> Command {
    if Path::new("/sys/kernel/tracing/events").exists() {
        return Command::new("bpftrace");
    }
    let mut unshare = Command::new("unshare");
    let mount = "mount -t tracefs tracefs /sys/kernel/tracing && exec bpftrace \"$@\"";
    unshare.args(["--mount", "sh", "-c", mount, "bpftrace"]);
    unshare
}

/// The last error of a bpftrace that has ended.
fn last_error(errors: JoinHandle<String>) -> String {
    let errors = errors.join().unwrap_or_default();
    let line = errors.lines().rfind(|line| line.contains("ERROR")).or(errors.lines().last());
    line.unwrap_or("it printed nothing").to_owned()
}
