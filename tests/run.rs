//! `spantap run` under supervisors and in terminals: signals, job control, and the folder of its socket.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use e2e::{MadeUp, Process, Spantap, need, program, send, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Prints the signals that it gets, and ends with SIGTERM.
const PRINTS_SIGNALS: &str = r#"
import os, signal, sys, time
def got(number, _):
    os.write(1, b"got %d\n" % number)
    if number == signal.SIGTERM:
        os._exit(42)
for number in range(1, signal.NSIG):
    try:
        signal.signal(number, got)
    except (OSError, ValueError):
        pass
os.write(1, b"ready %d %s\n" % (os.getpid(), os.environb[b"TRACING_USDT_SOCKET"]))
# Not for ever, if the test fails.
for _ in range(2400):
    time.sleep(0.05)
"#;

/// Sends a span to the socket in its environment.
const SENDS_A_SPAN: &str = r#"
import os, socket
span = b'[{"traceId":"0af7651916cd43dd8448eb211c80319c","id":"b7ad6b7169203331","name":"n","timestamp":1767225600000000,"duration":7}]'
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(span, os.environ["TRACING_USDT_SOCKET"])
print(os.environ["TRACING_USDT_SOCKET"])
"#;

fn kill_by_number(pid: Pid, number: i32) {
    let status = Command::new("kill").args([format!("-{number}"), pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// The pid and the socket that `PRINTS_SIGNALS` has printed, once it is ready.
fn ready(stdout: &str) -> Option<(Pid, PathBuf)> {
    let line = stdout.lines().find_map(|line| line.strip_prefix("ready "))?;
    let (pid, socket) = line.trim().split_once(' ')?;
    Some((Pid::from_raw(pid.parse().ok()?), socket.into()))
}

/// The state of a process by proc(5): R, S, T and so on; `-` if there is no such process.
fn state(pid: Pid) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").map_or('-', |(_, rest)| rest.chars().next().unwrap())
}

/// The folders of `spantap run` in `parent`.
fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("spantap.")).collect()
}

/// Real-time signals, too. Not signals for a fault in the process that gets them (SIGSEGV and so on), and not
/// SIGCHLD.
#[test]
fn every_signal_from_a_supervisor_reaches_the_program_once() {
    if !need(&["python3"]) {
        return;
    }
    let spantap = Spantap::run(&[], &["python3", "-c", PRINTS_SIGNALS]);
    wait_until("the program is ready", || ready(&spantap.stdout()).is_some());
    let of_faults = [4, 5, 7, 8, 11, 17, 31];
    let cannot_be_caught = [9, 19, 32, 33];
    let terminates = 15;
    let numbers = (1..=64).filter(|number| {
        !of_faults.contains(number) && !cannot_be_caught.contains(number) && *number != terminates
    });
    let mut expected = String::new();
    for number in numbers {
        kill_by_number(spantap.pid(), number);
        expected += &format!("got {number}\n");
        wait_until("the program has it", || spantap.stdout().ends_with(&format!("got {number}\n")));
    }
    kill_by_number(spantap.pid(), terminates);
    let ended = spantap.wait();
    assert_eq!(ended.status.code(), Some(42), "{ended:?}");
    assert!(ended.stdout.ends_with(&format!("{expected}got 15\n")), "{}", ended.stdout);
}

