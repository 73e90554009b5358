//! The collector as its user runs it.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::build::workspace;
use crate::{Process, need, wait_until};

/// What tests need for `attach`.
pub const EBPF: [&str; 3] = ["clang", "root", "btf"];

/// A running one. It ends with the value.
pub struct Spantap {
    child: Process,
    folder: tempfile::TempDir,
    socket: PathBuf,
}

/// What one left behind.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it showed.
    pub stdout: String,
    /// What it said beside it.
    pub stderr: String,
}

/// What one left behind that was killed: the folder with the socket that nobody listens on.
pub struct Killed {
    folder: tempfile::TempDir,
    socket: PathBuf,
    /// What it had said beside its traces.
    pub stderr: String,
}

thread_local! {
    static UNTOLD: Cell<bool> = const { Cell::new(false) };
}

/// Whether one of those that this thread saw end well, since it last asked, said that the kernel did not tell it all.
pub fn take_untold() -> bool {
    UNTOLD.take()
}

impl Spantap {
    /// `spantap listen` on a socket of its own, which is there.
    pub fn listen(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("trace.sock");
        Self::listen_at(folder, socket, args)
    }

    /// The same by way of a program that gives it other limits or rights, such as `prlimit`.
    pub fn listen_by(program: &[&str], args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("trace.sock");
        let listen = command();
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(listen.get_program()).args(listen.get_args());
        command.arg("listen").arg(&socket).args(args);
        let spantap = Self::spawn(&mut command, folder, socket);
        spantap.wait_for_socket();
        spantap
    }

    /// The same on another's socket, after it was killed.
    pub fn listen_again(other: Self, args: &[&str]) -> Self {
        Self::listen_after(other.kill(), args)
    }

    /// The same.
    pub fn listen_after(killed: Killed, args: &[&str]) -> Self {
        Self::listen_at(killed.folder, killed.socket, args)
    }

    fn listen_at(folder: tempfile::TempDir, socket: PathBuf, args: &[&str]) -> Self {
        let mut command = command();
        command.arg("listen").arg(&socket).args(args);
        let spantap = Self::spawn(&mut command, folder, socket);
        spantap.wait_for_socket();
        spantap
    }

    /// `spantap attach`, which is attached.
    pub fn attach(args: &[impl AsRef<OsStr>]) -> Self {
        Self::attach_with(args, &[])
    }

    /// The same with more in its environment.
    pub fn attach_with(args: &[impl AsRef<OsStr>], environment: &[(&str, &str)]) -> Self {
        let mut command = command();
        command.arg("attach").args(args).envs(environment.iter().copied());
        Self::attach_by(&mut command)
    }

    /// The same by a command that runs it.
    pub fn attach_by(command: &mut Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("not used");
        let mut spantap = Self::spawn(command, folder, socket);
        wait_until("spantap is attached", || {
            let ended = spantap.child.try_wait().unwrap();
            assert!(ended.is_none(), "spantap ended with {ended:?}: {}", spantap.stderr());
            spantap.stderr().contains("attached to ")
        });
        spantap
    }

    /// `spantap run` of a program.
    pub fn run(args: &[&str], program: &[&str]) -> Self {
        Self::run_with(args, program, |_| {})
    }

    /// The same by a command that is changed before.
    pub fn run_with(args: &[&str], program: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("not used");
        let mut command = command();
        command.arg("run").args(args).arg("--").args(program);
        change(&mut command);
        Self::spawn(&mut command, folder, socket)
    }

    /// `spantap listen` in a terminal of so many columns; what it writes there comes out of the file.
    pub fn listen_in_terminal(columns: u16, environment: &[(&str, &str)]) -> (Self, fs::File) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("trace.sock");
        let size = nix::pty::Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = nix::pty::openpty(&size, None).unwrap();
        let mut command = command();
        command.arg("listen").arg(&socket).env("TERM", "xterm").env_remove("NO_COLOR");
        command.envs(environment.iter().copied()).stdin(Stdio::null());
        command.stdout(pty.slave.try_clone().unwrap()).stderr(pty.slave);
        let child = Process(command.spawn().unwrap());
        // Its own files are empty: all it has to say goes to the terminal.
        for name in ["stdout", "stderr"] {
            fs::File::create(folder.path().join(name)).unwrap();
        }
        let spantap = Self { child, folder, socket };
        spantap.wait_for_socket();
        (spantap, pty.master.into())
    }

    fn wait_for_socket(&self) {
        wait_until("spantap listens", || UnixDatagram::unbound().unwrap().connect(&self.socket).is_ok());
    }

    fn spawn(command: &mut Command, folder: tempfile::TempDir, socket: PathBuf) -> Self {
        let file = |name: &str| fs::File::create(folder.path().join(name)).unwrap();
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let child = command.spawn().unwrap_or_else(|e| panic!("can't start {command:?}: {e}"));
        Self { child: Process(child), folder, socket }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// What it showed so far.
    pub fn stdout(&self) -> String {
        read(&self.folder.path().join("stdout"))
    }

    /// What it said beside it so far.
    pub fn stderr(&self) -> String {
        read(&self.folder.path().join("stderr"))
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(self) -> Ended {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        self.wait()
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self) -> Ended {
        let mut status = None;
        wait_until("spantap ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let ended = Ended { status: status.unwrap(), stdout: self.stdout(), stderr: self.stderr() };
        let is_untold = ended.status.success() && ended.stderr.contains("the kernel did not tell");
        UNTOLD.set(UNTOLD.get() || is_untold);
        ended
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) -> Killed {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let stderr = self.stderr();
        Killed { folder: self.folder, socket: self.socket, stderr }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

fn command() -> Command {
    // A shell without job control starts what runs in the background with SIGINT ignored.
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP,INT,QUIT,TERM").arg(program("spantap"));
    // What somebody may have set for themselves.
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("OTEL_") || name.starts_with("TRACING_USDT_") || name == "COLUMNS" {
            command.env_remove(&variable);
        }
    }
    command
}

/// A program of this workspace, as `cargo test` builds it.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let target = workspace().join("target");
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(workspace()).args(["build", "--quiet", "--locked", "--workspace"]);
        for bin in ["spantap", "shop", "hyper_client", "axum_server", "tonic_server", "w3c_service"] {
            cargo.args(["--bin", bin]);
        }
        if need(&["clang"]) {
            cargo.args(["--features", "spantap/ebpf"]);
        }
        cargo.arg("--target-dir").arg(&target);
        let output = cargo.output().unwrap_or_else(|e| panic!("can't run cargo: {e}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
    target.join("debug").join(name)
}
