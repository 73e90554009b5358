//! Reads a capture, frame by frame.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::Document;
use crate::capture::compress::decompress;
use crate::capture::damage::Damage;
use crate::capture::filter::Filter;
use crate::capture::frame::{Found, Header};
use crate::capture::scan::{found_at, read_at, search};

/// The frames of a capture.
pub(in crate::capture) struct Frames {
    path: PathBuf,
    file: File,
    /// Everything before was read or is damaged.
    at: u64,
    /// The last frame, if its body was not read. Its length may be that of a frame which was cut off, and behind which
    /// others were appended.
    skipped: Option<Skipped>,
    header: Vec<u8>,
    body: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Skipped {
    start: u64,
    body: u64,
    spans: u32,
}

impl Frames {
    pub(in crate::capture) fn new(path: PathBuf, file: File) -> Self {
        Self { path, file, at: 0, skipped: None, header: Vec::new(), body: Vec::new() }
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
            let (from, spans) = match found_at(&self.file, self.at, &mut self.header)? {
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
                            let document = Document { bytes, written_ns: header.written_ns, at: self.at };
                            (self.at, self.skipped) = (next, None);
                            return Ok(Some(document));
                        }
                    }
                    (body, spans)
                }
                Found::Newer(version) => bail!(
                    "{}: a newer spantap wrote it (version {version} of the format): read it with that one",
                    self.path.display()
                ),
                Found::Part(_) | Found::Other => (self.skipped.map_or(self.at + 1, |of| of.body), 0),
            };
            let Some(found) = search(&self.file, from, &mut self.body)? else {
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
    fn body(&mut self, header: &Header, at: u64) -> Result<Option<Vec<u8>>> {
        read_at(&self.file, at, header.body, &mut self.body)?;
        let is_whole = self.body.len() == header.body && crc32fast::hash(&self.body) == header.body_crc;
        Ok(is_whole.then(|| decompress(&self.body, header.raw)).flatten())
    }
}
