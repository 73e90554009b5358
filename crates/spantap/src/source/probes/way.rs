//! A path that leads to files of one mount namespace, also after the process by which it was named is gone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

/// A path, and the folder where it begins.
#[derive(Debug)]
pub(super) struct Way {
    /// Held open, because another process may get the same pid. `None` is the folder in which spantap runs.
    folder: Option<File>,
    path: PathBuf,
    /// Where links may lead.
    links: ResolveFlag,
}

impl Way {
    /// A path as a user names it. In `/proc/PID/root/PATH`, links are resolved as the process would resolve them.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let Some((process, rest)) = through_process(path) else {
            return Ok(Self { folder: None, path: path.to_owned(), links: ResolveFlag::empty() });
        };
        for (name, links) in [
            ("root", ResolveFlag::RESOLVE_IN_ROOT),
            // A link to an absolute path would begin at our own root: it is an error.
            ("cwd", ResolveFlag::RESOLVE_BENEATH),
        ] {
            if let Ok(rest) = rest.strip_prefix(name) {
                // Without a name it is the folder itself.
                let path = Path::new(".").join(rest);
                return Ok(Self { folder: Some(File::open(process.join(name))?), path, links });
            }
        }
        Self::in_process(&process, &rest)
    }

    /// What is at `path` in the folder of a process in `/proc`.
    pub(super) fn in_process(process: &Path, path: &Path) -> io::Result<Self> {
        let folder = Some(File::open(process)?);
        Ok(Self { folder, path: path.to_owned(), links: ResolveFlag::empty() })
    }

    /// The file to which the path leads now. It can be opened to be read by its `descriptor_path`.
    pub(super) fn find(&self) -> io::Result<File> {
        let folder = self.folder.as_ref().map_or(AT_FDCWD, AsFd::as_fd);
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(self.links);
        Ok(openat2(folder, &self.path, how)?.into())
    }

    /// Whether a process has its root in the mount where this path begins. A path that begins nowhere special leads on.
    pub(super) fn has_process(&self) -> bool {
        let Some(root) = self.folder.as_ref().filter(|_| self.links == ResolveFlag::RESOLVE_IN_ROOT) else {
            return true;
        };
        // While the folder is open, its mount's number is given to no other mount.
        let (mount, mut processes) = (mount_of(root), fs::read_dir("/proc").into_iter().flatten().flatten());
        processes.any(|process| {
            let root =
                OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(process.path().join("root"));
            root.is_ok_and(|root| mount_of(&root) == mount)
        })
    }

    /// The folder where it begins.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(descriptor_path)
    }
}

/// The number of the mount in which a file is.
fn mount_of(file: &File) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    Some(info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().to_owned())
}

/// A path to an open file, for this process and for system calls that it makes.
pub(super) fn descriptor_path(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// The folder of a process or thread with which a path begins, and the rest of the path.
pub(super) fn through_process(path: &Path) -> Option<(PathBuf, PathBuf)> {
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
