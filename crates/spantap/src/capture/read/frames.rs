//! Reads a capture, frame by frame.

use std::fs::File;

use anyhow::{Result, bail};

use super::contents::Document;
use crate::capture::damage::Damage;
use crate::capture::filter::Filter;
use crate::capture::frame::{Found, Header};
use crate::capture::scan::{found_at, read_at, search};

/// The frames of a capture.
pub(in crate::capture) struct Frames {
    file: File,
    /// Everything before was read or is damaged.
    at: u64,
    /// The last frame, if its body was not read. Its length may be that of a frame which was cut off, and behind which
    /// others were appended.
    skipped: Option<Skipped>,
    /// For headers, and for searching.
    buffer: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Skipped {
    start: u64,
    body: u64,
    spans: u32,
}

impl Frames {
    pub(in crate::capture) fn new(file: File) -> Self {
        Self { file, at: 0, skipped: None, buffer: Vec::new() }
    }

    /// The end of the last whole frame, as far as frames were read.
    pub(in crate::capture) fn end(&self) -> u64 {
        self.at
    }

    /// The body of the next frame that may have spans which `filter` selects. `None` at the end of the file; it may have
    /// grown at the next call.
    pub(in crate::capture) fn next(
        &mut self,
        filter: &Filter,
        damage: &mut Damage,
    ) -> Result<Option<Document>> {
        damage.tail_bytes = 0;
        loop {
            let length = self.file.metadata()?.len();
            if self.at >= length {
                return Ok(None);
            }
            // Where to search if this is not a whole and undamaged frame.
            let (from, spans) = match found_at(&self.file, self.at, &mut self.buffer)? {
                Found::Header(header) => {
                    let body = self.at + header.length() as u64;
                    let (spans, next) = (header.spans, self.at + header.frame());
                    if next <= length {
                        if !header.index.may_have(filter) {
                            self.skipped = Some(Skipped { start: self.at, body, spans });
                            self.at = next;
                            continue;
                        }
                        if let Some(bytes) = self.body(&header, body)? {
                            let (raw, written_ns) = (Some(header.raw), header.written_ns);
                            let document = Document { bytes, raw, written_ns, at: self.at };
                            (self.at, self.skipped) = (next, None);
                            return Ok(Some(document));
                        }
                    }
                    (body, spans)
                }
                Found::Newer(version) => {
                    bail!("a newer spantap wrote it (version {version} of the format): read it with that one")
                }
                Found::Part(_) | Found::Other => (self.skipped.map_or(self.at + 1, |of| of.body), 0),
            };
            let Some(found) = search(&self.file, from, &mut self.buffer)? else {
                damage.tail_bytes = length - self.at;
                return Ok(None);
            };
            match self.skipped.take() {
                Some(of) if found < self.at => damage.add(of.start, found - of.start, of.spans.into()),
                _ => damage.add(self.at, found - self.at, spans.into()),
            }
            self.at = found;
        }
    }

    /// Reads a body. `None` if it is damaged.
    fn body(&self, header: &Header, at: u64) -> Result<Option<Vec<u8>>> {
        let mut body = Vec::new();
        read_at(&self.file, at, header.body, &mut body)?;
        let is_whole = body.len() == header.body && crc32fast::hash(&body) == header.body_crc;
        Ok(is_whole.then_some(body))
    }
}
