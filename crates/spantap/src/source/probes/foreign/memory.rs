//! The memory of a process, and what is mapped there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process::maps::{Mapping, mappings};

/// The memory of a process.
pub(super) struct Memory {
    process: PathBuf,
    memory: File,
}

impl Memory {
    pub(super) fn open(pid: i32) -> Result<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let memory = File::open(process.join("mem"));
        let memory =
            memory.with_context(|| format!("can't read the memory of process {pid}; try as root"))?;
        Ok(Self { process, memory })
    }

    pub(super) fn bytes(&self, address: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.memory.read_exact_at(&mut bytes, address)?;
        Ok(bytes)
    }

    pub(super) fn word(&self, address: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.memory.read_exact_at(&mut bytes, address)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    pub(super) fn mappings(&self) -> io::Result<Vec<Mapping>> {
        mappings(&self.process)
    }

    /// Opens the file of a mapping. With enough rights, even if it was replaced or deleted.
    pub(super) fn file(&self, mapping: &Mapping) -> io::Result<File> {
        // Opening a pipe would otherwise wait for its writer.
        let open = |path| OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = match open(mapping.link(&self.process)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open(mapping.path(&self.process))?
            }
            opened => opened?,
        };
        let metadata = file.metadata()?;
        match metadata.is_file() && metadata.ino() == mapping.file.inode {
            true => Ok(file),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
