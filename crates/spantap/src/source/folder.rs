//! The folder of the socket of `run`: for our user alone, with a path short enough for a socket, and gone when we are.
//!
//! A process of its own, the keeper, removes the folder when we were killed. If both were killed, as when a whole
//! container is, the next run in the same place does.

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

use super::Socket;
use super::socket::MAX_PATH;

const PREFIX: &str = "spantap.";
const SOCKET: &str = "trace.sock";

/// What follows the folder that it is made in: `/spantap.XXXXXX/trace.sock`.
const SUFFIX_BYTES: usize = PREFIX.len() + 6 + SOCKET.len() + 2;

/// Between making its folder and binding its socket, no run takes longer.
const WITHOUT_SOCKET: Duration = Duration::from_secs(10);

/// A folder of its own, removed with the value or the process.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
    /// Its other end reads an end of file when we are gone.
    _keeper: Option<OwnedFd>,
}

impl Folder {
    /// Makes one in `TMPDIR`, or where else it can be if that can't be written or its path is too long. Must be called
    /// while there is only one thread.
    ///
    /// # Errors
    ///
    /// No folder will do.
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
        Err(why.context("can't make a folder for the socket; set TMPDIR to one that can be written"))
    }

    fn in_parent(parent: &Path) -> Result<TempDir> {
        let most = MAX_PATH - SUFFIX_BYTES;
        anyhow::ensure!(parent.as_os_str().len() <= most, "the path has more than {most} bytes");
        sweep(parent);
        let permissions = Permissions::from_mode(0o700);
        Ok(tempfile::Builder::new().prefix(PREFIX).permissions(permissions).tempdir_in(parent)?)
    }

    /// Binds a socket in it, which our user alone may write to.
    ///
    /// # Errors
    ///
    /// The kernel does not let us.
    pub fn bind(&self) -> Result<Socket> {
        Socket::bind(&self.folder.path().join(SOCKET), 0o600)
    }
}

/// Starts a process that waits for our end, whatever that is, and then removes `folder`. It inherits the signals that
/// are blocked, and so only SIGKILL ends it before.
#[allow(unsafe_code)]
fn start_keeper(folder: &Path) -> nix::Result<OwnedFd> {
    let (end_of_us, us) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: there is one thread, so the child may do what it likes.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        return Ok(us);
    }
    drop(us);
    // Ctrl-C and the end of a terminal's session are not for it, and it keeps no file system busy.
    let _ = setsid();
    let _ = chdir("/");
    while matches!(read(&end_of_us, &mut [0]), Err(Errno::EINTR)) {}
    let _ = fs::remove_dir_all(folder);
    // SAFETY: it ends the process, without what the parent has registered for its own end.
    unsafe { libc::_exit(0) }
}

/// Where a folder may be made, the best first.
fn parents() -> impl Iterator<Item = PathBuf> {
    let given = std::path::absolute(std::env::temp_dir()).ok();
    let of_user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    given.into_iter().chain(of_user).chain(["/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from))
}

/// Removes the folders of runs that were killed before they could do it.
fn sweep(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(is_abandoned) {
        // Without success the next start tries it again.
        let _ = fs::remove_file(entry.path().join(SOCKET));
        let _ = fs::remove_dir(entry.path());
    }
}

/// Whether it is a folder like ours, of our own user, and nobody listens there.
fn is_abandoned(entry: &DirEntry) -> bool {
    // Of the entry itself, not of what a link leads to.
    let Ok(metadata) = entry.metadata() else { return false };
    let is_like_ours = entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())
        && metadata.is_dir()
        && metadata.uid() == geteuid().as_raw();
    if !is_like_ours {
        return false;
    }
    match UnixDatagram::unbound().and_then(|probe| probe.connect(entry.path().join(SOCKET))) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => true,
        // The socket goes before the last spans are forwarded, and comes after the folder is made.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            metadata.modified().is_ok_and(|since| since.elapsed().is_ok_and(|age| age > WITHOUT_SOCKET))
        }
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    #[test]
    fn folders_of_killed_runs_are_removed_and_no_others() {
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
        let long_ago = std::time::SystemTime::now() - 2 * WITHOUT_SOCKET;
        fs::File::open(&ended_late).unwrap().set_modified(long_ago).unwrap();
        let of_user = make("spantap.notes");
        fs::write(of_user.join("notes"), "mine").unwrap();
        fs::File::open(&of_user).unwrap().set_modified(long_ago).unwrap();
        let other = make("other");
        drop(UnixDatagram::bind(other.join(SOCKET)).unwrap());
        let linked = parent.path().join("spantap.link");
        std::os::unix::fs::symlink(&other, &linked).unwrap();

        sweep(parent.path());
        assert!(!killed.exists() && !ended_late.exists());
        assert!(live.path().join(SOCKET).exists() && begun.path().exists());
        assert!(of_user.join("notes").exists() && other.join(SOCKET).exists() && linked.exists());
    }

    #[test]
    fn a_path_fits_into_the_address_of_a_socket() {
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
