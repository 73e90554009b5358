//! Finds out the format of a file, by its content.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::contents::Document;
use super::frames::Frames;
use super::lines::Lines;
use super::messages::{self, Messages};
use super::open::shown;
use crate::capture::compress::ZSTD;
use crate::capture::damage::Damage;
use crate::capture::filter::Filter;
use crate::capture::frame::{Found, Header, MAGIC};
use crate::capture::scan::{Next, Scan, read_at};
use crate::decode::Decoder;

/// The bytes that are enough to tell the format.
pub(in crate::capture) const MIN_FOR_FORMAT: u64 = 64;

/// A file of a known format.
pub(super) enum Format {
    Frames(Frames),
    Lines(Lines),
    Messages(Messages),
}

impl Format {
    /// Finds out the format of a file.
    pub(super) fn of(path: &Path, file: File) -> Result<Self> {
        let shown = shown(path);
        let context = || format!("can't read {shown}");
        let mut start = Vec::new();
        read_at(&file, 0, MIN_FOR_FORMAT as usize, &mut start).with_context(context)?;
        if start.starts_with(&MAGIC) || Header::read(&start) != Found::Other {
            return Ok(Self::Frames(Frames::new(file)));
        }
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&start).trim_ascii_start();
        if text.starts_with(b"{") {
            return Ok(Self::Lines(Lines::new(file)));
        }
        if messages::can_begin_with(&start) {
            return Ok(Self::Messages(Messages::new(file)));
        }
        for (magic, program) in [(&ZSTD[..], "zstd"), (b"\x1f\x8b", "gzip")] {
            if start.starts_with(magic) {
                bail!("can't read {shown}: it is compressed; decompress it first, with {program} -d");
            }
        }
        // It may be a capture whose beginning is damaged.
        let end = file.metadata().with_context(context)?.len();
        if let Next::Header(_) = Scan::default().search(&file, 0, end).with_context(context)? {
            return Ok(Self::Frames(Frames::new(file)));
        }
        bail!(
            "can't read {shown}: it is neither a capture nor a file of an OpenTelemetry collector (OTLP in JSON lines, or \
             in protobuf)"
        )
    }

    /// A decoder of the documents.
    pub(super) fn decoder(&self) -> Decoder {
        Decoder::of_file(matches!(self, Self::Frames(_)))
    }

    /// Everything before this byte was read or is damaged.
    pub(super) fn position(&self) -> u64 {
        match self {
            Self::Frames(frames) => frames.end(),
            Self::Lines(lines) => lines.position(),
            Self::Messages(messages) => messages.position(),
        }
    }

    /// The next request that may have spans which `filter` selects. `None` at the end of the file so far.
    pub(super) fn next(&mut self, filter: &Filter, damage: &mut Damage) -> Result<Option<Document>> {
        match self {
            Self::Frames(frames) => frames.next(filter, damage),
            Self::Lines(lines) => lines.next(damage),
            Self::Messages(messages) => messages.next(damage),
        }
    }
}
