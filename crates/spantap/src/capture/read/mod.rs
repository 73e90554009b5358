//! Reads files of spans, of any format.
//!
//! `open` opens a file or a pipe, and `format` finds out which format it has; `frames`, `lines` and `messages` each read one. `contents` decodes what they find,
//! and `parallel` does so on several threads.

mod contents;
mod format;
mod frames;
mod lines;
mod messages;
mod open;
mod parallel;

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

pub(super) use format::MIN_FOR_FORMAT;
pub(super) use frames::Frames;
pub use open::open;
pub use parallel::InParallel;

use super::damage::Damage;
use super::filter::Filter;
use crate::decode::Decoder;
use crate::process::Process;
use crate::span::{EncodedScopes, Summary};
use contents::{Contents, Document};
use format::Format;

/// A file of spans that is read from its beginning to its end: a capture, or what an OpenTelemetry collector's file exporter
/// writes.
///
/// Iterating returns spans in the order in which they were recorded: those of a process together, some hundreds or
/// thousands at a time. `None` is the end of the file so far. If a program still writes the file, a later call of `next`
/// returns what was added. After an error, there is nothing more. [`in_parallel`](Self::in_parallel) is faster for a whole file.
///
/// ```no_run
/// use spantap::capture::{Capture, Filter};
///
/// let traces = [0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c].into_iter().collect();
/// let filter = Filter { traces: Some(traces), ..Filter::default() };
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
    /// When they were written, in nanoseconds since 1970. 0: unknown.
    written_ns: u64,
}

/// How long it may take from the end of a span to its frame, on a busy machine.
const MAX_DELAY_NS: u64 = 2_000_000_000;

impl Spans {
    /// The spans that the filter selects, at least one; each with its encoding as the field `spans` of a `ScopeSpans`.
    pub fn iter(&self) -> impl Iterator<Item = (&Summary, &[u8])> {
        self.encoded.iter()
    }

    /// The same spans, decoded, with their scopes.
    pub(crate) fn decode(&self) -> Vec<ScopeSpans> {
        self.encoded.decode()
    }

    /// When a span arrived at the recorder, in nanoseconds since 1970: when it ended. If its clock differs from the
    /// recorder's, or the span had to wait, when it was written.
    pub fn arrived_ns(&self, span: &Summary) -> u64 {
        let (_, end) = span.times;
        let written = self.written_ns;
        let is_right = written == 0 || (written.saturating_sub(MAX_DELAY_NS)..=written).contains(&end);
        if is_right { end } else { written }
    }

    /// By when spans that come after these have arrived, in nanoseconds since 1970; 0 if that is unknown.
    pub fn written_ns(&self) -> u64 {
        self.written_ns
    }
}

impl Capture {
    /// Opens a file, or copies a pipe or the standard input (`-`) by [`open`], and finds out its format.
    ///
    /// # Errors
    ///
    /// When the file can't be read or is none of spans, with what to do about it. What is wrong further on in the file is
    /// an error of `next`, or damage.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_file(path, open(path)?)
    }

    /// Reads a file that [`open`] has opened. `path` is only for messages.
    ///
    /// It is read from its beginning by positioned reads (`pread`), which neither use nor move the position of the handle.
    /// So several captures can read clones of the handle (`File::try_clone`), one after the other or at once. They
    /// all read the same file, also if it is renamed or removed meanwhile, as a recorder does when it begins a new one.
    ///
    /// # Errors
    ///
    /// As those of [`Capture::open`].
    pub fn from_file(path: &Path, file: File) -> Result<Self> {
        let format = Format::of(path, file)?;
        Ok(Self {
            path: path.to_owned(),
            decoder: format.decoder(),
            format,
            filter: Filter::default(),
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

    /// Everything before this byte was read or is damaged.
    pub(super) fn position(&self) -> u64 {
        self.format.position()
    }

    fn document(&mut self) -> Result<Option<Document>> {
        if self.has_failed {
            return Ok(None);
        }
        let read = self.format.next(&self.filter, &mut self.damage);
        self.has_failed = read.is_err();
        read.with_context(|| format!("can't read {}", open::shown(&self.path)))
    }

    /// Adds what is in a document beside its spans.
    fn note(&mut self, contents: &Contents) {
        self.damage.add_all(&contents.damage);
        self.lost = self.lost.saturating_add(contents.lost);
    }
}

impl Iterator for Capture {
    type Item = Result<Spans>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.read.is_empty() {
            match self.document() {
                Ok(Some(document)) => {
                    let mut contents = Contents::of(&document, &self.filter, &mut self.decoder);
                    self.read.extend(contents.spans.drain(..));
                    self.note(&contents);
                }
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        self.read.pop_front().map(Ok)
    }
}
