//! A record of a segment: one chunk.
//!
//! ```text
//! length of the payload   u32   little-endian, as all of these
//! its CRC-32              u32   of all that is below
//! spans                   u32
//! length of the resource  u32
//! pid, uid, gid           u32, three times
//! payload                       the resource, then the scope_spans
//! ```
//!
//! A segment can be walked by its headers alone, which is how what waits is counted at the start; the
//! checksum is looked at when a record is read.

use bytes::{Buf, Bytes};

use crate::chunk::Chunk;
use crate::process::Sender;

pub(super) const HEADER: u64 = 28;
/// A header that says more is damaged: datagrams are some hundred kilobytes at most.
const MAX_PAYLOAD: u32 = 256 << 20;

/// What stands before the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    length: u32,
    crc: u32,
    pub(super) spans: u32,
    resource: u32,
    pub(super) sender: Sender,
}

impl Header {
    /// Nothing if no record begins like this. Zeros, which a disk may leave after a power cut, do not:
    /// a chunk has spans.
    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        if (bytes.len() as u64) < HEADER {
            return None;
        }
        let mut field = || bytes.get_u32_le();
        let (length, crc, spans, resource) = (field(), field(), field(), field());
        let sender = Sender { pid: field(), uid: field(), gid: field() };
        let header = Self { length, crc, spans, resource, sender };
        // A span takes two bytes at least, its key and its length.
        let sane = header.length <= MAX_PAYLOAD
            && header.resource <= header.length
            && header.spans > 0
            && header.spans <= header.length / 2;
        sane.then_some(header)
    }

    /// Of the whole record.
    pub(super) fn record_length(self) -> u64 {
        HEADER + u64::from(self.length)
    }

    /// `record` is the header and the payload. Nothing if it is damaged.
    pub(super) fn chunk(self, record: &Bytes) -> Option<Chunk> {
        if crc32fast::hash(&record[8..]) != self.crc {
            return None;
        }
        let (start, split) = (HEADER as usize, HEADER as usize + self.resource as usize);
        let (resource, scope_spans) = (record.slice(start..split), record.slice(split..));
        Some(Chunk { sender: self.sender, resource, scope_spans, spans: self.spans })
    }
}

/// Puts `chunk` into `record` instead of what is there. Nothing is put for a chunk that could not be
/// read again: one without spans, or far too large.
pub(super) fn write(chunk: &Chunk, record: &mut Vec<u8>) {
    record.clear();
    if chunk.spans == 0 || chunk.bytes() > MAX_PAYLOAD as usize {
        return;
    }
    record.extend_from_slice(&(chunk.bytes() as u32).to_le_bytes());
    record.extend_from_slice(&[0; 4]);
    record.extend_from_slice(&chunk.spans.to_le_bytes());
    record.extend_from_slice(&(chunk.resource.len() as u32).to_le_bytes());
    let Sender { pid, uid, gid } = chunk.sender;
    [pid, uid, gid].iter().for_each(|id| record.extend_from_slice(&id.to_le_bytes()));
    record.extend_from_slice(&chunk.resource);
    record.extend_from_slice(&chunk.scope_spans);
    let crc = crc32fast::hash(&record[8..]);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
}
