//! Whether someone is attached to the probes of a process: the kernel counts it in the memory of the process.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::Probe;
use crate::process::maps::mappings;

/// The memory of a process in which the consumers of a file's probes are counted.
#[derive(Debug)]
pub struct Counters {
    memory: File,
    /// The address, the offset in the file and the length of each part of the file in memory that can be written to.
    parts: Vec<(u64, u64, u64)>,
}

/// Opens the memory of the process whose folder in `/proc` is given, for the probes of `file`. `None` if the process has
/// not mapped that file.
///
/// # Errors
///
/// The process has ended, or this user may not read its memory.
pub fn counters(process: &Path, file: &Metadata) -> io::Result<Option<Counters>> {
    let is_it = |found: &Metadata| (found.dev(), found.ino()) == (file.dev(), file.ino());
    let mappings = mappings(process)?;
    // The kernel counts where the program itself may write. The same part of the file may be mapped once more, to be read.
    let mut of_file =
        mappings.iter().filter(|mapping| mapping.is_writable && mapping.file.inode == file.ino());
    // An inode says little by itself: other file systems have the same numbers.
    let Some(first) =
        of_file.next().filter(|mapping| mapping.metadata(process).is_ok_and(|found| is_it(&found)))
    else {
        return Ok(None);
    };
    let same = std::iter::once(first).chain(of_file.filter(|mapping| mapping.file == first.file));
    let parts = same.map(|mapping| (mapping.start, mapping.offset, mapping.end - mapping.start)).collect();
    Ok(Some(Counters { memory: File::open(process.join("mem"))?, parts }))
}

impl Counters {
    /// Whether a consumer is attached to the probe; `None` if it has no counter, or the counter can't be read.
    ///
    /// How many there are does not show: the kernel counts places rather than consumers.
    pub fn is_attached(&self, probe: &Probe) -> Option<bool> {
        let at = probe.semaphore;
        let part = self.parts.iter().find(|(_, offset, bytes)| (*offset..offset + bytes).contains(&at))?;
        let mut counter = [0; 2];
        self.memory.read_exact_at(&mut counter, part.0 + (at - part.1)).ok()?;
        (at != 0).then_some(counter != [0; 2])
    }
}
