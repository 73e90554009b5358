//! The files that processes have mapped as code.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::build::{Build, Stamp};
use super::elf::Lack;
use crate::process::maps::{Mapping, mappings};

/// A file that a process has mapped as code.
pub(in crate::source::probes) struct Library {
    /// See [`Mapping::link`].
    link: PathBuf,
    /// See [`Mapping::path`].
    path: PathBuf,
    inode: u64,
}

impl Library {
    pub(in crate::source::probes) fn open(&self) -> io::Result<Result<Build, Lack>> {
        let is_still_there = || Stamp::at(&self.path).is_ok_and(|stamp| stamp.inode == self.inode);
        match Build::open(&self.link) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && is_still_there() => {
                Build::open(&self.path)
            }
            opened => opened,
        }
    }

    /// Whether this is the file of `stamp`. Without root only the inode is compared, which is not unique across
    /// devices.
    fn is_file(&self, stamp: &Stamp) -> bool {
        Stamp::at(&self.link).map_or(self.inode == stamp.inode, |mapped| mapped.is_same_file(stamp))
    }

    pub(in crate::source::probes) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned()
    }
}

/// The libraries and the executable of a process, given its folder in `/proc`.
pub(in crate::source::probes) fn libraries(process: &Path) -> Vec<Library> {
    let is_library = |mapping: &Mapping| mapping.is_code && mapping.name.is_absolute();
    let (mappings, mut known) = (mappings(process).unwrap_or_default(), HashSet::new());
    let libraries = mappings.iter().filter(|mapping| is_library(mapping) && known.insert(&mapping.file));
    let library = |mapping: &Mapping| Library {
        link: mapping.link(process),
        path: mapping.path(process),
        inode: mapping.file.inode,
    };
    libraries.map(library).collect()
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
