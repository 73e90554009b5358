//! `spantap run`: runs a program as a child process, with a socket of its own.

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

use super::cli::Run;
use super::collect::Collect;
use super::signals::{Blocked, Received, Signals, stop};
use crate::capture::Rotation;
use crate::source::{Folder, Source};
use crate::terminal::Stream;

/// Runs the program and shows its traces until it ends. Passes all signals in `blocked` on to the program.
///
/// # Errors
///
/// When the program can't be started, or the collector can't run.
pub(super) async fn run(run: Run, blocked: Blocked, folder: Folder, rotation: Rotation) -> Result<ExitCode> {
    let socket = folder.bind()?;
    let mut command = Command::new(run.command.first().cloned().unwrap_or_default());
    command.args(run.command.iter().skip(1)).env("TRACING_USDT_SOCKET", socket.path());
    // OTLP has times in nanoseconds and typed attributes, which Zipkin, the default, does not have. Protobuf is the fastest
    // to read.
    if std::env::var_os("TRACING_USDT_FORMAT").is_none() {
        command.env("TRACING_USDT_FORMAT", "otlp-protobuf");
    }
    // A format or a delivery that has no reports of open spans would complain.
    let is_set = |variable, values: &[&str]| {
        let value = std::env::var(variable).unwrap_or_default().trim().to_ascii_lowercase();
        values.contains(&&*value)
    };
    if std::env::var_os("TRACING_USDT_OPEN_SPANS").is_none()
        && !is_set("TRACING_USDT_FORMAT", &["zipkin"])
        && !is_set("TRACING_USDT_DELIVERY", &["inline"])
    {
        command.env("TRACING_USDT_OPEN_SPANS", "1s");
    }
    blocked.leave_to(&mut command);
    let signals = blocked.read()?;
    let collect = Collect {
        source: Source::Socket { socket, allowed_uids: Vec::new() },
        common: run.common,
        rotation,
        // stdout belongs to the program.
        stream: Stream::Stderr,
        owns_terminal: false,
    };
    // The program's exit code, even if a second signal came.
    let (code, _) = collect.run(child(command, signals)).await?;
    Ok(ExitCode::from(code))
}

/// How long the program may take to stop after it got the signal.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the program from start to end and returns its exit code.
///
/// spantap stops and continues together with the program. On a stop signal from the terminal or a supervisor, the
/// program stops first and spantap after it, so that a shell sees the job stopped and `fg` continues both. If the
/// program does not stop, neither does spantap.
async fn child(command: Command, mut signals: Signals) -> Result<(u8, Signals)> {
    let name = command.get_program().to_owned();
    let mut child = tokio::process::Command::from(command).spawn().map_err(|why| StartError { name, why })?;
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
                // The child was not reaped yet, so the pid is still its own.
                if let Some(pid) = pid {
                    pass_on(received, pid);
                }
            }
            _ = changes.recv() => {}
        }
        // A program that ignored the signal and stops much later was stopped alone: spantap does not follow.
        stopping = stopping.filter(|(_, since)| since.elapsed() < STOP_TIMEOUT);
        if let Some((signal, _)) = stopping {
            if pid.is_some_and(has_stopped) {
                stopping = None;
                stop(signal);
            }
        }
    }
}

/// Sends the signal to the program, unless the program already got it.
fn pass_on(received: Received, pid: Pid) {
    let has_it = received.is_from_terminal() && getpgid(Some(pid)) == Ok(getpgrp());
    // A program may signal its parent that it is ready; that signal is not meant for the program itself.
    let is_its_own = received.sender() == pid.as_raw() as u32;
    if !has_it && !is_its_own && !received.is_our_fault() {
        // nix has no real-time signals.
        #[allow(unsafe_code)]
        // SAFETY: two numbers are passed, and no memory is touched.
        let _ = unsafe { libc::kill(pid.as_raw(), received.number()) };
    }
}

/// Whether the process has stopped since the last call.
fn has_stopped(pid: Pid) -> bool {
    let changed = waitid(Id::Pid(pid), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG);
    matches!(changed, Ok(WaitStatus::Stopped(..)))
}

/// The program could not be started.
#[derive(Debug)]
pub(super) struct StartError {
    name: OsString,
    why: io::Error,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't run {}; is it on the PATH and executable?", self.name.to_string_lossy())
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.why)
    }
}

impl StartError {
    /// 127 if the program was not found, else 126, as shells, env and nohup return.
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.why.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
    }
}

/// The program's own code, or 128 plus the number of the signal that ended it, as shells return.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
