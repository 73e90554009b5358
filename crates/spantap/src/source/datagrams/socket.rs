//! The bound socket and its path: it replaces a socket without a listener, lets only permitted users send, and
//! removes its path at the end.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt::PassCred,
};
use nix::sys::stat::{Mode, fchmod};

use crate::process::program_name;

/// The most bytes of a socket's path, by unix(7).
pub(super) const MAX_PATH: usize = 107;

/// A bound socket. Its path is removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    descriptor: OwnedFd,
    path: PathBuf,
    /// Device and inode of the socket's file.
    inode: (u64, u64),
}

impl Socket {
    /// Binds `path`, with the permissions `mode`. Replaces a socket that nothing listens on any more.
    ///
    /// # Errors
    ///
    /// The path is something else, or a process listens there, which the error names.
    pub fn bind(path: &Path, mode: u32) -> Result<Self> {
        let socket = Self::open(path, mode);
        socket.with_context(|| format!("can't listen on {}", path.display()))
    }

    fn open(path: &Path, mode: u32) -> Result<Self> {
        let address = UnixAddr::new(path).map_err(|_| {
            anyhow::anyhow!(
                "a socket's path has at most {MAX_PATH} bytes; choose a shorter one, such as one in /run"
            )
        })?;
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        // Two processes that start at once would both find no listener, and the second would unlink the socket of
        // the first.
        let _alone = lock(folder)?;
        remove_abandoned(path)?;

        let descriptor = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&descriptor, PassCred, &true)?;
        // The file gets the mode of the socket, less the umask, so that nobody without permission can write to it
        // at any moment.
        fchmod(descriptor.as_fd(), Mode::from_bits_truncate(mode))?;
        bind(descriptor.as_raw_fd(), &address)?;
        let metadata = fs::symlink_metadata(path)?;
        let socket = Self { descriptor, path: path.to_owned(), inode: (metadata.dev(), metadata.ino()) };
        if metadata.mode() & 0o777 != mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        Ok(socket)
    }

    /// The path where senders find the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the path. Senders that are already connected can still send.
    pub fn unlink(&self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Whether the socket is still at its path: it may have been removed, and another one bound there.
    pub(super) fn is_there(&self) -> bool {
        let metadata = fs::symlink_metadata(&self.path);
        metadata.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.inode)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.unlink();
    }
}

/// Locks `folder`: until the lock is dropped, no other spantap binds a socket there.
fn lock(folder: &Path) -> Result<Flock<fs::File>> {
    let shown = folder.display();
    let mut file = fs::File::open(folder).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!("there is no folder {shown}; create it first"),
        _ => anyhow::anyhow!("its folder {shown} can't be opened: {error}"),
    })?;
    // Another spantap holds it only for a moment.
    for _ in 0..100 {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            Err((_, errno)) => return Err(errno.into()),
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("another program holds a lock on its folder {shown} (lslocks shows which); choose another folder")
}

/// Removes the socket of a listener that is gone.
fn remove_abandoned(path: &Path) -> Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !metadata.file_type().is_socket() {
        bail!("something other than a socket is at that path; remove it or choose another path");
    }
    let probe = UnixDatagram::unbound()?;
    match probe.connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).context("can't remove the socket that an earlier process left there")
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            bail!("a socket of another user is at that path; choose another path")
        }
        // Also if it has another type: something listens there.
        _ => bail!("{} already listens there; end it or choose another path", holder(path)),
    }
}

/// The processes that have `path` bound, if /proc shows them.
fn holder(path: &Path) -> String {
    match inode_of(path).map(|inode| processes_with(&format!("socket:[{inode}]"))) {
        Ok(processes) if !processes.is_empty() => processes.join(" and "),
        _ => "another process (/proc doesn't show which)".to_owned(),
    }
}

/// The inode of the socket itself, which differs from that of its file.
fn inode_of(path: &Path) -> io::Result<u64> {
    let wanted = fs::canonicalize(path)?;
    // The paths of other sockets need not be UTF-8.
    let table = fs::read("/proc/net/unix")?;
    let table = String::from_utf8_lossy(&table);
    // Num RefCount Protocol Flags Type St Inode Path
    let found = table.lines().skip(1).find_map(|line| {
        let inode = line.split_whitespace().nth(6)?;
        // The last column may have spaces in it.
        let (_, bound) = line.split_once(&format!(" {inode} "))?;
        let same = fs::canonicalize(bound).is_ok_and(|bound| bound == wanted);
        same.then(|| inode.parse().ok()).flatten()
    });
    found.ok_or_else(|| ErrorKind::NotFound.into())
}

fn processes_with(link: &str) -> Vec<String> {
    let has = |process: &Path| {
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        descriptors.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == link))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let named = processes.filter_map(|process| {
        let pid: u32 = process.file_name()?.to_str()?.parse().ok()?;
        // Another user's executable can't be read, but its `comm` can.
        let comm = |_| fs::read_to_string(process.join("comm"));
        let name = has(&process).then(|| program_name(&process).or_else(comm))?.unwrap_or_default();
        Some(format!("{} (pid {pid})", name.trim()))
    });
    named.collect()
}
