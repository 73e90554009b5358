//! A record of a segment: one chunk.
//!
//! ```text
//! length of the payload   u32   little-endian, as are all numbers
//! CRC-32                  u32   of everything below
//! spans                   u32
//! length of the resource  u32   its highest bit is set if the payload begins with the progress of senders
//! pid, uid, gid           u32, three times
//! payload                       if it has progress: the number of senders (u32), and 32 bytes for each;
//!                               then the resource and the scope_spans
//! ```
//!
//! The headers alone lead from record to record, so a start can count what waits. Everything else in a record is only
//! used if the checksum is right.
//!
//! Version 1 has the same records. Early builds wrote 24 bytes for each sender, without `lost`. Such a record is
//! recognised by its resource, which must be one whole field. Its spans are used and its senders are not, because
//! without `lost`, reports of losses would look like missing spans.

use bytes::{Buf, Bytes};

use super::format::VERSION;
use super::senders::{self, ENTRY};
use crate::encode::Chunk;
use crate::process::{Progress, Sender};

pub(super) const RECORD_HEADER_BYTES: u64 = 28;
/// The size of the number of senders.
const COUNT: usize = 4;
/// The bytes of a sender in early records of version 1.
const ENTRY_WITHOUT_LOST: usize = 24;
/// A header with more is damaged: datagrams have some hundred kilobytes at most.
const MAX_PAYLOAD: u32 = 256 << 20;

/// The part of a record before the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    length: u32,
    crc: u32,
    pub(super) spans: u32,
    resource: u32,
    pub(super) has_progress: bool,
    pub(super) sender: Sender,
}

/// A bit in the length of the resource.
const HAS_PROGRESS: u32 = 1 << 31;

impl Header {
    /// Returns `None` if this is not the beginning of a record. Zeros, which a disk may have after a power cut, are
    /// not: a chunk has spans.
    pub(super) fn read(mut bytes: &[u8]) -> Option<Self> {
        if (bytes.len() as u64) < RECORD_HEADER_BYTES {
            return None;
        }
        let mut field = || bytes.get_u32_le();
        let (length, crc, spans, resource) = (field(), field(), field(), field());
        let sender = Sender { pid: field(), uid: field(), gid: field() };
        let has_progress = resource & HAS_PROGRESS != 0;
        let header = Self { length, crc, spans, resource: resource & !HAS_PROGRESS, has_progress, sender };
        // A span has at least two bytes, its key and its length.
        let sane = header.length <= MAX_PAYLOAD
            && header.resource <= header.length
            && header.spans > 0
            && header.spans <= header.length / 2;
        sane.then_some(header)
    }

    /// The bytes of the whole record.
    pub(super) fn record_length(self) -> u64 {
        RECORD_HEADER_BYTES + u64::from(self.length)
    }

    /// Decodes `record`, the header and the payload, of a segment of `version`. Returns `None` if it is damaged.
    pub(super) fn chunk(self, record: &Bytes, version: u32) -> Option<Chunk> {
        if crc32fast::hash(&record[8..]) != self.crc {
            return None;
        }
        let payload = record.slice(RECORD_HEADER_BYTES as usize..);
        let (progress, start) =
            if self.has_progress { self.progress(&payload, version)? } else { (Vec::new(), 0) };
        let split = start + self.resource as usize;
        if split > payload.len() {
            return None;
        }
        let (resource, scope_spans) = (payload.slice(start..split), payload.slice(split..));
        Some(Chunk { sender: self.sender, resource, scope_spans, spans: self.spans, progress })
    }

    /// The readable progress in a record with a wrong checksum.
    pub(super) fn claimed_progress(self, record: &[u8], version: u32) -> Vec<Progress> {
        let payload = record.get(RECORD_HEADER_BYTES as usize..).filter(|_| self.has_progress);
        payload.and_then(|payload| self.progress(payload, version)).unwrap_or_default().0
    }

    /// The progress at the beginning of the payload, and where it ends.
    fn progress(self, payload: &[u8], version: u32) -> Option<(Vec<Progress>, usize)> {
        let (count, rest) = payload.split_first_chunk::<COUNT>()?;
        let count = u32::from_le_bytes(*count) as usize;
        let entries = |size: usize| {
            let (entries, rest) = rest.split_at_checked(size.checked_mul(count)?)?;
            let resource = rest.get(..self.resource as usize)?;
            (version >= VERSION || is_field(resource)).then_some(entries)
        };
        match entries(ENTRY) {
            Some(found) => {
                Some((found.chunks_exact(ENTRY).filter_map(senders::entry).collect(), COUNT + found.len()))
            }
            None if version < VERSION => Some((Vec::new(), COUNT + entries(ENTRY_WITHOUT_LOST)?.len())),
            None => None,
        }
    }
}

/// Whether these bytes are exactly one protobuf field with a length.
fn is_field(bytes: &[u8]) -> bool {
    let Some((_key, rest)) = bytes.split_first() else { return false };
    let length = prost::decode_length_delimiter(rest);
    length.is_ok_and(|length| prost::length_delimiter_len(length) + length == rest.len())
}

/// Encodes `chunk` into `record`, which is replaced. Leaves it empty if the chunk could not be read back: without
/// spans, or far too large.
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
