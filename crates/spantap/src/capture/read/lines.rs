//! Reads lines of OTLP JSON: files of spantap's sink `jsonl`, and of an OpenTelemetry collector's file exporter by its
//! default. By the specification ("OpenTelemetry Protocol File Exporter") each line is a request of its own.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

use anyhow::Result;
use serde::de::IgnoredAny;

use super::contents::{Document, MAX_DOCUMENT};
use crate::capture::damage::Damage;

/// How lines of metrics and logs begin, which a collector may write to the same file.
const OTHER_SIGNALS: [&[u8]; 3] = [b"{\"resourceMetrics\"", b"{\"resourceLogs\"", b"{\"resourceProfiles\""];

/// Reads a file from its beginning, wherever another reader of the same handle is.
struct Positioned {
    file: File,
    at: u64,
}

impl Read for Positioned {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(bytes, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The lines of a file.
pub(super) struct Lines {
    reader: BufReader<Positioned>,
    /// Where the line begins.
    at: u64,
    /// The line so far; the file may end in it.
    line: Vec<u8>,
    /// How much of the line was left out, because it is too long.
    left_out: u64,
}

impl Lines {
    pub(super) fn new(file: File) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 18, Positioned { file, at: 0 }),
            at: 0,
            line: Vec::new(),
            left_out: 0,
        }
    }

    /// Where the next line begins.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// The next line with spans.
    pub(super) fn next(&mut self, damage: &mut Damage) -> Result<Option<Document>> {
        damage.tail_bytes = 0;
        loop {
            let room = MAX_DOCUMENT.saturating_sub(self.line.len()) as u64;
            let read = self.reader.by_ref().take(room).read_until(b'\n', &mut self.line)?;
            let is_whole = self.line.ends_with(b"\n");
            if !is_whole && self.line.len() >= MAX_DOCUMENT {
                self.left_out += self.line.len() as u64;
                self.line.clear();
                continue;
            }
            // At the end of the file, a whole object may lack its line break.
            if !is_whole && (read > 0 || !is_json(&self.line) || self.left_out > 0) {
                if read > 0 {
                    continue;
                }
                damage.tail_bytes = self.left_out + self.line.len() as u64;
                return Ok(None);
            }
            let (at, bytes) = (self.at, std::mem::take(&mut self.line));
            let left_out = std::mem::take(&mut self.left_out);
            self.at += left_out + bytes.len() as u64;
            if left_out > 0 {
                damage.add(at, left_out + bytes.len() as u64, 0);
            } else if !bytes.trim_ascii().is_empty()
                && !OTHER_SIGNALS.iter().any(|start| bytes.starts_with(start))
            {
                return Ok(Some(Document { bytes, raw: None, written_ns: 0, at }));
            }
        }
    }
}

fn is_json(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_ok()
}
