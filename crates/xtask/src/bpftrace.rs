//! A bpftrace that is known to be attached while it runs, and what it prints at its end.

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

/// What it had to say.
pub(crate) struct Output {
    pub(crate) lines: Vec<String>,
    /// Its exit status and the last of its complaints, for where the lines are not what was hoped for.
    pub(crate) end: String,
}

impl Bpftrace {
    /// Starts it on `program`, in which paths are relative to `folder`, and waits until its probes are
    /// attached. An error is the reason to do without it; `command` is what wants it.
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

    /// Stops it, and takes what it prints at the end.
    pub(crate) fn finish(mut self) -> Result<Output> {
        self.process.signal(Signal::SIGINT)?;
        let status = self.process.wait(Duration::from_secs(20))?;
        let lines = self.output.iter().collect();
        Ok(Output { lines, end: format!("{status}: {}", last_error(self.errors)) })
    }
}

/// bpftrace where the kernel's tracepoints are listed: if tracefs is not mounted, in a mount namespace of its own
/// in which it is.
fn with_tracefs() -> Command {
    if Path::new("/sys/kernel/tracing/events").exists() {
        return Command::new("bpftrace");
    }
    let mut unshare = Command::new("unshare");
    let mount = "mount -t tracefs tracefs /sys/kernel/tracing && exec bpftrace \"$@\"";
    unshare.args(["--mount", "sh", "-c", mount, "bpftrace"]);
    unshare
}

/// Of one that has ended.
fn last_error(errors: JoinHandle<String>) -> String {
    let errors = errors.join().unwrap_or_default();
    let line = errors.lines().rfind(|line| line.contains("ERROR")).or(errors.lines().last());
    line.unwrap_or("it said nothing").to_owned()
}
