//! Runs spantap as a user does.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::build::workspace;
use crate::{Process, need, wait_until};

/// What tests with `spantap attach` need.
pub const EBPF: [&str; 3] = ["clang", "root", "btf"];

/// A running spantap. Dropping the value kills it.
pub struct Spantap {
    child: Process,
    folder: tempfile::TempDir,
    socket: PathBuf,
}

/// The result of a spantap that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its output: the traces.
    pub stdout: String,
    /// Its messages.
    pub stderr: String,
}

/// The remains of a spantap that was killed: its folder, with a socket that is not bound any more.
pub struct Killed {
    folder: tempfile::TempDir,
    socket: PathBuf,
    /// Its messages.
    pub stderr: String,
}

thread_local! {
    static UNREPORTED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a spantap has written that the kernel did not report everything, since this thread's last call.
/// Counts those that ended with success in this thread.
pub fn take_unreported() -> bool {
    UNREPORTED.take()
}

impl Spantap {
    /// Starts `spantap listen` on a socket of its own, and returns when the socket is bound.
    pub fn listen(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("trace.sock");
        Self::listen_at(folder, socket, args)
    }

    /// Starts `spantap listen` by a program that gives it other limits or rights, such as `prlimit`.
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

    /// Starts `spantap listen` for OTLP requests only, and returns when it takes them, with its address.
    pub fn listen_otlp(args: &[&str]) -> (Self, SocketAddr) {
        let mut command = command();
        command.args(["listen", "--otlp", "127.0.0.1:0"]).args(args);
        Self::with_otlp(&mut command)
    }

    /// Starts `spantap record` to `capture` for OTLP requests only, likewise.
    pub fn record_otlp(capture: &Path, args: &[&str]) -> (Self, SocketAddr) {
        let mut command = command();
        command.arg("record").arg(capture).args(["--otlp", "127.0.0.1:0"]).args(args);
        Self::with_otlp(&mut command)
    }

    fn with_otlp(command: &mut Command) -> (Self, SocketAddr) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("not used");
        let mut spantap = Self::spawn(command, folder, socket);
        let address = spantap.otlp_address();
        (spantap, address)
    }

    /// Waits until it takes OTLP requests, and returns its address. It needs `--otlp` with port 0.
    pub fn otlp_address(&mut self) -> SocketAddr {
        let mut found = None;
        wait_until("spantap takes OTLP requests", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "spantap ended with {ended:?}: {}", self.stderr());
            let stderr = self.stderr();
            let at = stderr.split_once("OTLP requests are taken at http");
            let at = at.and_then(|(_, at)| at.split_once("://")?.1.split_once(','));
            found = at.and_then(|(address, _)| address.parse().ok());
            found.is_some()
        });
        found.unwrap()
    }

    /// Kills `other`, and starts `spantap listen` on the same socket.
    pub fn listen_again(other: Self, args: &[&str]) -> Self {
        Self::listen_after(other.kill(), args)
    }

    /// Starts `spantap listen` on the socket of a spantap that was killed.
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

    /// Starts `spantap attach`, and returns when it is attached.
    pub fn attach(args: &[impl AsRef<OsStr>]) -> Self {
        Self::attach_with(args, &[])
    }

    /// Starts `spantap attach` with additional variables in its environment.
    pub fn attach_with(args: &[impl AsRef<OsStr>], environment: &[(&str, &str)]) -> Self {
        let mut command = command();
        command.arg("attach").args(args).envs(environment.iter().copied());
        Self::attach_by(&mut command)
    }

    /// Starts `spantap attach` by a command that runs it.
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

    /// Starts `spantap run` with a program.
    pub fn run(args: &[&str], program: &[&str]) -> Self {
        Self::run_with(args, program, |_| {})
    }

    /// Starts `spantap run` by a command that `change` has changed.
    pub fn run_with(args: &[&str], program: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("not used");
        let mut command = command();
        command.arg("run").args(args).arg("--").args(program);
        change(&mut command);
        Self::spawn(&mut command, folder, socket)
    }

    /// Starts `spantap record` to `capture` on a socket of its own, and returns when the socket is bound.
    pub fn record(capture: &Path, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("trace.sock");
        let mut command = command();
        command.arg("record").arg(capture).arg(&socket).args(args);
        let spantap = Self::spawn(&mut command, folder, socket);
        spantap.wait_for_socket();
        spantap
    }

    /// Starts `spantap record` to `capture` with a program.
    pub fn record_program(capture: &Path, program: &[&str]) -> Self {
        Self::record_program_with(capture, &[], program)
    }

    /// Starts `spantap record` to `capture` with options and a program.
    pub fn record_program_with(capture: &Path, args: &[&str], program: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("not used");
        let mut command = command();
        command.arg("record").arg(capture).args(args).arg("--").args(program);
        Self::spawn(&mut command, folder, socket)
    }

    /// Starts `spantap listen` in a terminal of `columns`. The returned file reads the terminal's output.
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
        // The files for its output stay empty, because it writes to the terminal.
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

    /// The path of its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Its output so far.
    pub fn stdout(&self) -> String {
        read(&self.folder.path().join("stdout"))
    }

    /// Its messages so far.
    pub fn stderr(&self) -> String {
        read(&self.folder.path().join("stderr"))
    }

    /// Sends SIGTERM, and waits until it has ended.
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
        let is_unreported = ended.status.success() && ended.stderr.contains("the kernel did not report");
        UNREPORTED.set(UNREPORTED.get() || is_unreported);
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
    // A shell without job control starts background processes with SIGINT ignored, and the tests inherit that.
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP,INT,QUIT,TERM").arg(program("spantap"));
    // Removes settings of the user who runs the tests.
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
        // cargo describes the test's package in these. `ring` is built again, and with it all that uses it, each time they
        // change: as here, and then when the next tests are built.
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(&variable);
            }
        }
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
