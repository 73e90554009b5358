//! A record of a segment: one chunk.
//!
//! ```text
//! length of the payload   u32   little-endian, as all of these
//! its CRC-32              u32   of all that is below
//! spans                   u32
//! length of the resource  u32   its highest bit: the payload begins with the progress of senders
//! pid, uid, gid           u32, three times
//! payload                       the number of senders (u32) and 32 bytes for each, if there are any;
//!                               the resource, then the scope_spans
//! ```
//!
//! A segment can be walked by its headers alone, which is how what waits is counted at the start. What else a record
//! says is taken only if its checksum is right.

use bytes::{Buf, Bytes};

use super::senders::{self, ENTRY};
use crate::chunk::Chunk;
use crate::process::Sender;
use crate::sequence::Progress;

pub(super) const HEADER: u64 = 28;
/// The size of the number of senders.
const COUNT: usize = 4;
/// A header that says more is damaged: datagrams are some hundred kilobytes at most.
const MAX_PAYLOAD: u32 = 256 << 20;

/// What stands before the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    length: u32,
    crc: u32,
    pub(super) spans: u32,
    resource: u32,
    pub(super) has_progress: bool,
    pub(super) sender: Sender,
}

/// In the length of the resource.
const HAS_PROGRESS: u32 = 1 << 31;

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
        let has_progress = resource & HAS_PROGRESS != 0;
        let header = Self { length, crc, spans, resource: resource & !HAS_PROGRESS, has_progress, sender };
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
        let payload = record.slice(HEADER as usize..);
        let (progress, start) = if self.has_progress { progress(&payload)? } else { (Vec::new(), 0) };
        let split = start + self.resource as usize;
        if split > payload.len() {
            return None;
        }
        let (resource, scope_spans) = (payload.slice(start..split), payload.slice(split..));
        Some(Chunk { sender: self.sender, resource, scope_spans, spans: self.spans, progress })
    }
}

/// How far senders have come, off the front of the payload, and where that ends.
fn progress(payload: &[u8]) -> Option<(Vec<Progress>, usize)> {
    let (count, entries) = payload.split_first_chunk::<COUNT>()?;
    let length = ENTRY.checked_mul(u32::from_le_bytes(*count) as usize)?;
    let progress = entries.get(..length)?.chunks_exact(ENTRY).filter_map(senders::entry).collect();
    Some((progress, COUNT + length))
}

/// Puts `chunk` into `record` instead of what is there. Nothing is put for a chunk that could not be
/// read again: one without spans, or far too large.
pub(super) fn write(chunk: &Chunk, record: &mut Vec<u8>) {
    record.clear();
    let has_progress = !chunk.progress.is_empty();
    let progress = if has_progress { COUNT + ENTRY * chunk.progress.len() } else { 0 };
    let length = progress + chunk.bytes();
    if chunk.spans == 0 || length > MAX_PAYLOAD as usize {
        return;
    }
    record.extend_from_slice(&(length as u32).to_le_bytes());
    record.extend_from_slice(&[0; 4]);
    record.extend_from_slice(&chunk.spans.to_le_bytes());
    let resource = chunk.resource.len() as u32 | if has_progress { HAS_PROGRESS } else { 0 };
    record.extend_from_slice(&resource.to_le_bytes());
    let Sender { pid, uid, gid } = chunk.sender;
    [pid, uid, gid].iter().for_each(|id| record.extend_from_slice(&id.to_le_bytes()));
    if has_progress {
        record.extend_from_slice(&(chunk.progress.len() as u32).to_le_bytes());
        chunk.progress.iter().for_each(|progress| senders::put(*progress, record));
    }
    record.extend_from_slice(&chunk.resource);
    record.extend_from_slice(&chunk.scope_spans);
    let crc = crc32fast::hash(&record[8..]);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
}