/// A supervisor stops and continues spantap, which stops and continues the program.
#[test]
fn spantap_and_its_program_stop_and_continue_together() {
    if !need(&["python3"]) {
        return;
    }
    let waits = "import os, time\nos.write(1, b'ready %d %s\\n' % (os.getpid(), os.environb[b'TRACING_USDT_SOCKET']))\n\
                 while True: time.sleep(0.05)";
    for signal in [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU] {
        // The kernel does not stop processes of an orphaned process group. With a group of its own, spantap has
        // its parent (this test) in another group of the session, as with a shell, and so its group is not
        // orphaned.
        let spantap = Spantap::run_with(&[], &["python3", "-c", waits], |command| {
            command.process_group(0);
        });
        wait_until("the program is ready", || ready(&spantap.stdout()).is_some());
        let (pid, socket) = ready(&spantap.stdout()).unwrap();
        for _ in 0..3 {
            kill(spantap.pid(), signal).unwrap();
            wait_until("both stop", || state(pid) == 'T' && state(spantap.pid()) == 'T');
            kill(spantap.pid(), Signal::SIGCONT).unwrap();
            wait_until("both go on", || state(pid) != 'T' && state(spantap.pid()) != 'T');
            send(&socket, &MadeUp::many(1));
        }
        let ended = spantap.terminate();
        assert_eq!(ended.status.code(), Some(128 + 15), "{signal}");
        assert!(ended.stderr.contains("3 spans in 3 datagrams"), "{signal}: {}", ended.stderr);
    }
}

/// A debugger, for example, stops the program alone. spantap keeps collecting from the program's other
/// processes.
#[test]
fn spantap_keeps_running_while_only_the_program_is_stopped() {
    if !need(&["python3"]) {
        return;
    }
    let spantap = Spantap::run_with(&[], &["python3", "-c", PRINTS_SIGNALS], |command| {
        command.process_group(0);
    });
    wait_until("the program is ready", || ready(&spantap.stdout()).is_some());
    let (pid, _) = ready(&spantap.stdout()).unwrap();
    kill(pid, Signal::SIGSTOP).unwrap();
    wait_until("the program stops", || state(pid) == 'T');
    kill(spantap.pid(), Signal::SIGUSR1).unwrap();
    kill(spantap.pid(), Signal::SIGCONT).unwrap();
    wait_until("the program has both", || {
        spantap.stdout().contains("got 10") && spantap.stdout().contains("got 18")
    });
    assert_ne!(state(spantap.pid()), 'T');
    assert_eq!(spantap.terminate().status.code(), Some(42));
}

/// A shell with job control in a terminal, and the terminal's output.
struct Shell {
    _bash: Process,
    terminal: std::fs::File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Shell {
    fn start() -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait", "bash", "--norc", "--noprofile", "-i"])
            .env("PS1", "$ ")
            .env("TERM", "dumb");
        command.stdin(Stdio::from(pty.slave.try_clone().unwrap()));
        command.stdout(Stdio::from(pty.slave.try_clone().unwrap())).stderr(Stdio::from(pty.slave));
        let bash = Process(command.spawn().unwrap());
        let terminal = std::fs::File::from(pty.master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (sink, mut output) = (Arc::clone(&shown), terminal.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(bytes) = output.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..bytes]);
            }
        });
        Self { _bash: bash, terminal, shown }
    }

    fn press(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, what: &str) {
        wait_until(what, || self.shown().contains(what));
    }
}

