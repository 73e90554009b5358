//! The folder for the socket of `run`: only our user may enter it, its path is short enough for a socket, and it is
//! removed at the end.
//!
//! A separate process, the keeper, removes the folder when spantap is killed. If both are killed, as when a whole
//! container is, the next run in the same parent folder removes it.

use std::fs::{self, DirEntry, Permissions};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, chdir, fork, geteuid, pipe2, read, setsid};
use tempfile::TempDir;

use super::socket::{MAX_PATH, Socket};

const PREFIX: &str = "spantap.";
const SOCKET: &str = "trace.sock";

/// The length of what follows the parent folder: `/spantap.XXXXXX/trace.sock`.
const SUFFIX_BYTES: usize = PREFIX.len() + 6 + SOCKET.len() + 2;

/// The longest time between a run's making its folder and binding its socket.
const MAX_TIME_WITHOUT_SOCKET: Duration = Duration::from_secs(10);

/// A folder for one socket, removed with the value or at the end of the process.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
    /// Our end of a pipe. The keeper reads an end of file from the other end when this process ends.
    _keeper: Option<OwnedFd>,
}

impl Folder {
    /// Makes a folder in `TMPDIR`, or in the next usable place if `TMPDIR` can't be written or its path is too
    /// long. Must be called while there is only one thread.
    ///
    /// # Errors
    ///
    /// No folder can be used.
    pub fn new() -> Result<Self> {
        let mut why = None;
        for parent in parents() {
            let made = Self::in_parent(&parent);
            match made {
                Ok(folder) => {
                    let _keeper = start_keeper(folder.path()).ok();
                    return Ok(Self { folder, _keeper });
                }
                Err(error) => _ = why.get_or_insert(anyhow!("{}: {error}", parent.display())),
            }
        }
        let why = why.unwrap_or_else(|| anyhow!("there is no TMPDIR"));
        Err(why.context("can't make a folder for the socket; set TMPDIR to a folder that can be written"))
    }

    fn in_parent(parent: &Path) -> Result<TempDir> {
        let most = MAX_PATH - SUFFIX_BYTES;
        anyhow::ensure!(parent.as_os_str().len() <= most, "the path has more than {most} bytes");
        sweep(parent);
        let permissions = Permissions::from_mode(0o700);
        Ok(tempfile::Builder::new().prefix(PREFIX).permissions(permissions).tempdir_in(parent)?)
    }

    /// Binds a socket in the folder. Only our user may send to it.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn bind(&self) -> Result<Socket> {
        Socket::bind(&self.folder.path().join(SOCKET), 0o600)
    }
}

/// Starts a process that waits for the end of this one, however it ends, and then removes `folder`. It inherits the
/// blocked signals, so only SIGKILL can end it earlier.
#[allow(unsafe_code)]
fn start_keeper(folder: &Path) -> nix::Result<OwnedFd> {
    let (end_of_parent, held_by_parent) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: there is only one thread, so the child may call anything.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        return Ok(held_by_parent);
    }
    drop(held_by_parent);
    // Ctrl-C and the end of the terminal's session must not reach it, and it must not keep a file system busy.
    let _ = setsid();
    let _ = chdir("/");
    while matches!(read(&end_of_parent, &mut [0]), Err(Errno::EINTR)) {}
    let _ = fs::remove_dir_all(folder);
    // SAFETY: ends the process, without the exit handlers that the parent has registered.
    unsafe { libc::_exit(0) }
}

/// The folders to try, the best first.
fn parents() -> impl Iterator<Item = PathBuf> {
    let given = std::path::absolute(std::env::temp_dir()).ok();
    let runtime_dir =
        std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    given.into_iter().chain(runtime_dir).chain(["/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from))
}

/// Removes the folders of runs that were killed together with their keeper.
fn sweep(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(is_abandoned) {
        // If this fails, the next run tries again.
        let _ = fs::remove_file(entry.path().join(SOCKET));
        let _ = fs::remove_dir(entry.path());
    }
}

/// Whether it is a folder of a run of our user, and nothing listens there.
fn is_abandoned(entry: &DirEntry) -> bool {
    // Of the entry itself: a link is not followed.
    let Ok(metadata) = entry.metadata() else { return false };
    let is_like_ours = entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())
        && metadata.is_dir()
        && metadata.uid() == geteuid().as_raw();
    if !is_like_ours {
        return false;
    }
    match UnixDatagram::unbound().and_then(|probe| probe.connect(entry.path().join(SOCKET))) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => true,
        // A run binds the socket after making the folder, and removes it before it has forwarded the last spans.
        Err(error) if error.kind() == ErrorKind::NotFound => metadata
            .modified()
            .is_ok_and(|since| since.elapsed().is_ok_and(|age| age > MAX_TIME_WITHOUT_SOCKET)),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    #[test]
    fn removes_only_folders_of_killed_runs() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let live = Folder::in_parent(parent.path()).unwrap();
        let _socket = UnixDatagram::bind(live.path().join(SOCKET)).unwrap();
        let begun = Folder::in_parent(parent.path()).unwrap();
        let killed = make("spantap.killed");
        drop(UnixDatagram::bind(killed.join(SOCKET)).unwrap());
        let ended_late = make("spantap.empty");
        let long_ago = std::time::SystemTime::now() - 2 * MAX_TIME_WITHOUT_SOCKET;
        fs::File::open(&ended_late).unwrap().set_modified(long_ago).unwrap();
        let unrelated = make("spantap.notes");
        fs::write(unrelated.join("notes"), "mine").unwrap();
        fs::File::open(&unrelated).unwrap().set_modified(long_ago).unwrap();
        let other = make("other");
        drop(UnixDatagram::bind(other.join(SOCKET)).unwrap());
        let linked = parent.path().join("spantap.link");
        std::os::unix::fs::symlink(&other, &linked).unwrap();

        sweep(parent.path());
        assert!(!killed.exists() && !ended_late.exists());
        assert!(live.path().join(SOCKET).exists() && begun.path().exists());
        assert!(unrelated.join("notes").exists() && other.join(SOCKET).exists() && linked.exists());
    }

    #[test]
    fn socket_paths_fit_into_an_address() {
        let parent = tempfile::tempdir().unwrap();
        let deep = |bytes: usize| {
            let name = "d".repeat(bytes - parent.path().as_os_str().len() - 1);
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let most = MAX_PATH - SUFFIX_BYTES;
        let folder = Folder { folder: Folder::in_parent(&deep(most)).unwrap(), _keeper: None };
        assert_eq!(folder.bind().unwrap().path().as_os_str().len(), MAX_PATH);
        let error = Folder::in_parent(&deep(most + 1)).unwrap_err().to_string();
        assert!(error.contains(&format!("more than {most} bytes")), "{error}");
    }
}
