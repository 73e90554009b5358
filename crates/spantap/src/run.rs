//! `spantap run`: a program as our child, with a socket of its own.

use std::ffi::OsString;
use std::fmt;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::cli::Run;
use crate::collect::Collect;
use crate::signals::{Signals, has_terminal};
use crate::source::{Socket, Source};
use crate::terminal::Stream;

/// Runs the program and shows its traces, until it ends.
///
/// # Errors
///
/// When the program can't be started, or the collector can't run.
pub async fn run(run: Run) -> Result<ExitCode> {
    // Before there is a folder to be removed and a program to be told.
    let signals = Signals::install()?;
    let folder = tempfile::Builder::new()
        .prefix("spantap.")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .context("can't make a folder for the socket; set TMPDIR to where there is room")?;
    let socket = Socket::bind(&folder.path().join("trace.sock"), 0o600)?;
    let child = child(&run.command, &socket, signals);
    let collect = Collect {
        source: Source::Socket { socket, allowed_uids: Vec::new() },
        common: run.common,
        // stdout is the program's.
        stream: Stream::Stderr,
        alone: false,
    };
    // The program's code, also if the user would not wait for us.
    let (code, _) = collect.run(child).await?;
    Ok(ExitCode::from(code))
}

/// The program, from its start to its end, which gives its exit code.
fn child(
    command: &[OsString],
    socket: &Socket,
    mut signals: Signals,
) -> impl Future<Output = Result<(u8, Signals)>> + use<> {
    let name = command.first().cloned().unwrap_or_default();
    let mut child = Command::new(&name);
    child.args(command.iter().skip(1)).env("TRACING_USDT_SOCKET", socket.path());
    // Its times in nanoseconds and its attributes with their types, unless it is told otherwise.
    if std::env::var_os("TRACING_USDT_FORMAT").is_none() {
        child.env("TRACING_USDT_FORMAT", "otlp");
    }
    async move {
        let mut child = child.spawn().map_err(|why| NotRun { name, why })?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        loop {
            let signal = tokio::select! {
                status = child.wait() => {
                    let code = exit_code(status.context("can't wait for the program")?);
                    return Ok((code, signals));
                }
                signal = signals.next() => signal,
            };
            // The terminal has sent these to the program as well, and it decides.
            let both = matches!(signal, Signal::SIGINT | Signal::SIGQUIT) && has_terminal();
            // It was not waited for yet, so the pid is still its own.
            if let Some(pid) = pid.filter(|_| !both) {
                let _ = kill(pid, signal);
            }
        }
    }
}

/// The program could not be started.
#[derive(Debug)]
pub struct NotRun {
    name: OsString,
    why: io::Error,
}

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't run {}; is it on the PATH and executable?", self.name.to_string_lossy())
    }
}

impl std::error::Error for NotRun {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.why)
    }
}

impl NotRun {
    /// As shells, env and nohup have it.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.why.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
    }
}

/// As shells have it: 128 and the signal's number, for one that a signal ended.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
