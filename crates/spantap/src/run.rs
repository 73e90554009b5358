//! `spantap run`: a program as our child, with a socket of its own.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgid, getpgrp};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Run;
use crate::collect::Collect;
use crate::signals::{Blocked, Received, Signals, stop};
use crate::source::{Folder, Source};
use crate::terminal::Stream;

/// Runs the program and shows its traces, until it ends. All signals that were blocked are passed on to it.
///
/// # Errors
///
/// The program can't be started, or the collector can't run.
pub async fn run(run: Run, blocked: Blocked, folder: Folder) -> Result<ExitCode> {
    let socket = folder.bind()?;
    let mut command = Command::new(run.command.first().cloned().unwrap_or_default());
    command.args(run.command.iter().skip(1)).env("TRACING_USDT_SOCKET", socket.path());
    // Its times in nanoseconds and its attributes with their types, unless it is told otherwise.
    if std::env::var_os("TRACING_USDT_FORMAT").is_none() {
        command.env("TRACING_USDT_FORMAT", "otlp");
    }
    blocked.leave_to(&mut command);
    let signals = blocked.read()?;
    let collect = Collect {
        source: Source::Socket { socket, allowed_uids: Vec::new() },
        common: run.common,
        // stdout is the program's.
        stream: Stream::Stderr,
        alone: false,
    };
    // The program's code, also if the user would not wait for us.
    let (code, _) = collect.run(child(command, signals)).await?;
    Ok(ExitCode::from(code))
}

/// How long the program may take to stop as we are told to.
const STOPS_WITHIN: Duration = Duration::from_secs(2);

/// The program, from its start to its end, which gives its exit code.
///
/// It stops and goes on with us. If the terminal or a supervisor stops us both, the program stops first, and then we
/// do, so that a shell sees the job stopped and `fg` continues both; a program that does not stop keeps us running.
async fn child(command: Command, mut signals: Signals) -> Result<(u8, Signals)> {
    let name = command.get_program().to_owned();
    let mut child = tokio::process::Command::from(command).spawn().map_err(|why| NotRun { name, why })?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let mut changes = signal(SignalKind::child()).context("can't watch the program")?;
    let mut stopping: Option<(Signal, Instant)> = None;
    loop {
        tokio::select! {
            status = child.wait() => {
                let code = exit_code(status.context("can't wait for the program")?);
                return Ok((code, signals));
            }
            received = signals.receive() => {
                if received.stops().is_some() || received.continues() {
                    stopping = received.stops().map(|signal| (signal, Instant::now()));
                }
                // It was not waited for yet, so the pid is still its own.
                if let Some(pid) = pid {
                    pass_on(received, pid);
                }
            }
            _ = changes.recv() => {}
        }
        // A program that goes on all the same, and is stopped alone later, does not mean us.
        stopping = stopping.filter(|(_, since)| since.elapsed() < STOPS_WITHIN);
        if let Some((signal, _)) = stopping {
            if pid.is_some_and(has_stopped) {
                stopping = None;
                stop(signal);
            }
        }
    }
}

/// Sends it to the program, unless that has it already.
fn pass_on(received: Received, pid: Pid) {
    let has_it = received.is_of_terminal() && getpgid(Some(pid)) == Ok(getpgrp());
    // A program that says to its parent that it is ready does not mean itself.
    let is_its_own = received.sender() == pid.as_raw() as u32;
    if !has_it && !is_its_own && !received.is_our_fault() {
        // nix knows no real-time signals.
        #[allow(unsafe_code)]
        // SAFETY: two numbers are passed, and no memory is touched.
        let _ = unsafe { libc::kill(pid.as_raw(), received.number()) };
    }
}

/// Whether it has stopped since this was asked last.
fn has_stopped(pid: Pid) -> bool {
    let changed = waitid(Id::Pid(pid), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG);
    matches!(changed, Ok(WaitStatus::Stopped(..)))
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
