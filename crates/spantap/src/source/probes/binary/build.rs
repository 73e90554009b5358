//! A file with the probes.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::elf::{self, Lack, Layout};
use super::way::{Way, descriptor_path};

/// A file with the probes. It is held open, so that it stays reachable whatever happens to its path.
#[derive(Debug)]
pub(in crate::source::probes) struct Build {
    file: File,
    stamp: Stamp,
    layout: Layout,
}

/// Identifies a file and a version of its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::source::probes) struct Stamp {
    device: u64,
    pub(in crate::source::probes) inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Build {
    /// Opens the file at `path`. The inner error says why a file has no probes.
    pub(in crate::source::probes) fn open(path: &Path) -> io::Result<Result<Self, Lack>> {
        // Opening a pipe would otherwise wait for its writer.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(Err(Lack::Layer));
        }
        Ok(elf::look(&file).map(|layout| Self { file, stamp: Stamp::of(&metadata), layout }))
    }

    /// Opens the file to which `way` leads now.
    pub(in crate::source::probes) fn at(way: &Way) -> io::Result<Result<Self, Lack>> {
        Self::open(&descriptor_path(&way.find()?))
    }

    pub(in crate::source::probes) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether `other` is the same file with its probes at the same places, so that at most its times have changed.
    pub(in crate::source::probes) fn is_same(&self, other: &Self) -> bool {
        self.stamp.is_same_file(&other.stamp) && self.layout == other.layout
    }

    /// A path to the open file, for this process and for system calls that it makes.
    pub(in crate::source::probes) fn path(&self) -> PathBuf {
        descriptor_path(&self.file)
    }
}

impl Stamp {
    /// Returns the stamp of the file that `path` leads to.
    pub(in crate::source::probes) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }

    pub(in crate::source::probes) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Whether `other` is the same file, even if its content has changed.
    pub(in crate::source::probes) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}
