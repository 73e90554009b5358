//! Reads messages that follow their lengths, as an OpenTelemetry collector's file exporter writes them with `format: proto`
//! or `compression: zstd`: a 4-byte big-endian length, and then an encoded request, each compressed by itself.

use std::fs::File;

use anyhow::Result;

use super::contents::{Document, MAX_DOCUMENT};
use crate::capture::compress::{ZSTD, decompress_up_to};
use crate::capture::damage::Damage;
use crate::capture::scan::read_at;

/// The messages of a file.
pub(super) struct Messages {
    file: File,
    at: u64,
}

/// Whether these bytes can begin such a file.
pub(super) fn can_begin_with(bytes: &[u8]) -> bool {
    let Some((length, message)) = bytes.split_first_chunk::<4>() else { return false };
    let length = u32::from_be_bytes(*length) as usize;
    // The only field of a request with spans, as it is written in protobuf; or an object of JSON.
    let is_request = message.starts_with(b"\n") || message.starts_with(b"{") || message.starts_with(&ZSTD);
    is_request && (2..=MAX_DOCUMENT).contains(&length)
}

impl Messages {
    pub(super) fn new(file: File) -> Self {
        Self { file, at: 0 }
    }

    /// The next message.
    pub(super) fn next(&mut self, damage: &mut Damage) -> Result<Option<Document>> {
        damage.tail_bytes = 0;
        let mut bytes = Vec::new();
        loop {
            let left = self.file.metadata()?.len().saturating_sub(self.at);
            read_at(&self.file, self.at, 4, &mut bytes)?;
            let length = bytes.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize);
            let Some(length) = length.filter(|length| 4 + *length as u64 <= left) else {
                // Nothing shows where the next message begins, so a wrong length is like a torn end.
                damage.tail_bytes = left;
                return Ok(None);
            };
            let (at, end) = (self.at, self.at + 4 + length as u64);
            if length > MAX_DOCUMENT {
                damage.add(at, end - at, 0);
                self.at = end;
                continue;
            }
            read_at(&self.file, at + 4, length, &mut bytes)?;
            self.at = end;
            if bytes.starts_with(&ZSTD) {
                match decompress_up_to(&bytes, MAX_DOCUMENT) {
                    Some(message) => bytes = message,
                    None => {
                        damage.add(at, end - at, 0);
                        continue;
                    }
                }
            }
            return Ok(Some(Document { bytes, raw: None, written_ns: 0, at }));
        }
    }
}
