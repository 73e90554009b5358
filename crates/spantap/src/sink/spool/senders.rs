//! The file `senders`: how far each sender has come, for when the segments that say so are gone.
//!
//! ```text
//! MAGIC
//! sender, spans, missing, lost   u64, little-endian, for each sender
//! CRC-32                         u32, of all that is above
//! ```
//!
//! The newest sender comes first. The file is replaced as a whole, and removed where it can't be replaced: an old one
//! would claim delivered spans to be missing. If it is damaged or not there, no sender is known, and nothing is claimed.

use std::fs;
use std::io;
use std::path::Path;

use crate::sequence::Progress;

/// How many bytes a sender takes.
pub(super) const ENTRY: usize = 32;

const MAGIC: &[u8; 16] = b"spantap senders1";

pub(super) fn read(folder: &Path) -> Vec<Progress> {
    let read = || {
        let bytes = fs::read(folder.join("senders")).ok()?;
        let (content, crc) = bytes.split_last_chunk()?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(content) {
            return None;
        }
        let entries = content.strip_prefix(MAGIC)?.chunks_exact(ENTRY);
        Some(entries.filter_map(entry).collect())
    };
    read().unwrap_or_default()
}

pub(super) fn write(folder: &Path, senders: impl Iterator<Item = Progress>) -> io::Result<()> {
    let (file, new) = (folder.join("senders"), folder.join("senders.new"));
    let written = write_new(&new, senders).and_then(|()| fs::rename(&new, &file));
    if written.is_err() {
        // A disk that is full has no room for it either.
        let _ = fs::remove_file(new);
        let _ = fs::remove_file(file);
    }
    written
}

fn write_new(path: &Path, senders: impl Iterator<Item = Progress>) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    senders.for_each(|progress| put(progress, &mut bytes));
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    fs::write(path, bytes)
}

/// One sender, which is written the same way in a record.
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
