//! A command of spantap that follows files.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::process::Process;
use crate::{TIMEOUT, program, wait_until};

/// A command with `--follow` while it runs.
pub struct Following {
    child: Process,
    lines: Receiver<String>,
}

impl Following {
    /// Starts it, and waits until a signal ends it in its own way.
    pub fn start(command: &str, args: &[&str]) -> Self {
        let mut spantap = Command::new("env");
        spantap.arg("--default-signal=INT,TERM").arg(program("spantap")).args([command, "-f"]).args(args);
        let mut child = spantap.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (line, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|read| line.send(read)));
        let child = Process(child);
        wait_until("it waits for signals", || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
            let mut names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
            names.any(|name| name.is_ok_and(|name| name == "end\n"))
        });
        Self { child, lines }
    }

    /// The next line that it prints.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(TIMEOUT).unwrap()
    }

    /// Whether it prints nothing for so long.
    pub fn is_silent_for(&self, time: Duration) -> bool {
        self.lines.recv_timeout(time).is_err()
    }

    /// The next line, which is JSON.
    pub fn next(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Interrupts it, and returns its exit code and what it said on stderr.
    pub fn interrupt(mut self) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).unwrap();
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}
