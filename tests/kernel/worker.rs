//! A program that takes commands, and spantap attached to it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use e2e::{Ended, Process, Spantap, program};
use serde_json::Value;

use crate::found::Spans;

/// A running program that takes commands. Dropping the value kills it.
pub(crate) struct Worker {
    pub(crate) child: Process,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    pub(crate) fn start() -> Self {
        Self::spawn(&mut Command::new(env!("CARGO_BIN_EXE_kernel_work")))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = Process(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut worker = Self { child, stdin, stdout };
        assert_eq!(worker.line(), "ready");
        worker
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Begins a command, and does not wait for it.
    pub(crate) fn begin(&mut self, command: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    /// Runs a command, and returns what the program measured.
    pub(crate) fn run(&mut self, command: &str) -> Value {
        self.begin(command);
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{command}: {line:?}: {error}"))
    }

    pub(crate) fn end(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

/// A worker with spantap attached to it.
pub(crate) struct Attached {
    pub(crate) worker: Worker,
    pub(crate) spantap: Spantap,
    pub(crate) output: Output,
}

impl Attached {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::to(Worker::start(), args)
    }

    pub(crate) fn to(worker: Worker, args: &[&str]) -> Self {
        Self::with(worker, args, &[])
    }

    pub(crate) fn with(worker: Worker, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let output = Output::new();
        let (pid, to) = (worker.pid(), output.to());
        let args = [&["--pid", &*pid, "--to", &to], args].concat();
        let spantap = Spantap::attach_with(&args, environment);
        Self { worker, spantap, output }
    }

    /// Attaches as if the kernel lacked the tracepoint: spantap sees a copy of the kernel's types in which it
    /// has another name.
    pub(crate) fn lacking(tracepoint: &str, worker: Worker) -> Self {
        Self::lacking_with(tracepoint, worker, &[])
    }

    /// The same, with additional variables in spantap's environment.
    pub(crate) fn lacking_with(tracepoint: &str, worker: Worker, environment: &[(&str, &str)]) -> Self {
        let name = format!("\0btf_trace_{tracepoint}\0").into_bytes();
        let mut types = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        let at = types.windows(name.len()).position(|bytes| bytes == name).expect("this kernel has it");
        types[at + name.len() - 2] = b'_';
        let output = Output::new();
        let btf = output.path("btf");
        std::fs::write(&btf, types).unwrap();

        let hide = "mount --bind \"$0\" /sys/kernel/btf/vmlinux && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.envs(environment.iter().copied());
        command.args(["--mount", "sh", "-c", hide]).arg(&btf).arg(program("spantap"));
        command.args(["attach", "--pid", &worker.pid(), "--to", &output.to()]);
        let spantap = Spantap::attach_by(&mut command);
        Self { worker, spantap, output }
    }

    pub(crate) fn run(&mut self, command: &str) -> Value {
        self.worker.run(command)
    }

    /// Runs all commands, and ends. Returns the measurements, the spans and the end of spantap.
    pub(crate) fn run_all<const N: usize>(mut self, commands: [&str; N]) -> ([Value; N], Spans, Ended) {
        let measured = commands.map(|command| self.run(command));
        let (spans, ended) = self.end();
        (measured, spans, ended)
    }

    /// Ends the worker, and with it spantap.
    pub(crate) fn end(self) -> (Spans, Ended) {
        self.worker.end();
        let ended = self.spantap.wait();
        assert!(ended.status.success(), "{ended:?}");
        (self.output.spans(), ended)
    }
}

/// A folder for spantap's spans.
pub(crate) struct Output(tempfile::TempDir);

impl Output {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A copy of the worker that no other test runs.
    pub(crate) fn worker(&self) -> PathBuf {
        let path = self.path("kernel_work");
        std::fs::copy(env!("CARGO_BIN_EXE_kernel_work"), &path).unwrap();
        path
    }

    /// The argument for `--to`.
    pub(crate) fn to(&self) -> String {
        format!("jsonl={}", self.path("spans.jsonl").display())
    }

    pub(crate) fn spans(&self) -> Spans {
        Spans::read(&self.path("spans.jsonl"))
    }
}

/// A file on a disk. `/tmp` may be in memory.
pub(crate) fn file_on_a_disk() -> tempfile::NamedTempFile {
    // Writes of other programs keep kernel threads busy, and these would write the test's data, too.
    nix::unistd::sync();
    tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}