#[test]
fn a_terminal_stops_continues_and_interrupts_spantap_and_its_program() {
    if !need(&["python3", "bash", "setsid"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("program.py");
    // Signal 20, SIGTSTP, keeps its default action and stops the program.
    std::fs::write(
        &script,
        PRINTS_SIGNALS.replace("signal.signal(number, got)", "number == 20 or signal.signal(number, got)"),
    )
    .unwrap();
    let mut shell = Shell::start();
    shell.press(&format!("{} run -- python3 {}\n", program("spantap").display(), script.display()));
    wait_until("the program is ready", || ready(&shell.shown()).is_some());
    let (pid, _) = ready(&shell.shown()).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    let spantap = Pid::from_raw(parent);
    for round in 1..=2 {
        shell.press("\x1a");
        wait_until("both stop", || state(pid) == 'T' && state(spantap) == 'T');
        wait_until("the shell sees it", || shell.shown().matches("Stopped").count() >= round);
        shell.press("fg\n");
        wait_until("both go on", || state(pid) != 'T' && state(spantap) != 'T');
        wait_until("the program knows", || shell.shown().matches("got 18").count() >= round);
    }
    // The program prints it once, though the terminal sends it to both processes. The next signal follows it.
    shell.press("\x03");
    shell.wait_for("got 2\r\n");
    kill(spantap, Signal::SIGUSR1).unwrap();
    shell.wait_for("got 10");
    // A supervisor's signal also arrives in a terminal.
    kill(spantap, Signal::SIGINT).unwrap();
    wait_until("the program has it", || shell.shown().matches("got 2\r\n").count() == 2);
    kill(spantap, Signal::SIGTERM).unwrap();
    shell.wait_for("got 15");
    shell.press("echo code $?\n");
    shell.wait_for("code 42");
    assert_eq!(shell.shown().matches("got 2\r\n").count(), 2, "{}", shell.shown());
}

#[test]
fn run_works_with_a_tmpdir_of_any_length_and_removes_its_folder() {
    if !need(&["python3"]) {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    for bytes in [60, 81, 82, 100, 107, 108, 150, 255] {
        let mut folder = parent.path().to_owned();
        // A file's name has at most 255 bytes.
        while folder.as_os_str().len() + 1 < bytes {
            let missing = bytes - folder.as_os_str().len() - 1;
            folder.push("d".repeat(missing.min(50)));
        }
        std::fs::create_dir_all(&folder).unwrap();
        let spantap = Spantap::run_with(&[], &["python3", "-c", SENDS_A_SPAN], |command| {
            command.env("TMPDIR", &folder);
        });
        let ended = spantap.wait();
        assert!(ended.status.success(), "{bytes}: {ended:?}");
        assert!(ended.stderr.contains("1 span in 1 datagram"), "{bytes}: {}", ended.stderr);
        assert!(!Path::new(ended.stdout.trim()).parent().unwrap().exists(), "{bytes}: {}", ended.stdout);
        assert!(folders(&folder).is_empty(), "{bytes}");
    }
    for odd in ["/does/not/exist", "relative", "/proc", ""] {
        let spantap = Spantap::run_with(&[], &["python3", "-c", SENDS_A_SPAN], |command| {
            command.env("TMPDIR", odd);
        });
        let ended = spantap.wait();
        assert!(ended.status.success() && ended.stderr.contains("1 span in 1 datagram"), "{odd}: {ended:?}");
    }
}

/// The program keeps running when spantap is killed.
#[test]
fn no_folder_is_left_when_spantap_is_killed() {
    if !need(&["python3"]) {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let start = || {
        let spantap = Spantap::run_with(&[], &["python3", "-c", PRINTS_SIGNALS], |command| {
            command.env("TMPDIR", parent.path());
        });
        wait_until("the program is ready", || ready(&spantap.stdout()).is_some());
        spantap
    };
    for signal in [Signal::SIGKILL, Signal::SIGILL, Signal::SIGFPE] {
        let spantap = start();
        let (pid, socket) = ready(&spantap.stdout()).unwrap();
        assert_eq!(folders(parent.path()), [socket.parent().unwrap()]);
        kill(spantap.pid(), signal).unwrap();
        wait_until("the folder is gone", || folders(parent.path()).is_empty());
        assert_ne!(state(pid), '-', "the program ended");
        kill(pid, Signal::SIGKILL).unwrap();
    }
    // If all of spantap's processes are killed, the next run removes the folder.
    let spantap = start();
    let (program, _) = ready(&spantap.stdout()).unwrap();
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", spantap.pid())).unwrap();
    let children: Vec<i32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert!(children.len() == 2 && children.contains(&program.as_raw()), "{children:?}");
    children.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGSTOP).unwrap());
    kill(spantap.pid(), Signal::SIGKILL).unwrap();
    children.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap());
    wait_until("all are gone", || children.iter().all(|pid| matches!(state(Pid::from_raw(*pid)), '-' | 'Z')));
    drop(spantap);
    assert_eq!(folders(parent.path()).len(), 1);
    let next = start();
    assert_eq!(folders(parent.path()).len(), 1, "only the next run's folder");
    kill(next.pid(), Signal::SIGTERM).unwrap();
    next.wait();
    assert!(folders(parent.path()).is_empty());
}
