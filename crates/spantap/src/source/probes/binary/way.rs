//! A path inside one mount namespace, which stays valid after the process that named it has ended.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

/// A path, and the folder in which it begins.
#[derive(Debug)]
pub(in crate::source::probes) struct Way {
    /// Held open, because another process may get the same pid. `None` is spantap's working folder.
    folder: Option<File>,
    path: PathBuf,
    /// Limits where links may lead.
    links: ResolveFlag,
}

impl Way {
    /// A path given by a user. In `/proc/PID/root/PATH`, links are resolved as the process would resolve them.
    pub(in crate::source::probes) fn of(path: &Path) -> io::Result<Self> {
        let Some((process, rest)) = through_process(path) else {
            return Ok(Self { folder: None, path: path.to_owned(), links: ResolveFlag::empty() });
        };
        for (name, links) in [
            ("root", ResolveFlag::RESOLVE_IN_ROOT),
            // A link to an absolute path would begin at our own root, so it is an error.
            ("cwd", ResolveFlag::RESOLVE_BENEATH),
        ] {
            if let Ok(rest) = rest.strip_prefix(name) {
                // An empty rest means the folder itself.
                let path = Path::new(".").join(rest);
                return Ok(Self { folder: Some(File::open(process.join(name))?), path, links });
            }
        }
        Self::in_process(&process, &rest)
    }

    /// The path `path` in a process's folder in `/proc`.
    pub(in crate::source::probes) fn in_process(process: &Path, path: &Path) -> io::Result<Self> {
        let folder = Some(File::open(process)?);
        Ok(Self { folder, path: path.to_owned(), links: ResolveFlag::empty() })
    }

    /// Opens the file at the path with `O_PATH`. To read it, open its `descriptor_path`.
    pub(in crate::source::probes) fn find(&self) -> io::Result<File> {
        let folder = self.folder.as_ref().map_or(AT_FDCWD, AsFd::as_fd);
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(self.links);
        Ok(openat2(folder, &self.path, how)?.into())
    }

    /// Whether any process has its root in the mount where this path begins. Always true for a path without such a
    /// root.
    pub(in crate::source::probes) fn has_process(&self) -> bool {
        let Some(root) = self.folder.as_ref().filter(|_| self.links == ResolveFlag::RESOLVE_IN_ROOT) else {
            return true;
        };
        // While the folder is open, the kernel gives its mount's number to no other mount.
        let (mount, mut processes) = (mount_of(root), fs::read_dir("/proc").into_iter().flatten().flatten());
        processes.any(|process| {
            let root =
                OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(process.path().join("root"));
            root.is_ok_and(|root| mount_of(&root) == mount)
        })
    }

    /// The folder in which the path begins.
    pub(in crate::source::probes) fn folder(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(descriptor_path)
    }
}

/// The number of the mount that a file is in.
fn mount_of(file: &File) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    Some(info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().to_owned())
}

/// A path to an open file, for this process and for system calls that it makes.
pub(in crate::source::probes) fn descriptor_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Splits a path into the `/proc` folder of a process or thread, and the rest.
pub(in crate::source::probes) fn through_process(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let is_number = |part: &std::path::Component<'_>| {
        part.as_os_str().to_str().is_some_and(|text| text.parse::<u32>().is_ok())
    };
    let mut rest = path.strip_prefix("/proc").ok()?.components();
    let mut folder = Path::new("/proc").join(rest.next().filter(is_number)?);
    if let Ok(thread) = rest.as_path().strip_prefix("task") {
        rest = thread.components();
        folder.extend([Path::new("task"), rest.next().filter(is_number)?.as_ref()]);
    }
    Some((folder, rest.as_path().to_owned()))
}
