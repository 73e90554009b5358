//! The files that processes have mapped as code.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::build::{Build, Stamp};
use super::elf::Lack;

/// A file that a process has mapped as code.
pub(in crate::source::probes) struct Library {
    /// Its link in `map_files`, which leads to the mapped file even if that was replaced or deleted. Following the
    /// link takes root.
    mapping: PathBuf,
    /// The path at which it was mapped, through the root of the process.
    path: PathBuf,
    inode: u64,
}

impl Library {
    pub(in crate::source::probes) fn open(&self) -> io::Result<Result<Build, Lack>> {
        let is_still_there = || Stamp::at(&self.path).is_ok_and(|stamp| stamp.inode == self.inode);
        match Build::open(&self.mapping) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && is_still_there() => {
                Build::open(&self.path)
            }
            opened => opened,
        }
    }

    /// Whether this is the file of `stamp`. Without root only the inode is compared, which is not unique across
    /// devices.
    fn is_file(&self, stamp: &Stamp) -> bool {
        Stamp::at(&self.mapping).map_or(self.inode == stamp.inode, |mapped| mapped.is_same_file(stamp))
    }

    pub(in crate::source::probes) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned()
    }
}

/// The libraries and the executable of a process, given its folder in `/proc`.
pub(in crate::source::probes) fn libraries(process: &Path) -> Vec<Library> {
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    let mut known = HashSet::new();
    // start-end perms offset dev inode path
    let mapped = maps.split(|byte| *byte == b'\n').filter_map(|line| {
        let (before, path) = line.split_at(line.iter().position(|byte| *byte == b'/')?);
        let words: Vec<&str> = std::str::from_utf8(before).ok()?.split_ascii_whitespace().collect();
        let [range, permissions, _, device, inode] = words[..] else { return None };
        if !permissions.contains('x') || !known.insert((device, inode)) {
            return None;
        }
        // Unlike in `maps`, addresses have no leading zeros in the names in `map_files`.
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(Library {
            mapping: process.join("map_files").join(format!("{:x}-{:x}", number(start)?, number(end)?)),
            path: process.join("root").join(OsStr::from_bytes(&path[1..])),
            inode: inode.parse().ok()?,
        })
    });
    mapped.collect()
}

/// The files among `files` that any process runs.
pub(in crate::source::probes) fn mapped_of(files: &[Stamp]) -> Vec<Stamp> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_number = |name: &OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    let mut mapped = Vec::new();
    for process in processes.filter(|entry| is_number(&entry.file_name())) {
        for library in libraries(&process.path()) {
            mapped.extend(files.iter().filter(|file| library.is_file(file)));
        }
    }
    mapped
}
