//! The format of a capture, version 1. A capture is a sequence of frames, with nothing before, between or after them.
//!
//! # Layout
//!
//! A frame is a header and a body. All numbers are little-endian, and times are in nanoseconds since 1970.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | the magic, `89 73 70 61 6e 74 61 70`: 0x89 and `spantap` |
//! | 8 | 4 | the version of the format, 1 |
//! | 12 | 4 | the length of the header, `H`: 60 + 4 × the number of fingerprints |
//! | 16 | 4 | the length of the body, `B` |
//! | 20 | 4 | the length of the body without compression |
//! | 24 | 4 | CRC-32 of the body, as it is in the file |
//! | 28 | 4 | the number of spans, at least that of the fingerprints |
//! | 32 | 8 | when the frame was written |
//! | 40 | 8 | the earliest start of a span |
//! | 48 | 8 | the latest end of a span |
//! | 56 | 4 each | fingerprints of the trace ids: distinct, in ascending order |
//! | `H` − 4 | 4 | CRC-32 of the header up to here |
//! | `H` | `B` | the body: an OTLP `ExportTraceServiceRequest` in protobuf, compressed (see `compress`) |
//!
//! A fingerprint is the exclusive or of the four 32-bit words of a trace id. So the headers are the index: a reader
//! that looks for a trace or for a time goes from header to header, and reads only the bodies that may have it.
//!
//! # Invariants
//!
//! * A frame is written by one `write` at the end of the file, and never changed. A write that fails is undone.
//! * Frames are independent of each other, so any frame can be read without those before it. Each body has the resource of
//!   each of its processes.
//! * spantap has decoded and checked the spans before it records them, so a reader does not check them again.
//! * One program writes a capture at a time, and holds a lock on it (`flock`). Readers take no lock, and may read while
//!   it grows.
//! * A body has at most 16 MiB, also without compression, and a header at most 60 bytes and a million fingerprints. A reader
//!   allocates no more, whatever a header says.
//! * Files are not synced to the disk. A crash of spantap loses the spans that are not in a frame yet; a power cut or a
//!   crash of the kernel can lose the last seconds.
//!
//! # Versions
//!
//! The magic, the version, the length of the header, and the checksum at its end are the same in every version. A
//! reader refuses a frame of a later version. It is no damage if the checksum of its header is right. A writer does not append
//! to a capture that begins with one.
//!
//! # Damage
//!
//! * The file ends with the beginning of a frame, such as after a kill or a power cut, or while a frame is being written:
//!   everything before it is read. The next recording into the same file cuts this tail off. It is shorter than the largest
//!   frame.
//! * The checksum of a body is wrong, or it can't be decoded: no span of the frame is used.
//! * A header is damaged, or the length of a frame does not lead to another frame or to the end of the file: the
//!   reader searches for the next whole header, byte by byte.
//! * The file ends with anything else, such as zeros: this is damage, too. The next recording leaves it where it is.
//!
//! [`Damage`](super::Damage) has the places and the bytes.
//!
//! # A file from someone else
//!
//! The checksums find accidents. They are no signature: whoever can write the file can make valid frames with any spans,
//! and can leave spans out. A fingerprint that is missing hides a span from a search for its trace. So a capture
//! is as trustworthy as its owner. A file that was made to harm its reader can't do more than this:
//!
//! * Memory: a reader holds two frames for each of up to eight threads, and a thread decodes one at a time. A frame may
//!   have 16 MiB, and 16 MiB without compression; decoded, this may take thirty times as much, some 500 MiB for each
//!   thread. A few kilobytes are enough for such a frame, because they may decompress to 16 MiB.
//! * Time: what is read for headers and bodies with wrong checksums is limited to four times the length of the file and 64
//!   MiB; then the reader leaves such places out without reading them. See `scan`. Decoding takes time in proportion to the
//!   bytes without compression.
//! * Text: names and attributes may have any characters. Whoever shows them must escape control characters.

use super::index::Index;

/// The first bytes of each frame. The first of them is in no text, so that no text is taken for a capture.
pub(super) const MAGIC: [u8; 8] = *b"\x89spantap";
/// The version that this build writes, and the latest that it reads.
const VERSION: u32 = 1;
/// The size of a header without fingerprints.
pub(super) const MIN_HEADER: usize = 60;
/// The most bytes of a header.
pub(super) const MAX_HEADER: usize = MIN_HEADER + (4 << 20);
/// The most bytes of a body, also without compression. The usual one has a thirtieth of it. Decoded, it may take thirty
/// times as much memory, if someone made it for that.
pub(super) const MAX_BODY: usize = 16 << 20;

/// The bytes up to and with the length of the header.
const START: usize = 16;
/// Where the version and the number of spans are.
const VERSION_AT: usize = 8;
const SPANS: usize = 28;

/// A header that was read or is to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// The length of the body, in the file and without compression, and its checksum.
    pub(super) body: usize,
    pub(super) raw: usize,
    pub(super) body_crc: u32,
    pub(super) spans: u32,
    pub(super) written_ns: u64,
    pub(super) index: Index,
}

/// What is at a place of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// A whole header.
    Header(Header),
    /// The beginning of a header, whose end is not in the file. It takes this many bytes at least.
    Part(usize),
    /// A whole header of this later version.
    Newer(u32),
    /// Anything else.
    Other,
}

impl Header {
    /// The length of the header.
    pub(super) fn length(&self) -> usize {
        MIN_HEADER + 4 * self.index.fingerprints().len()
    }

    /// The length of the frame.
    pub(super) fn frame(&self) -> u64 {
        (self.length() + self.body) as u64
    }

