//! Runs a command as confined as a unit or a pod runs it.

use std::collections::BTreeSet;
use std::fs::{File, create_dir, create_dir_all, read_to_string, set_permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use e2e::{Process, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What a program needs that is confined by these tests.
pub(crate) const NEEDS: [&str; 4] = ["root", "setpriv", "strace", "unshare"];

/// A user that nothing belongs to, as one of `DynamicUser=`.
pub(crate) const USER: u32 = 64_999;

/// A command and its limits.
pub(crate) struct Confined {
    folder: tempfile::TempDir,
    user: u32,
    group: u32,
    capabilities: Vec<String>,
    writable: Vec<PathBuf>,
    process: Option<Process>,
}

impl Confined {
    /// As this user, with only these capabilities, such as `bpf`.
    pub(crate) fn new(user: u32, capabilities: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let capabilities = capabilities.iter().map(|name| (*name).to_owned()).collect();
        Self { folder, user, group: user, capabilities, writable: Vec::new(), process: None }
    }

    /// With another group than one with the number of the user.
    pub(crate) fn with_group(self, group: u32) -> Self {
        Self { group, ..self }
    }

    /// A folder of the user's, which it can write to, with this mode.
    pub(crate) fn writable(&mut self, name: &str, mode: u32) -> PathBuf {
        let path = self.folder.path().join(name);
        create_dir(&path).unwrap();
        chown(&path, Some(self.user), Some(self.group)).unwrap();
        set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        self.writable.push(path.clone());
        path
    }

    /// A copy of a program that the user can execute, wherever the original is.
    pub(crate) fn copy(&self, program: &Path) -> String {
        let folder = self.folder.path().join("bin");
        create_dir_all(&folder).unwrap();
        let path = folder.join(program.file_name().unwrap());
        std::fs::copy(program, &path).unwrap();
        set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Starts a command with this umask and these variables. The file system is read-only, except for the writable folders. All
    /// system calls are written down.
    pub(crate) fn start(&mut self, command: &[String], umask: &str, variables: &[(&str, &str)]) {
        let script = "set -e\n\
                      umask \"$1\"; calls=$2; all=$3; folders=$4; shift 4\n\
                      mount --bind \"$all\" \"$all\"\n\
                      mount -o remount,bind,ro \"$all\"\n\
                      for folder in $folders; do\n\
                        mount --bind \"$folder\" \"$folder\"\n\
                        mount -o remount,bind,rw \"$folder\"\n\
                      done\n\
                      mount -o remount,bind,ro /\n\
                      if touch \"$all/x\" 2> \"$calls\"; then echo 'files can be written' >&2; exit 1; fi\n\
                      exec strace -f -qq -o \"$calls\" \"$@\"";
        // Of root's, so that strace can write to it.
        let log = self.folder.path().join("log");
        create_dir_all(&log).unwrap();
        let folders = self.writable.iter().chain([&log]).map(|path| path.to_str().unwrap());
        let mut capabilities = "-all".to_owned();
        self.capabilities.iter().for_each(|name| capabilities += &format!(",+{name}"));
        let (user, group) = (self.user.to_string(), self.group.to_string());
        let mut confined = Command::new("unshare");
        confined.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh", umask]);
        confined.arg(self.calls()).arg(self.folder.path()).arg(folders.collect::<Vec<_>>().join(" "));
        confined.args(["setpriv", "--reuid", &user, "--regid", &group, "--clear-groups", "--no-new-privs"]);
        for set in ["bounding-set", "inh-caps", "ambient-caps"] {
            confined.arg(format!("--{set}={capabilities}"));
        }
        confined.arg("--").args(command).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        confined.envs(variables.iter().copied()).stdin(Stdio::null());
        let file = |name: &str| File::create(self.folder.path().join(name)).unwrap();
        confined.stdout(file("out")).stderr(file("err"));
        self.process = Some(Process(confined.spawn().unwrap()));
    }

    fn calls(&self) -> PathBuf {
        self.folder.path().join("log/calls")
    }

    /// What it has printed to its standard error.
    pub(crate) fn stderr(&self) -> String {
        read_to_string(self.folder.path().join("err")).unwrap()
    }

    /// Waits until it is ready, and has not ended.
    pub(crate) fn wait_until(&mut self, what: &str, mut is_ready: impl FnMut(&Self) -> bool) {
        wait_until(what, || {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "it ended with {ended:?}: {}", self.stderr());
            is_ready(self)
        });
    }

    /// Ends the program by SIGKILL, and returns its system calls.
    pub(crate) fn kill(&mut self, program: &str) -> Calls {
        self.signal(program, Signal::SIGKILL);
        self.calls_of(program)
    }

    /// Ends the program by SIGTERM, and returns the exit status and its system calls.
    pub(crate) fn end(&mut self, program: &str) -> (ExitStatus, Calls) {
        let status = self.signal(program, Signal::SIGTERM);
        (status, self.calls_of(program))
    }

    /// The system calls of the program so far.
    pub(crate) fn calls_of(&self, program: &str) -> Calls {
        let text = read_to_string(self.calls()).unwrap();
        let (_, calls) = text.split_once(&execution(program)).unwrap();
        Calls(calls.lines().skip(1).map(str::to_owned).collect())
    }

    /// The process that executes this program.
    pub(crate) fn pid(&self, program: &str) -> i32 {
        let text = read_to_string(self.calls()).unwrap();
        // The execution does not change the pid.
        let line = text.lines().find(|line| line.contains(&execution(program))).unwrap();
        line.split(' ').next().unwrap().parse().unwrap()
    }

    fn signal(&mut self, program: &str, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(self.pid(program)), signal).unwrap();
        let mut status = None;
        wait_until("it ends", || {
            status = self.process.as_mut().unwrap().try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

/// How strace prints that a program is executed.
fn execution(program: &str) -> String {
    format!("execve(\"{program}\"")
}

/// System calls, as strace prints them.
pub(crate) struct Calls(Vec<String>);

impl Calls {
    /// Their names.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let name = |line: &String| {
            let (_, call) = line.split_once(' ')?;
            let (name, _) = call.trim_start().split_once('(')?;
            let is_name =
                !name.is_empty() && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
            is_name.then(|| name.to_owned())
        };
        self.0.iter().filter_map(name).collect()
    }

    /// The families of the sockets, such as `AF_UNIX`.
    pub(crate) fn families(&self) -> BTreeSet<String> {
        let family = |line: &String| {
            let (_, rest) = line.split_once(" socket(").or_else(|| line.split_once(" socketpair("))?;
            Some(rest.split(',').next()?.to_owned())
        };
        self.0.iter().filter_map(family).collect()
    }

    /// Those that have this text.
    pub(crate) fn with(&self, text: &str) -> Vec<&String> {
        self.0.iter().filter(|line| line.contains(text)).collect()
    }
}
