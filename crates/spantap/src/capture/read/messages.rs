//! Reads messages that follow their lengths, as an OpenTelemetry collector's file exporter writes them with `format: proto`
//! or `compression: zstd`: a 4-byte big-endian length, and then an encoded request, each compressed by itself.
//!
//! Nothing but its length shows where a message ends, so a wrong length would lose all messages behind it. Therefore a message
//! is expected to be followed by another one. If it is not, the structure of the request shows where it ends.

use std::fs::File;

use anyhow::Result;
use prost::encoding::decode_varint;
use serde::de::IgnoredAny;

use super::contents::{Document, MAX_DOCUMENT};
use crate::capture::compress::{ZSTD, compressed_length, decompress_up_to};
use crate::capture::damage::Damage;
use crate::capture::scan::{Waste, read_at};

/// The messages of a file.
pub(super) struct Messages {
    file: File,
    at: u64,
    waste: Waste,
}

/// Whether these bytes can begin such a file.
pub(super) fn can_begin_with(bytes: &[u8]) -> bool {
    let Some((length, message)) = bytes.split_first_chunk::<LENGTH>() else { return false };
    let length = u32::from_be_bytes(*length) as usize;
    !message.is_empty() && is_request(message) && (2..=MAX_DOCUMENT).contains(&length)
}

impl Messages {
    pub(super) fn new(file: File) -> Self {
        Self { file, at: 0, waste: Waste::default() }
    }

    /// Where the next message begins.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// The next message.
    pub(super) fn next(&mut self, damage: &mut Damage) -> Result<Option<Document>> {
        damage.tail_bytes = 0;
        let mut bytes = Vec::new();
        loop {
            let (at, end) = (self.at, self.file.metadata()?.len());
            let left = end.saturating_sub(at);
            read_at(&self.file, at, LENGTH, &mut bytes)?;
            let Some(length) = length_of(&bytes) else {
                damage.tail_bytes = left;
                return Ok(None);
            };
            if length == 0 {
                let zeros = self.zeros(end)?;
                if zeros > LENGTH as u64 {
                    damage.add(at, zeros, 0);
                }
                self.at += zeros;
                continue;
            }
            let message = (LENGTH + length) as u64;
            if length <= MAX_DOCUMENT {
                // With the beginning of the next message.
                read_at(&self.file, at + LENGTH as u64, length + NEXT, &mut bytes)?;
            }
            if length > MAX_DOCUMENT || !is_followed(&bytes, length) {
                let window = MAX_DOCUMENT.min(usize::try_from(left).unwrap_or(usize::MAX));
                let may_read = self.waste.allows(window, at);
                if may_read {
                    read_at(&self.file, at + LENGTH as u64, window, &mut bytes)?;
                }
                // A message that is not whole may end between two fields.
                let content = content_length(&bytes)
                    .filter(|content| may_read && (message <= left || *content < bytes.len()));
                if content.is_none() && message > left && length <= MAX_DOCUMENT && is_request(&bytes) {
                    damage.tail_bytes = left;
                    return Ok(None);
                }
                self.waste.add(window);
                if let Some(content) = content.filter(|content| *content != length) {
                    let wrong = (LENGTH + content) as u64;
                    damage.add(at, wrong, 0);
                    self.at += wrong;
                    continue;
                }
                if length > MAX_DOCUMENT || message > left {
                    damage.add(at, message.min(left), 0);
                    // The rest of a long message may still be to come.
                    self.at += if is_request(&bytes) { message } else { left };
                    continue;
                }
            }
            bytes.truncate(length);
            self.at += message;
            if bytes.starts_with(&ZSTD) {
                match decompress_up_to(&bytes, MAX_DOCUMENT) {
                    Some(message) => bytes = message,
                    None => {
                        damage.add(at, message, 0);
                        continue;
                    }
                }
            }
            return Ok(Some(Document { bytes, raw: None, written_ns: 0, at }));
        }
    }

    /// The zeros from here on, in whole lengths, in a file that ends at `end`. One length of 0 is a message without spans.
    /// No collector writes many of them; they are what a file system leaves behind after a crash.
    fn zeros(&self, end: u64) -> Result<u64> {
        let mut bytes = Vec::new();
        let mut at = self.at;
        loop {
            let left = usize::try_from(end.saturating_sub(at)).unwrap_or(PIECE);
            read_at(&self.file, at, PIECE.min(left), &mut bytes)?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            at += zeros as u64;
            if zeros < PIECE {
                let count = at - self.at;
                // A message that follows has zeros of its own at the beginning of its length.
                let is_rest = zeros == bytes.len() && count > LENGTH as u64;
                return Ok(if is_rest { count } else { count - count % LENGTH as u64 });
            }
        }
    }
}

/// The bytes of a length.
const LENGTH: usize = 4;
/// The bytes that show whether a message begins here: a length, and the beginning of a request.
const NEXT: usize = LENGTH + ZSTD.len();
/// The zeros that are read at once.
const PIECE: usize = 64 << 10;

fn length_of(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|length| u32::from_be_bytes(*length) as usize)
}

/// Whether the end of the file or another message follows a message of this length.
fn is_followed(bytes: &[u8], length: usize) -> bool {
    let Some(next) = bytes.get(length..) else { return false };
    next.len() <= LENGTH || can_begin_with(next)
}

/// Whether a request begins like this. The only field of a request with spans, as it is written in protobuf; or an
/// object of JSON; or something compressed.
fn is_request(bytes: &[u8]) -> bool {
    bytes.is_empty()
        || bytes.starts_with(b"\n")
        || bytes.starts_with(b"{")
        || bytes.starts_with(&ZSTD[..bytes.len().min(4)])
}

/// The length of the request that `bytes` begin with, as its own structure shows. `None` if this is not to be found out, or
/// if no other message or the end of the file follows.
fn content_length(bytes: &[u8]) -> Option<usize> {
    let length = match bytes.first()? {
        b'\n' => fields_length(bytes)?,
        b'{' => {
            let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<IgnoredAny>();
            values.next()?.ok()?;
            values.byte_offset()
        }
        _ => compressed_length(bytes)?,
    };
    let is_followed = is_followed(bytes, length) || bytes.get(length..).and_then(length_of) == Some(0);
    is_followed.then_some(length)
}

/// The length of the fields number 1 that `bytes` begin with. `None` if the last of them is not whole.
fn fields_length(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    while let Some(field) = rest.strip_prefix(b"\n") {
        rest = field;
        let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
        rest = rest.get(length..)?;
    }
    Some(bytes.len() - rest.len())
}