    /// Appends the header to `out`.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        let (spans, index) = (self.spans, &self.index);
        let numbers =
            [VERSION, self.length() as u32, self.body as u32, self.raw as u32, self.body_crc, spans];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        let times = [self.written_ns, index.earliest_ns, index.latest_ns];
        times.iter().for_each(|time| out.extend_from_slice(&time.to_le_bytes()));
        index.fingerprints().iter().for_each(|of| out.extend_from_slice(&of.to_le_bytes()));
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// The length of the header that `bytes` begin with, as the header itself says; if they can't be one, or are too few to
    /// tell, what they are. A length that the rest of the header contradicts is refused before anyone reads that much.
    pub(super) fn length_of(bytes: &[u8]) -> Result<usize, Found> {
        let common = bytes.len().min(MAGIC.len());
        if bytes[..common] != MAGIC[..common] {
            return Err(Found::Other);
        }
        let (Some(version), Some(length)) = (u32_at(bytes, VERSION_AT), u32_at(bytes, 12)) else {
            return Err(Found::Part(START));
        };
        let length = length as usize;
        let can_be = match version {
            // No span has more than one trace id.
            VERSION => length.checked_sub(MIN_HEADER).is_some_and(|of| {
                of % 4 == 0 && u32_at(bytes, SPANS).is_none_or(|spans| of / 4 <= spans as usize)
            }),
            _ => length >= START + 4,
        };
        if can_be && length <= MAX_HEADER { Ok(length) } else { Err(Found::Other) }
    }

    /// Reads what `bytes` begin with. They are all bytes to the end of the file, or at least as many as an earlier
    /// [`Found::Part`] has asked for.
    pub(super) fn read(bytes: &[u8]) -> Found {
        let length = match Self::length_of(bytes) {
            Ok(length) => length,
            Err(found) => return found,
        };
        let Some(header) = bytes.get(..length) else { return Found::Part(length) };
        let (content, crc) = header.split_at(length - 4);
        if u32_at(crc, 0) != Some(crc32fast::hash(content)) {
            return Found::Other;
        }
        match u32_at(bytes, VERSION_AT).unwrap_or_default() {
            VERSION => Self::of(content).map_or(Found::Other, Found::Header),
            version if version > VERSION => Found::Newer(version),
            _ => Found::Other,
        }
    }

    /// Reads a header without its checksum, which was right. `None` if a program wrote it that does not keep to the
    /// format.
    fn of(content: &[u8]) -> Option<Self> {
        let number = |at| u32_at(content, at);
        let time = |at| Some(u64::from_le_bytes(*content.get(at..)?.first_chunk()?));
        let (body, raw) = (number(16)? as usize, number(20)? as usize);
        let (body_crc, spans) = (number(24)?, number(SPANS)?);
        let (written_ns, earliest_ns, latest_ns) = (time(32)?, time(40)?, time(48)?);
        let fingerprints = content.get(56..)?;
        if fingerprints.len() % 4 != 0 || body > MAX_BODY || raw > MAX_BODY {
            return None;
        }
        let fingerprints = fingerprints.chunks_exact(4).filter_map(|bytes| u32_at(bytes, 0)).collect();
        let index = Index::of(fingerprints, earliest_ns, latest_ns)?;
        Some(Self { body, raw, body_crc, spans, written_ns, index })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    fn header() -> Header {
        let index = Index::of(vec![1, 7, u32::MAX], 5, 9).unwrap();
        Header { body: 1_000, raw: 5_000, body_crc: 3, spans: 4, written_ns: u64::MAX, index }
    }

    fn bytes() -> Vec<u8> {
        let mut bytes = Vec::new();
        header().put(&mut bytes);
        bytes
    }

    #[test]
    fn reads_what_it_writes() {
        let mut bytes = bytes();
        assert_eq!((bytes.len(), header().frame()), (72, 1_072));
        assert_eq!(Header::read(&bytes), Found::Header(header()));
        bytes.extend([0xff; 100]);
        assert_eq!(Header::read(&bytes), Found::Header(header()));
    }

    #[test]
    fn a_part_of_a_header_is_recognised_at_any_length() {
        let bytes = bytes();
        for length in 0..bytes.len() {
            let asked = if length < START { START } else { bytes.len() };
            assert_eq!(Header::read(&bytes[..length]), Found::Part(asked), "{length}");
        }
    }

    #[test]
    fn flipped_bits_are_noticed() {
        let bytes = bytes();
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A flipped length may ask for more bytes than there are.
            assert!(matches!(Header::read(&flipped), Found::Other | Found::Part(_)), "{bit}");
        }
    }

    #[test]
    fn later_versions_are_recognised_whatever_they_add() {
        let mut newer = [&MAGIC[..], &2_u32.to_le_bytes(), &25_u32.to_le_bytes(), b"addd\x01"].concat();
        newer.extend(crc32fast::hash(&newer).to_le_bytes());
        assert_eq!(Header::read(&newer), Found::Newer(2));
        newer[18] ^= 1;
        assert_eq!(Header::read(&newer), Found::Other);
    }

    #[test]
    fn headers_that_break_the_rules_are_refused() {
        let unsorted = Index::of(vec![7, 1], 5, 9);
        assert_eq!(unsorted, None);
        let mut bytes = Vec::new();
        Header { raw: MAX_BODY + 1, ..header() }.put(&mut bytes);
        assert_eq!(Header::read(&bytes), Found::Other);
        // A header of 2 GiB is not waited for.
        let huge = [&MAGIC[..], &1_u32.to_le_bytes(), &(2_u32 << 30).to_le_bytes()].concat();
        assert_eq!(Header::read(&huge), Found::Other);
    }
}
