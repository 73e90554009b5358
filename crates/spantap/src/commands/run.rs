//! `spantap run`: runs a program as a child process, with a socket of its own.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgid, getpgrp};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::cli::Run;
use super::collect::{Collect, Output};
use super::signals::{Blocked, Received, Signals, stop};
use crate::flight::{FlightRecorder, Trigger};
use crate::source::{Folder, Source};

/// Runs the program and shows its traces until it ends. Passes all signals in `blocked` on to the program.
///
/// # Errors
///
/// When the program can't be started, or the collector can't run.
pub(super) async fn run(run: Run, blocked: Blocked, folder: Folder, output: Output) -> Result<ExitCode> {
    let socket = folder.bind()?;
    let mut command = Command::new(run.command.first().cloned().unwrap_or_default());
    command.args(run.command.iter().skip(1)).env("TRACING_USDT_SOCKET", socket.path());
    // OTLP has times in nanoseconds and typed attributes, which Zipkin, the default, does not have. Protobuf is the fastest
    // to read.
    if std::env::var_os("TRACING_USDT_FORMAT").is_none() {
        command.env("TRACING_USDT_FORMAT", "otlp-protobuf");
    }
    if let Some(file) = output.of_program {
        command.stdin(Stdio::null());
        command.stdout(file.try_clone().context("can't write the program's output")?).stderr(file);
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
    let mut signals = blocked.read()?;
    signals.trigger(output.flight.clone());
    let flight = output.flight.clone();
    let collect = Collect {
        source: Source::Socket { socket, allowed_uids: Vec::new() },
        common: run.common,
        rotation: output.rotation,
        flight: output.flight,
        // stdout belongs to the program, unless there is a full screen.
        stream: output.stream,
        top: output.top,
        owns_terminal: false,
    };
    // The program's exit code, even if a second signal came.
    let (code, _) = collect.run(child(command, signals, flight, output.quits)).await?;
    Ok(ExitCode::from(code))
}

/// How long the program may take to stop after it got the signal.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the program from start to end and returns its exit code.
///
/// spantap stops and continues together with the program. On a stop signal from the terminal or a supervisor, the
/// program stops first and spantap after it, so that a shell sees the job stopped and `fg` continues both. If the
/// program does not stop, neither does spantap. When the user quits the full screen, the program gets SIGTERM.
async fn child(
    command: Command,
    mut signals: Signals,
    flight: Option<Arc<FlightRecorder>>,
    quits: Option<oneshot::Receiver<()>>,
) -> Result<(u8, Signals)> {
    let name = command.get_program().to_owned();
    let mut child = tokio::process::Command::from(command).spawn().map_err(|why| StartError { name, why })?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let mut changes = signal(SignalKind::child()).context("can't watch the program")?;
    let mut stopping: Option<(Signal, Instant)> = None;
    let (mut quit, mut has_quit) = (pin!(Output::quit(quits)), false);
    let mut asked = None;
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.context("can't wait for the program")?;
                if let Some((flight, how)) = flight.zip(death(status, asked)) {
                    flight.trigger(Trigger::Death(how));
                }
                return Ok((exit_code(status), signals));
            }
            received = signals.receive() => {
                if received.stops().is_some() || received.continues() {
                    stopping = received.stops().map(|signal| (signal, Instant::now()));
                }
                asked = received.asks_to_end().or(asked);
                // The child was not reaped yet, so the pid is still its own.
                if let Some(pid) = pid {
                    pass_on(received, pid);
                }
            }
            _ = changes.recv() => {}
            () = &mut quit, if !has_quit => {
                has_quit = true;
                // The child was not reaped yet, so the pid is still its own.
                let _ = pid.map(|pid| kill(pid, Signal::SIGTERM));
            }
        }
        // A program that ignored the signal and stops much later was stopped alone: spantap does not follow.
        stopping = stopping.filter(|(_, since)| since.elapsed() < STOP_TIMEOUT);
        if let Some((signal, _)) = stopping
            && pid.is_some_and(has_stopped)
        {
            stopping = None;
            stop(signal);
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

/// How the program died, if it did. It did not if it ended because `asked` asked it to, as far as its status tells.
fn death(status: ExitStatus, asked: Option<Signal>) -> Option<String> {
    let asked = asked.map(|signal| signal as i32);
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        // Shells, and programs that clean up first, exit like this.
        (Some(code), _) if asked.is_some_and(|signal| code == 128 + signal) => None,
        (_, Some(signal)) if asked == Some(signal) => None,
        (Some(code), _) => Some(format!("the program ended with exit code {code}")),
        (None, Some(number)) => Some(match Signal::try_from(number) {
            Ok(signal) => format!("{signal} ended the program"),
            Err(_) => format!("signal {number} ended the program"),
        }),
        (None, None) => Some("the program ended".to_owned()),
    }
}

/// The program's own code, or 128 plus the number of the signal that ended it, as shells return.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_asked_to_end_has_not_died() {
        let code = |code: i32| ExitStatus::from_raw(code << 8);
        let signal = ExitStatus::from_raw;
        let cases = [
            (code(0), None, None),
            (code(3), None, Some("the program ended with exit code 3")),
            (code(139), Some(Signal::SIGINT), Some("the program ended with exit code 139")),
            (signal(11), None, Some("SIGSEGV ended the program")),
            (signal(11 | 0x80), None, Some("SIGSEGV ended the program")),
            (signal(9), Some(Signal::SIGTERM), Some("SIGKILL ended the program")),
            (signal(15), None, Some("SIGTERM ended the program")),
            (signal(15), Some(Signal::SIGTERM), None),
            (code(130), Some(Signal::SIGINT), None),
            (code(1), Some(Signal::SIGINT), Some("the program ended with exit code 1")),
        ];
        for (status, asked, expected) in cases {
            assert_eq!(death(status, asked).as_deref(), expected, "{status} {asked:?}");
        }
    }
}
