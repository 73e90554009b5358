//! The processes and temporary folders of one run. When the run ends, also by an error or ctrl-c, its processes are
//! ended, each by its pid, and its folders are removed.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What must be cleaned up at a signal.
struct Run {
    /// Processes that were started and not yet reaped. So the kernel can't have reused a pid in here.
    running: Vec<Pid>,
    folders: Vec<PathBuf>,
}

static RUN: Mutex<Run> = Mutex::new(Run { running: Vec::new(), folders: Vec::new() });

fn run() -> MutexGuard<'static, Run> {
    RUN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes ctrl-c, SIGTERM and SIGHUP clean up before they end this program.
pub(crate) fn clean_up_on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("can't handle signals")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let run = run(); // held to the end, so that no process is started or reaped meanwhile
            run.running.iter().for_each(|pid| end(*pid));
            for folder in &run.folders {
                let _ = std::fs::remove_dir_all(folder);
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Gives the process time to end its own children: spantap may have one.
fn end(pid: Pid) {
    let _ = kill(pid, Signal::SIGTERM);
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        if waitpid(pid, Some(WaitPidFlag::WNOHANG)) != Ok(WaitStatus::StillAlive) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}

/// A new temporary folder, removed on drop.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tracing-usdt-").tempdir();
        let folder =
            folder.context("can't make a temporary folder; set TMPDIR to a folder with free space")?;
        run().folders.push(folder.path().to_owned());
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        run().folders.retain(|folder| folder != self.0.path());
    }
}

/// Reads the lines of a pipe in a thread, so that the receiver can wait for them with a timeout.
pub(crate) fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let lines = BufReader::new(pipe).lines().map_while(Result::ok);
        for line in lines {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// cargo, with the environment that it has in a shell. `cargo run` describes xtask's own package in variables; `ring` is built
/// again, and with it all that uses it, each time these change.
pub(crate) fn cargo(program: impl AsRef<OsStr>) -> Command {
    let mut cargo = Command::new(program);
    let is_of_package = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    std::env::vars_os()
        .map(|(name, _)| name)
        .filter(is_of_package)
        .for_each(|name| _ = cargo.env_remove(name));
    cargo
}

/// Runs `cargo build` with `arguments`, with its usual progress on stderr, and returns the executables by name.
pub(crate) fn cargo_build(root: &Path, arguments: &[&str]) -> Result<HashMap<String, PathBuf>> {
    let mut command = cargo(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .arg("build")
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut cargo = Started::spawn("cargo", &mut command)?;
    let messages = lines(cargo.output()?.0);
    let executable = |line: String| {
        let message: Value = serde_json::from_str(&line).ok()?;
        let path = message["executable"].as_str()?;
        Some((message["target"]["name"].as_str()?.to_owned(), path.into()))
    };
    let executables = messages.iter().filter_map(executable).collect();
    let status = cargo.wait(Duration::from_secs(30 * 60))?;
    if !status.success() {
        bail!("`cargo build {}` failed ({status}); see its messages above", arguments.join(" "));
    }
    Ok(executables)
}

/// Runs `command` without showing its output and without a terminal, and returns its stdout. If it fails, the error is
/// the last line of its stderr. The output goes to files, because a service that it starts may keep a pipe open.
pub(crate) fn capture(command: &mut Command, at_most: Duration) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let files = || Ok::<_, io::Error>((tempfile::tempfile()?, tempfile::tempfile()?));
    let (stdout, stderr) =
        files().context("can't make a temporary file; set TMPDIR to a folder with free space")?;
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let status = Started::spawn(&name, command)?.wait(at_most)?;
    let text = |mut file: File| -> Result<String> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    if status.success() {
        return text(stdout);
    }
    let stderr = text(stderr)?;
    let reason = stderr.lines().rfind(|line| !line.trim().is_empty());
    bail!("{}", reason.map_or(status.to_string(), str::to_owned))
}

/// A process of this run. Dropping it ends the process.
pub(crate) struct Started {
    name: String,
    pid: Pid,
    child: Child,
}

impl Started {
    /// `name` is the name in error messages.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let mut run = run();
        let child = command
            .spawn()
            .with_context(|| format!("can't start {name} ({})", command.get_program().to_string_lossy()))?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        run.running.push(pid);
        Ok(Self { name: name.to_owned(), pid, child })
    }

    /// Takes the pipes of stdout and, if there is one, of stderr. Call it once, and only if stdout was piped.
    pub(crate) fn output(&mut self) -> Result<(ChildStdout, Option<ChildStderr>)> {
        let stdout = self.child.stdout.take().with_context(|| format!("no pipe from {}", self.name))?;
        Ok((stdout, self.child.stderr.take()))
    }

    /// Takes the pipe of stderr. Call it once, and only if stderr was piped.
    pub(crate) fn errors(&mut self) -> Result<ChildStderr> {
        self.child.stderr.take().with_context(|| format!("no pipe from {}", self.name))
    }

    /// Takes the pipe of stdin. Call it once, and only if stdin was piped.
    pub(crate) fn input(&mut self) -> Result<ChildStdin> {
        self.child.stdin.take().with_context(|| format!("no pipe to {}", self.name))
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).with_context(|| format!("can't send {signal} to {}", self.name))
    }

    /// The most memory that the process has had at once so far, in bytes. `None` if it has ended.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(1024 * line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?)
    }

    /// The exit status if the process has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let mut run = run();
        let status = self.child.try_wait().with_context(|| format!("can't wait for {}", self.name))?;
        if status.is_some() {
            run.running.retain(|pid| *pid != self.pid);
        }
        Ok(status)
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn wait(&mut self, at_most: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} (pid {}) is still running after {} s", self.name, self.pid, at_most.as_secs());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Ok(None) = self.ended() {
            let mut run = run();
            end(self.pid);
            run.running.retain(|pid| *pid != self.pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_failed_command_is_its_last_line() {
        let run = |script| capture(Command::new("sh").args(["-c", script]), Duration::from_secs(60));
        assert_eq!(run("echo out; echo err >&2").expect("it succeeds"), "out\n");
        let why = run("echo first >&2; echo last >&2; echo >&2; exit 3").expect_err("it fails");
        assert_eq!(why.to_string(), "last");
        assert_eq!(run("exit 3").expect_err("it fails").to_string(), "exit status: 3");
    }
}
