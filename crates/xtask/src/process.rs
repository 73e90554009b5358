//! The processes and folders of one run. Whatever way the run ends (done, failed, ctrl-c), the
//! processes it started are ended, each by its own pid, and its temporary folders are removed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
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

/// What a signal handler has to clear away.
struct Run {
    /// Started and not yet reaped, so that no pid here can have become another process.
    running: Vec<Pid>,
    folders: Vec<PathBuf>,
}

static RUN: Mutex<Run> = Mutex::new(Run { running: Vec::new(), folders: Vec::new() });

fn run() -> MutexGuard<'static, Run> {
    RUN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on ctrl-c, SIGTERM and SIGHUP clear up before they end this program.
pub(crate) fn clear_up_on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("can't handle signals")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let run = run(); // held to the end: nobody starts or reaps anything any more
            run.running.iter().for_each(|pid| end(*pid));
            for folder in &run.folders {
                let _ = std::fs::remove_dir_all(folder);
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// With time to end what it started itself: spantap has a child.
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

/// A fresh folder, removed on drop.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tracing-usdt-").tempdir();
        let folder = folder.context("can't make a temporary folder; set TMPDIR to where there is room")?;
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

/// The lines of a pipe as they come, so that one can wait for them with a time limit.
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

/// Has cargo build what `arguments` say, with its usual progress on stderr, and returns the executables by
/// their names.
pub(crate) fn cargo_build(root: &Path, arguments: &[&str]) -> Result<HashMap<String, PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
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

/// A process that we started; ended on drop unless it has ended.
pub(crate) struct Started {
    name: String,
    pid: Pid,
    child: Child,
}

impl Started {
    /// `name` is what messages call it.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let mut run = run();
        let child = command
            .spawn()
            .with_context(|| format!("can't start {name} ({})", command.get_program().to_string_lossy()))?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        run.running.push(pid);
        Ok(Self { name: name.to_owned(), pid, child })
    }

    /// Once each, and only for what was piped.
    pub(crate) fn output(&mut self) -> Result<(ChildStdout, Option<ChildStderr>)> {
        let stdout = self.child.stdout.take().with_context(|| format!("no pipe from {}", self.name))?;
        Ok((stdout, self.child.stderr.take()))
    }

    /// Once, and only if it was piped.
    pub(crate) fn input(&mut self) -> Result<ChildStdin> {
        self.child.stdin.take().with_context(|| format!("no pipe to {}", self.name))
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).with_context(|| format!("can't send {signal} to {}", self.name))
    }

    /// Its status if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let mut run = run();
        let status = self.child.try_wait().with_context(|| format!("can't wait for {}", self.name))?;
        if status.is_some() {
            run.running.retain(|pid| *pid != self.pid);
        }
        Ok(status)
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self, at_most: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} (pid {}) still runs after {} s", self.name, self.pid, at_most.as_secs());
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
