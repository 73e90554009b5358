//! Who is attached to the probes of a process: the kernel counts them in the memory of the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Probe;
use crate::process::maps::{MappedFile, mappings};

/// The memory of a process, in which the consumers of a file's probes are counted.
#[derive(Debug)]
pub struct Attached {
    memory: File,
    /// The address, the offset in the file and the length of each part of the file in memory.
    parts: Vec<(u64, u64, u64)>,
}

/// Opens the memory of the process whose folder in `/proc` is given, for the probes of the file that it has mapped with
/// this inode. `None` if it has not mapped it.
///
/// # Errors
///
/// The process has ended, or this user may not read its memory.
pub fn attached(process: &Path, inode: u64) -> io::Result<Option<Attached>> {
    let mappings = mappings(process)?;
    // A device has another number in `maps` than for `stat` on some file systems, so the name is not compared.
    let is_it = |file: &MappedFile| file.inode == inode;
    let parts: Vec<(u64, u64, u64)> = mappings
        .iter()
        .filter(|mapping| is_it(&mapping.file))
        .map(|mapping| (mapping.start, mapping.offset, mapping.end - mapping.start))
        .collect();
    if parts.is_empty() {
        return Ok(None);
    }
    Ok(Some(Attached { memory: File::open(process.join("mem"))?, parts }))
}

impl Attached {
    /// How many consumers the probe has; `None` if it has no counter, or the counter can't be read.
    pub fn to(&self, probe: &Probe) -> Option<u16> {
        let at = probe.semaphore;
        // The last one: the counters are written to, and a part that is only read may have the same place in the file.
        let part = self.parts.iter().rfind(|(_, offset, bytes)| (*offset..offset + bytes).contains(&at))?;
        let mut counter = [0; 2];
        self.memory.read_exact_at(&mut counter, part.0 + (at - part.1)).ok()?;
        (at != 0).then_some(u16::from_le_bytes(counter))
    }
}
