//! The file `senders`: the progress of each sender, for when the segments with it are gone.
//!
//! ```text
//! head                           24 bytes, see `format`
//! sender, spans, missing, lost   u64, little-endian, for each sender
//! CRC-32                         u32, of everything above
//! ```
//!
//! The newest sender comes first. The file is replaced as a whole, and removed if it can't be replaced: an old one
//! would report delivered spans as missing. If it is damaged or absent, no sender is known, and no span is reported
//! missing.
//!
//! Version 1 has the text `spantap senders1` as its head. Early builds wrote 24 bytes for each sender, without
//! `lost`. If these are read as 32 bytes, a random id is in the place of a count, and the file counts as damaged.

use std::fs;
use std::io;
use std::path::Path;

use super::format::{FILE_HEAD_BYTES, Kind, VERSION};
use crate::process::Progress;

/// The bytes of a sender.
pub(super) const ENTRY: usize = 32;

const HEAD_OF_VERSION_1: &[u8] = b"spantap senders1";
/// A larger count is damage: random ids are almost always larger, and no program sends so many spans.
const MAX_SPANS: u64 = 1 << 48;

pub(super) fn read(folder: &Path) -> Vec<Progress> {
    let read = || {
        let bytes = fs::read(folder.join("senders")).ok()?;
        let (content, crc) = bytes.split_last_chunk()?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(content) {
            return None;
        }
        if Kind::Senders.version(content) == VERSION {
            return Some(content[FILE_HEAD_BYTES..].chunks_exact(ENTRY).filter_map(entry).collect());
        }
        let entries = content.strip_prefix(HEAD_OF_VERSION_1)?;
        let senders: Vec<Progress> = entries.chunks_exact(ENTRY).filter_map(entry).collect();
        let is_plausible = |of: &Progress| of.spans.max(of.missing).max(of.lost) < MAX_SPANS;
        (entries.len() % ENTRY == 0 && senders.iter().all(is_plausible)).then_some(senders)
    };
    read().unwrap_or_default()
}

pub(super) fn write(folder: &Path, senders: impl Iterator<Item = Progress>) -> io::Result<()> {
    let (file, new) = (folder.join("senders"), folder.join("senders.new"));
    let written = write_new(&new, senders).and_then(|()| fs::rename(&new, &file));
    if written.is_err() {
        // Leaves neither a partial file nor the old one.
        let _ = fs::remove_file(new);
        let _ = fs::remove_file(file);
    }
    written
}

fn write_new(path: &Path, senders: impl Iterator<Item = Progress>) -> io::Result<()> {
    let mut bytes = Kind::Senders.head().to_vec();
    senders.for_each(|progress| put(progress, &mut bytes));
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    fs::write(path, bytes)
}

/// Appends a sender. A record has the same form.
pub(super) fn put(progress: Progress, out: &mut Vec<u8>) {
    let Progress { sender, spans, missing, lost } = progress;
    [sender, spans, missing, lost].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

pub(super) fn entry(bytes: &[u8]) -> Option<Progress> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    Some(Progress { sender: number(0)?, spans: number(8)?, missing: number(16)?, lost: number(24)? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    #[test]
    fn senders_are_read_back_unless_the_file_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), []);
        let progress = |sender, spans, missing, lost| Progress { sender, spans, missing, lost };
        let senders = [progress(1, 10, 2, 3), progress(u64::MAX, 7, 0, 0)];
        write(folder.path(), senders.into_iter()).unwrap();
        assert_eq!(read(folder.path()), senders);
        let file = folder.path().join("senders");
        let whole = fs::read(&file).unwrap();
        for length in 0..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            assert_eq!(read(folder.path()), [], "cut to {length} bytes");
        }
    }
}
