//! One file with the probes.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::elf::{self, Lack, Layout};

/// It is held open, so that it stays the same file whatever happens to the path by which it was found.
#[derive(Debug)]
pub(super) struct Build {
    file: File,
    stamp: Stamp,
    layout: Layout,
}

/// Which file, and which content of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    device: u64,
    pub(super) inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Build {
    /// Opens the file to which `path` leads, unless it lacks the probes.
    pub(super) fn open(path: &Path) -> io::Result<Result<Self, Lack>> {
        // A pipe is not waited for.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(Err(Lack::Layer));
        }
        Ok(elf::look(&file).map(|layout| Self { file, stamp: Stamp::of(&metadata), layout }))
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether it is the same file with its probes at the same places: only its times may have changed.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        self.stamp.is_same_file(&other.stamp) && self.layout == other.layout
    }

    /// Leads to it from this process, and from the kernel on its behalf.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

impl Stamp {
    /// Of the file to which `path` leads now.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Whether it is the same file, with whatever content.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}
