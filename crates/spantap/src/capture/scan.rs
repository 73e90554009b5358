//! Finds the frames of a file, also behind damage. Limits what is read in vain, so that the time to read a file grows
//! only with its length, whoever made it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem::take;
use std::os::unix::fs::FileExt;

use super::frame::{Found, Header, MAGIC};

/// The usual header is shorter, so that one read is enough.
const USUAL_HEADER: usize = 4096;
/// The bytes that a search reads at once.
const PIECE: usize = 64 << 10;

/// The most bytes that are read in vain: this many, and for each byte of the file `WASTE_PER_BYTE`. What is damaged wastes
/// no more than its own bytes, so only a file that was made for it gets there.
const MAX_WASTE: u64 = 64 << 20;
const WASTE_PER_BYTE: u64 = 4;

/// The bytes that were read in vain, such as for a header whose checksum is wrong.
#[derive(Default)]
pub(super) struct Waste(u64);

impl Waste {
    /// Whether this many bytes at `at` may be read, although it may be in vain.
    pub(super) fn allows(&self, length: usize, at: u64) -> bool {
        self.0 + length as u64 <= MAX_WASTE + WASTE_PER_BYTE * at
    }

    /// Adds bytes that were read in vain.
    pub(super) fn add(&mut self, length: usize) {
        self.0 += length as u64;
    }
}

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

/// What a search has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// The next whole header is here.
    Header(u64),
    /// There is no whole header. From here on, the bytes may be the beginning of one; this is the end if none are.
    None(u64),
}

/// Finds the frames of one file. Takes the end of the file at each call: what a writer appends meanwhile is not seen, so
/// that a frame which is being written is always a part.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) waste: Waste,
    header: Vec<u8>,
    piece: Vec<u8>,
}

impl Scan {
    /// What is at `at`, in a file that ends at `end`.
    pub(super) fn found_at(&mut self, file: &File, at: u64, end: u64) -> io::Result<Found> {
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        read_at(file, at, USUAL_HEADER.min(left), &mut self.header)?;
        let length = match Header::length_of(&self.header) {
            Ok(length) if length > left => return Ok(Found::Part(length)),
            Ok(length) if !self.waste.allows(length.max(USUAL_HEADER), at) => return Ok(Found::Other),
            Ok(length) => length,
            Err(found) => return Ok(found),
        };
        if length > self.header.len() {
            read_at(file, at, length, &mut self.header)?;
        }
        let found = Header::read(&self.header);
        if found == Found::Other {
            self.waste.add(length.max(USUAL_HEADER));
        }
        Ok(found)
    }

    /// Searches for the next whole header from `from` on, in a file that ends at `end`.
    pub(super) fn search(&mut self, file: &File, from: u64, end: u64) -> io::Result<Next> {
        let mut piece = take(&mut self.piece);
        let next = self.search_in_pieces(file, from, end, &mut piece);
        self.piece = piece;
        next
    }

    fn search_in_pieces(
        &mut self,
        file: &File,
        from: u64,
        end: u64,
        piece: &mut Vec<u8>,
    ) -> io::Result<Next> {
        let (mut at, mut part) = (from, None);
        loop {
            let length = PIECE.min(usize::try_from(end.saturating_sub(at)).unwrap_or(PIECE));
            read_at(file, at, length, piece)?;
            for (start, _) in piece.iter().enumerate().filter(|(_, byte)| **byte == MAGIC[0]) {
                let place = at + start as u64;
                let length = match Header::length_of(&piece[start..]) {
                    Err(Found::Other) => continue,
                    Err(_) => 0,
                    Ok(length) => length,
                };
                if !self.waste.allows(length.max(USUAL_HEADER), place) {
                    continue;
                }
                match self.found_at(file, place, end)? {
                    Found::Header(_) | Found::Newer(_) => return Ok(Next::Header(place)),
                    Found::Part(_) => _ = part.get_or_insert(place),
                    Found::Other => {}
                }
            }
            if piece.len() < PIECE {
                return Ok(Next::None(part.unwrap_or(end)));
            }
            // The magic may begin in this piece and end in the next.
            at += (PIECE - (MAGIC.len() - 1)) as u64;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use std::io::Write;

    use super::*;
    use crate::capture::encode;
    use crate::capture::tests::{request, span};

    #[test]
    fn what_is_behind_the_end_is_not_seen() {
        let frame = encode(request(&[span(1, 1, 5..9)])).unwrap();
        let Found::Header(header) = Header::read(&frame) else { unreachable!() };
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[&b"other"[..], &frame, &frame].concat()).unwrap();
        let mut scan = Scan::default();
        for end in 5..5 + frame.len() as u64 {
            let found = scan.found_at(&file, 5, end).unwrap();
            let is_whole = end >= 5 + header.length() as u64;
            assert_eq!(matches!(found, Found::Header(_)), is_whole, "{end}");
            assert_eq!(matches!(found, Found::Part(_)), !is_whole, "{end}");
            let next = if is_whole { Next::Header(5) } else { Next::None(5) };
            assert_eq!(scan.search(&file, 0, end).unwrap(), next, "{end}");
            // The last bytes may agree with the magic by chance.
            let behind = scan.search(&file, 6, end).unwrap();
            assert!(matches!(behind, Next::None(part) if part + MAGIC.len() as u64 > end), "{behind:?}");
        }
    }
}
