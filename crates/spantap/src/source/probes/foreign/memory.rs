//! The memory of a process, and what is mapped there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use anyhow::{Context, Result};

/// The memory of a process.
pub(super) struct Memory {
    process: PathBuf,
    memory: File,
}

/// A line of `maps`.
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where it begins in its file.
    pub(super) offset: u64,
    /// The device and the inode of its file.
    pub(super) file: (String, u64),
    /// The path of its file, or its name.
    pub(super) name: String,
    pub(super) is_code: bool,
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
        let maps = fs::read(self.process.join("maps"))?;
        Ok(String::from_utf8_lossy(&maps).lines().filter_map(mapping).collect())
    }

    /// Opens the file of a mapping. With enough rights, even if it was replaced or deleted.
    pub(super) fn file(&self, mapping: &Mapping) -> io::Result<File> {
        // Opening a pipe would otherwise wait for its writer.
        let open = |path| OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let link = format!("map_files/{:x}-{:x}", mapping.start, mapping.end);
        let at_path = || open(self.process.join("root").join(mapping.name.trim_start_matches('/')));
        // Following the link takes more rights than the rest.
        let file = match open(self.process.join(link)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => at_path()?,
            opened => opened?,
        };
        let metadata = file.metadata()?;
        match metadata.is_file() && metadata.ino() == mapping.file.1 {
            true => Ok(file),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// `start-end perms offset dev inode name`
fn mapping(line: &str) -> Option<Mapping> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let permissions = words.next()?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (offset, device, inode) = (number(words.next()?)?, words.next()?, words.next()?.parse().ok()?);
    Some(Mapping {
        start: number(start)?,
        end: number(end)?,
        offset,
        file: (device.to_owned(), inode),
        name: words.next().unwrap_or_default().trim_start().to_owned(),
        is_code: permissions.contains('x'),
    })
}
