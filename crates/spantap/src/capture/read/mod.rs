//! Reads files of spans, of any format. `frames`, `lines` and `messages` each read one.

mod frames;
mod lines;
mod messages;

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

pub(super) use frames::Frames;

use super::compress::ZSTD;
use super::damage::Damage;
use super::filter::Filter;
use super::frame::{Found, Header, MAGIC};
use super::scan::{read_at, search};
use crate::decode::{Decoded, Decoder, LOSSES, losses};
use crate::encode::Chunk;
use crate::process::Process;
use crate::span::{EncodedScopes, Summary};

/// The most bytes of a line or message, also without compression. A longer one is damage.
const MAX_DOCUMENT: usize = 64 << 20;

/// A file of spans that is read from its beginning to its end: a capture, or what an OpenTelemetry collector's file exporter
/// writes.
///
/// Iterating returns spans in the order in which they were recorded: those of a process together, some hundreds or
/// thousands at a time. `None` is the end of the file so far. If a program still writes the file, a later call of `next`
/// returns what was added. After an error, there is nothing more.
///
/// ```no_run
/// use spantap::capture::{Capture, Filter};
///
/// let filter = Filter { trace_id: Some(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c), ..Filter::default() };
/// let mut capture = Capture::open("capture.spans".as_ref())?.with_filter(filter);
/// for spans in &mut capture {
///     let spans = spans?;
///     println!("{} spans of {}", spans.iter().count(), spans.process.service);
/// }
/// println!("{}", capture.damage());
/// # Ok::<(), anyhow::Error>(())
/// ```
pub struct Capture {
    path: PathBuf,
    format: Format,
    filter: Filter,
    decoder: Decoder,
    read: VecDeque<Spans>,
    damage: Damage,
    lost: u64,
    has_failed: bool,
}

/// Spans of one process.
#[derive(Clone, Debug)]
pub struct Spans {
    /// The process.
    pub process: Arc<Process>,
    encoded: EncodedScopes,
}

impl Spans {
    /// The spans that the filter selects, at least one; each with its encoding as the field `spans` of a `ScopeSpans`.
    pub fn iter(&self) -> impl Iterator<Item = (&Summary, &[u8])> {
        self.encoded.iter()
    }
}

/// A request as it was in the file, without compression.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
    /// When it was written, in nanoseconds since 1970. 0: unknown.
    pub(super) written_ns: u64,
    /// Where it is in the file.
    pub(super) at: u64,
}

enum Format {
    Frames(Frames),
    Lines(lines::Lines),
    Messages(messages::Messages),
}

impl Capture {
    /// Opens a file, and finds out its format.
    ///
    /// # Errors
    ///
    /// When the file can't be read or is none of spans, with what to do about it. What is wrong further on in the file is
    /// an error of `next`, or damage.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("can't read {shown}"))?;
        let is_file = file.metadata().with_context(|| format!("can't read {shown}"))?.is_file();
        ensure!(is_file, "can't read {shown}: it is no regular file; write to a file first");
        let format = Format::of(path, file)?;
        Ok(Self {
            path: path.to_owned(),
            format,
            filter: Filter::default(),
            decoder: Decoder::of_file(),
            read: VecDeque::new(),
            damage: Damage::default(),
            lost: 0,
            has_failed: false,
        })
    }

    /// Returns only spans that `filter` selects. In a capture, others are mostly not even read.
    #[must_use]
    pub fn with_filter(self, filter: Filter) -> Self {
        Self { filter, ..self }
    }

    /// What could not be read so far. With a filter, damage in frames without any selected span is not noticed.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// The spans that the traced programs have reported as lost, as far as the file was read.
    pub fn lost_by_senders(&self) -> u64 {
        self.lost
    }

    fn read_more(&mut self) -> Result<bool> {
        let Self { format, filter, damage, .. } = self;
        let document = match format {
            Format::Frames(frames) => frames.next(filter, damage),
            Format::Lines(lines) => lines.next(damage),
            Format::Messages(messages) => messages.next(damage),
        };
        let document = document.with_context(|| format!("can't read {}", self.path.display()))?;
        if let Some(document) = &document {
            self.decode(document);
        }
        Ok(document.is_some())
    }

    fn decode(&mut self, document: &Document) {
        let Document { bytes, written_ns, at } = document;
        // A request without spans is empty.
        if bytes.is_empty() {
            return;
        }
        let Decoded { processes, encoded, faults, .. } =
            self.decoder.decode_recorded(bytes, *written_ns, matches!(self.format, Format::Frames(_)));
        let refused: u64 =
            faults.iter().filter(|(found, _)| found.fault.refuses()).map(|(_, count)| count).sum();
        if refused > 0 {
            match processes.is_empty() && encoded.is_empty() {
                true => self.damage.add(*at, bytes.len() as u64, 0),
                false => self.damage.refused += refused,
            }
        }
        for (process, scopes) in encoded {
            self.add(process, scopes);
        }
        for (process, scopes) in processes {
            let lost = scopes.iter().flat_map(|scope| &scope.spans).flat_map(losses).map(|(_, lost)| lost);
            self.lost = lost.fold(self.lost, u64::saturating_add);
            let scopes = encode(&process, &scopes);
            self.add(process, scopes);
        }
    }

    fn add(&mut self, process: Arc<Process>, mut encoded: EncodedScopes) {
        encoded.spans.retain(|(span, _)| self.filter.selects(span));
        if !encoded.spans.is_empty() {
            self.read.push_back(Spans { process, encoded });
        }
    }
}

impl Iterator for Capture {
    type Item = Result<Spans>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.read.is_empty() && !self.has_failed {
            match self.read_more() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.has_failed = true;
                    return Some(Err(error));
                }
            }
        }
        self.read.pop_front().map(Ok)
    }
}

/// Encodes decoded spans, without the reports of losses among them.
fn encode(process: &Process, scopes: &[ScopeSpans]) -> EncodedScopes {
    let mut encoded = EncodedScopes::default();
    Chunk::encode_each(process, scopes, |span, field| {
        if let Some(summary) = Summary::of(span).filter(|_| span.name != LOSSES) {
            let start = encoded.bytes.len();
            encoded.bytes.extend_from_slice(field);
            encoded.spans.push((summary, start..encoded.bytes.len()));
        }
    });
    encoded
}

impl Format {
    /// The format of a file, by its content.
    fn of(path: &Path, file: File) -> Result<Self> {
        let shown = path.display();
        let mut start = Vec::new();
        read_at(&file, 0, 64, &mut start).with_context(|| format!("can't read {shown}"))?;
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&start).trim_ascii_start();
        if start.starts_with(&MAGIC) || Header::read(&start) != Found::Other {
            return Ok(Self::Frames(Frames::new(path.to_owned(), file)));
        }
        if text.starts_with(b"{") {
            return Ok(Self::Lines(lines::Lines::new(file)));
        }
        if messages::first_length(&start).is_some() {
            return Ok(Self::Messages(messages::Messages::new(file)));
        }
        for (magic, program) in [(&ZSTD[..], "zstd"), (b"\x1f\x8b", "gzip")] {
            if start.starts_with(magic) {
                bail!("can't read {shown}: it is compressed; decompress it first, with {program} -d");
            }
        }
        // A capture whose beginning is damaged.
        let found = search(&file, 0, &mut start).with_context(|| format!("can't read {shown}"))?;
        ensure!(
            found.is_some(),
            "can't read {shown}: it is neither a capture nor a file of an OpenTelemetry collector (OTLP in JSON lines, or \
             in protobuf)"
        );
        Ok(Self::Frames(Frames::new(path.to_owned(), file)))
    }
}
