//! Runs the fixture.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use crate::{Linkage, Process};

/// A running traced program that takes commands. Dropping the value kills it.
pub struct Fixture {
    child: Process,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Fixture {
    /// Starts the executable or library at `path`. With `socket`, it sends its spans there.
    pub fn start(path: &Path, linkage: Linkage, socket: Option<&Path>) -> Self {
        let mut command = match linkage {
            Linkage::Executable => Command::new(path),
            Linkage::Cdylib => {
                let mut python = Command::new("python3");
                let load = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).fixture_obey()";
                python.args(["-c", load]).arg(path);
                python
            }
        };
        Self::spawn(&mut command, socket)
    }

    /// Starts a fixture by `command`.
    pub fn spawn(command: &mut Command, socket: Option<&Path>) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).env("OTEL_SERVICE_NAME", "fixture");
        command.env_remove("TRACING_USDT_SOCKET").envs(socket.map(|path| ("TRACING_USDT_SOCKET", path)));
        // On a busy machine a receiver may be slow for a while, so closing threads wait. With inline delivery
        // each span is sent alone before its close returns. Tests of other settings set these variables
        // themselves.
        for (variable, value) in [("TRACING_USDT_MAX_WAIT_MS", "10000"), ("TRACING_USDT_DELIVERY", "inline")]
        {
            if !command.get_envs().any(|(set, _)| set == variable) {
                command.env(variable, value);
            }
        }
        let mut child = Process(command.spawn().unwrap_or_else(|e| panic!("can't start {command:?}: {e}")));
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut fixture = Self { child, stdin, stdout };
        assert_eq!(fixture.line(), "ready");
        fixture
    }

    /// Runs a command, and returns what it printed.
    pub fn run(&mut self, command: &str) -> String {
        self.begin(command);
        self.finish()
    }

    /// Waits for the end of a command that was begun, and returns what it printed.
    pub fn finish(&mut self) -> String {
        let mut printed = String::new();
        loop {
            match self.line() {
                line if line == "done" => return printed,
                line => printed += &line,
            }
        }
    }

    /// Begins a command, and returns when it has printed `line`.
    pub fn run_until(&mut self, command: &str, line: &str) {
        self.begin(command);
        assert_eq!(self.line(), line);
    }

    /// Begins a command, and does not wait for it.
    pub fn begin(&mut self, command: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    /// Runs a command that ends the process, and waits for the end.
    pub fn run_last(mut self, command: &str) -> ExitStatus {
        self.begin(command);
        self.child.wait().unwrap()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it by the end of its input. It must exit with 0.
    pub fn end(mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the fixture ended with {status}");
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the fixture has ended: {:?}", self.child.try_wait());
        line.trim_end().to_owned()
    }
}
