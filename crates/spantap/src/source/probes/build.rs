//! A file with the probes.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::elf::{self, Lack, Layout};
use super::way::{Way, descriptor_path};

/// A file with the probes. It is held open, so that it stays reachable whatever happens to its path.
#[derive(Debug)]
pub(super) struct Build {
    file: File,
    stamp: Stamp,
    layout: Layout,
}

/// Identifies a file and a version of its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    device: u64,
    pub(super) inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Build {
    /// Opens the file to which `path` leads. The inner result says what it lacks if it has no probes.
    pub(super) fn open(path: &Path) -> io::Result<Result<Self, Lack>> {
        // Opening a pipe would otherwise wait for its writer.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(Err(Lack::Layer));
        }
        Ok(elf::look(&file).map(|layout| Self { file, stamp: Stamp::of(&metadata), layout }))
    }

    /// Opens the file to which `way` leads now.
    pub(super) fn at(way: &Way) -> io::Result<Result<Self, Lack>> {
        Self::open(&descriptor_path(&way.find()?))
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether it is the same file with its probes at the same places, so that at most its times have changed.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.stamp.is_same_file(&other.stamp) && self.layout == other.layout
    }

    /// A path to the open file, for this process and for system calls that it makes.
    pub(super) fn path(&self) -> PathBuf {
        descriptor_path(&self.file)
    }
}

impl Stamp {
    /// Returns the stamp of the file that `path` leads to.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }

    pub(super) fn of(metadata: &Metadata) -> Self {
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
