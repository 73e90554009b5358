//! Runs bpftrace, and waits until it is attached.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{TIMEOUT, wait_until};

/// What tests with bpftrace need.
pub const NEEDS: [&str; 3] = ["bpftrace", "root", "btf"];

/// Probes that print, put before and after the script. bpftrace attaches in order or in reverse, so once both
/// have fired, all probes between them are attached.
const FIRST: &str = "interval:ms:10 { printf(\"!first\\n\"); }\n";
const LAST: &str = "interval:ms:10 { printf(\"!tick\\n\"); }\n";

fn is_marker(line: &str) -> bool {
    line.starts_with('!')
}

/// A running bpftrace. Dropping the value ends it.
pub struct Bpftrace {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Bpftrace {
    /// Attaches `script`, with `pid` to that process only, and returns when it is attached.
    pub fn attach(script: &str, pid: Option<u32>) -> Self {
        let mut command = Command::new("bpftrace");
        command.args(["-B", "line", "-e", &format!("{FIRST}{script}\n{LAST}")]);
        if let Some(pid) = pid {
            command.args(["-p", &pid.to_string()]);
        }
        Self::attached(&mut command)
    }

    /// Attaches the tool in the file `tool`, with its arguments, and returns when it is attached.
    pub fn attach_tool(tool: &Path, args: &[&str]) -> Self {
        let text = std::fs::read_to_string(tool).unwrap();
        let (shebang, script) = text.split_once('\n').unwrap();
        assert_eq!(shebang, "#!/usr/bin/env bpftrace");
        let marked = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&marked, format!("{FIRST}{script}\n{LAST}")).unwrap();
        Self::attached(with_tracefs("bpftrace").args(["-B", "line"]).arg(marked.path()).args(args))
    }

    /// Starts the tool in the file `tool` as a user does.
    pub fn run_tool(tool: &Path, args: &[&str]) -> Self {
        Self::spawn(with_tracefs(&tool.to_string_lossy()).args(args))
    }

    fn attached(command: &mut Command) -> Self {
        let mut bpftrace = Self::spawn(command);
        bpftrace.wait_for("!first");
        bpftrace.wait_for("!tick");
        bpftrace
    }

    fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // 16 MiB a processor, for the time when a busy machine keeps bpftrace from reading.
        command.env("BPFTRACE_PERF_RB_PAGES", "4096");
        let mut child = command.spawn().unwrap_or_else(|e| panic!("can't start {command:?}: {e}"));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                sink.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self { child, lines, reader: Some(reader) }
    }

    /// A line of a script for `probe` of the executable or library at `path`.
    pub fn probe(path: &Path, probe: &str, action: &str) -> String {
        format!("usdt:{}:tracing:{probe} {{ {action} }}\n", path.display())
    }

    /// The lines printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line that contains `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        wait_until(&format!("bpftrace prints {text:?}"), || {
            let found = self.lines.lock().unwrap().iter().any(|line| line.contains(text));
            if let (false, Some(status)) = (found, self.child.try_wait().unwrap()) {
                panic!("bpftrace ended with {status} before it printed {text:?}: {:?}", self.lines());
            }
            found
        });
    }

    /// Detaches, and returns all lines that the script's own probes printed.
    pub fn end(mut self) -> Vec<String> {
        self.wait_for_the_rest();
        self.interrupt();
        self.reader.take().unwrap().join().unwrap();
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        let lost = lines.iter().find(|line| line.starts_with("Lost "));
        assert!(lost.is_none(), "bpftrace could not keep up: {lost:?}");
        let is_output =
            |line: &String| !line.is_empty() && !line.starts_with('!') && !line.starts_with("Attaching ");
        lines.into_iter().filter(is_output).collect()
    }

    /// At the signal bpftrace discards what is still in its buffers. It reads one processor's buffer after the
    /// other, so the buffers are empty once two rounds of ticks have passed with nothing but ticks.
    fn wait_for_the_rest(&self) {
        let counts = || {
            let lines = self.lines.lock().unwrap();
            let ticks = lines.iter().filter(|line| is_marker(line)).count();
            (ticks, lines.len() - ticks)
        };
        let mut quiet = if counts().0 == 0 { 2 } else { 0 };
        while quiet < 2 {
            let (ticks, others) = counts();
            wait_until("bpftrace prints ticks", || counts().0 >= ticks + 10);
            quiet = if counts().1 == others { quiet + 1 } else { 0 };
        }
    }

    /// Repeats the signal, because bpftrace loses one that comes while it is still attaching. But repeats it
    /// seldom, because once bpftrace has detached, a second signal ends it before it prints its maps.
    fn interrupt(&mut self) {
        let pid = Pid::from_raw(self.child.id() as i32);
        let begin = Instant::now();
        let mut next = begin;
        while self.child.try_wait().unwrap().is_none() {
            if Instant::now() >= next {
                let signal = if begin.elapsed() < TIMEOUT { Signal::SIGINT } else { Signal::SIGKILL };
                kill(pid, signal).unwrap();
                next += Duration::from_secs(5);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        if self.reader.is_some() {
            self.interrupt();
        }
    }
}

/// `program` with a mounted tracefs, which lists the kernel's tracepoints: if needed, in a mount namespace of
/// its own.
fn with_tracefs(program: &str) -> Command {
    if Path::new("/sys/kernel/tracing/events").exists() {
        return Command::new(program);
    }
    let mut unshare = Command::new("unshare");
    let mount = "mount -t tracefs tracefs /sys/kernel/tracing && exec \"$@\"";
    unshare.args(["--mount", "sh", "-c", mount, "sh", program]);
    unshare
}
