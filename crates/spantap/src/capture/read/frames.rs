//! Reads a capture, frame by frame.

use std::fs::File;

use anyhow::{Result, bail};

use super::contents::Document;
use crate::capture::damage::Damage;
use crate::capture::filter::Filter;
use crate::capture::frame::{Found, Header};
use crate::capture::scan::{Next, Scan, read_at};

/// The frames of a capture.
pub(in crate::capture) struct Frames {
    file: File,
    /// Everything before was read or is damaged.
    at: u64,
    /// The last frame, if its body was not read. Its length may be that of a frame which was cut off, and behind which
    /// others were appended.
    skipped: Option<Skipped>,
    scan: Scan,
}

#[derive(Clone, Copy)]
struct Skipped {
    start: u64,
    body: u64,
    spans: u32,
}

impl Frames {
    pub(in crate::capture) fn new(file: File) -> Self {
        Self { file, at: 0, skipped: None, scan: Scan::default() }
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
            // What a writer appends from now on is not looked at: else the next frame would be found behind one that was
            // a part at first.
            let end = self.file.metadata()?.len();
            if self.at >= end {
                return Ok(None);
            }
            // Where to search if this is not a whole and undamaged frame, and whether it may be the beginning of one.
            let (from, spans, is_part) = match self.scan.found_at(&self.file, self.at, end)? {
                Found::Header(header) => {
                    let body = self.at + header.length() as u64;
                    let (spans, next) = (header.spans, self.at + header.frame());
                    if next <= end {
                        if !header.index.may_have(filter) {
                            self.skipped = Some(Skipped { start: self.at, body, spans });
                            self.at = next;
                            continue;
                        }
                        if !self.scan.waste.allows(header.body, self.at) {
                            damage.add(self.at, next - self.at, spans.into());
                            (self.at, self.skipped) = (next, None);
                            continue;
                        }
                        if let Some(bytes) = self.body(&header, body)? {
                            let (raw, written_ns) = (Some(header.raw), header.written_ns);
                            let document = Document { bytes, raw, written_ns, at: self.at };
                            (self.at, self.skipped) = (next, None);
                            return Ok(Some(document));
                        }
                    }
                    (body, spans, next > end)
                }
                Found::Newer(version) => {
                    bail!("a newer spantap wrote it (version {version} of the format): read it with that one")
                }
                found => (self.skipped.map_or(self.at + 1, |of| of.body), 0, matches!(found, Found::Part(_))),
            };
            match self.scan.search(&self.file, from, end)? {
                Next::Header(found) => {
                    match self.skipped.take() {
                        Some(of) if found < self.at => {
                            damage.add(of.start, found - of.start, of.spans.into())
                        }
                        _ => damage.add(self.at, found - self.at, spans.into()),
                    }
                    self.at = found;
                }
                Next::None(part) if is_part || part < self.at => {
                    damage.tail_bytes = end - self.at;
                    return Ok(None);
                }
                Next::None(part) => {
                    damage.add(self.at, part - self.at, spans.into());
                    (self.at, self.skipped) = (part, None);
                }
            }
        }
    }

    /// Reads a body. `None` if it is damaged.
    fn body(&mut self, header: &Header, at: u64) -> Result<Option<Vec<u8>>> {
        let mut body = Vec::new();
        read_at(&self.file, at, header.body, &mut body)?;
        let is_whole = body.len() == header.body && crc32fast::hash(&body) == header.body_crc;
        if !is_whole {
            self.scan.waste.add(header.body);
        }
        Ok(is_whole.then_some(body))
    }
}
