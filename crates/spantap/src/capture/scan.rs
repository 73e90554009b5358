//! Finds the frames of a file, also behind damage.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use super::frame::{Found, Header, MAGIC};

/// The usual header is shorter, so that one read is enough.
const USUAL_HEADER: usize = 4096;
/// The bytes that a search reads at once.
const PIECE: usize = 64 << 10;

/// Reads the bytes from `at` on into `bytes`, which it replaces: `length` bytes, or less at the end of the file.
pub(super) fn read_at(file: &File, at: u64, length: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.resize(length, 0);
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    bytes.truncate(filled);
    Ok(())
}

/// What is at `at`. Uses `bytes` as a buffer.
pub(super) fn found_at(file: &File, at: u64, bytes: &mut Vec<u8>) -> io::Result<Found> {
    let mut wanted = USUAL_HEADER;
    loop {
        read_at(file, at, wanted, bytes)?;
        match Header::read(bytes) {
            Found::Part(length) if length > wanted && bytes.len() == wanted => wanted = length,
            found => return Ok(found),
        }
    }
}

/// Where the next whole header is, from `from` on. Uses `bytes` as a buffer.
pub(super) fn search(file: &File, from: u64, bytes: &mut Vec<u8>) -> io::Result<Option<u64>> {
    let mut at = from;
    let mut header = Vec::new();
    loop {
        read_at(file, at, PIECE, bytes)?;
        if bytes.len() < MAGIC.len() {
            return Ok(None);
        }
        for (start, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == MAGIC[0]) {
            if bytes[start..].starts_with(&MAGIC) {
                let place = at + start as u64;
                if let Found::Header(_) | Found::Newer(_) = found_at(file, place, &mut header)? {
                    return Ok(Some(place));
                }
            }
        }
        // The magic may begin in this piece and end in the next.
        at += (bytes.len() - (MAGIC.len() - 1)) as u64;
    }
}
