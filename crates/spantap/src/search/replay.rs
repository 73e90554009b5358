//! The spans of files in the order in which they arrived when they were recorded.
//!
//! A recorder writes the spans of half a second together, sorted by process. So spans are read ahead, and sorted by time again. Several
//! files are read side by side, such as the recordings of two machines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;

use anyhow::Context;

use super::files::{Files, Read};
use super::processes::Processes;
use crate::capture::{Capture, Filter, Spans};
use crate::trace::EncodedSpan;

/// How far is read ahead: longer than a recorder waits for a frame to fill.
const AHEAD_NS: u64 = 2_000_000_000;
/// The most bytes of spans that are read ahead. With more in that time, the order is only roughly right.
const MAX_BYTES: usize = 64 << 20;

/// A span and its arrival.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// When it arrived at the recorder, in nanoseconds since 1970; about when it ended.
    pub at_ns: u64,
    /// The span.
    pub span: EncodedSpan,
}

/// Iterates over the spans of files in the order of their arrival.
///
/// The memory is that of the spans of two seconds, at most 64 MiB.
pub struct Replay {
    files: Vec<Source>,
    /// By arrival; those of one time in the order in which they were read.
    waiting: BinaryHeap<Reverse<Waiting>>,
    bytes: usize,
    spans: u64,
    processes: Processes,
    read: Read,
}

/// A file that is not read to its end.
struct Source {
    path: PathBuf,
    capture: Capture,
    /// The latest time that was read.
    latest_ns: u64,
}

struct Waiting {
    at_ns: u64,
    number: u64,
    span: EncodedSpan,
}

impl Replay {
    /// The spans that `filter` selects.
    pub fn new(files: &Files, filter: &Filter) -> Self {
        let mut read = files.nothing_read();
        let mut open = Vec::new();
        for (path, file) in files.open_files() {
            let file = file.try_clone().with_context(|| format!("can't read {}", path.display()));
            match file.and_then(|file| Capture::from_file(path, file)) {
                Ok(capture) => {
                    let (path, capture) = (path.to_owned(), capture.with_filter(filter.clone()));
                    open.push(Source { path, capture, latest_ns: 0 });
                }
                Err(error) => read.failed.push(error),
            }
        }
        let (waiting, processes) = (BinaryHeap::new(), Processes::default());
        Self { files: open, waiting, bytes: 0, spans: 0, processes, read }
    }

    /// What the files had beside spans. It is complete at the end.
    pub fn read(&self) -> &Read {
        &self.read
    }

    /// How many spans were read.
    pub fn spans(&self) -> u64 {
        self.spans
    }

    /// Reads from the file that is furthest behind. Returns false if all files were read.
    fn read_more(&mut self) -> bool {
        let Some((place, source)) = self.files.iter_mut().enumerate().min_by_key(|(_, of)| of.latest_ns)
        else {
            return false;
        };
        match source.capture.next() {
            Some(Ok(spans)) => {
                source.latest_ns = source.latest_ns.max(spans.written_ns());
                let latest_ns = spans.iter().map(|(span, _)| spans.arrived_ns(span)).max();
                source.latest_ns = source.latest_ns.max(latest_ns.unwrap_or(0));
                self.add(&spans);
            }
            end => {
                let Source { path, capture, .. } = self.files.remove(place);
                self.read.note(&path, capture.damage(), capture.lost_by_senders());
                self.read.failed.extend(end.and_then(Result::err));
            }
        }
        true
    }

    fn add(&mut self, spans: &Spans) {
        let process = self.processes.known(&spans.process);
        for (span, field) in spans.iter() {
            let (at_ns, number) = (spans.arrived_ns(span), self.spans);
            let span = EncodedSpan::new(&process, span, field);
            self.spans += 1;
            self.bytes += span.bytes();
            self.waiting.push(Reverse(Waiting { at_ns, number, span }));
        }
    }
}

impl Iterator for Replay {
    type Item = Arrived;

    fn next(&mut self) -> Option<Arrived> {
        loop {
            let behind_ns = self.files.iter().map(|of| of.latest_ns).min();
            let is_due = match (self.waiting.peek(), behind_ns) {
                (Some(_), None) => true,
                (Some(Reverse(first)), Some(behind_ns)) => {
                    self.bytes > MAX_BYTES || first.at_ns.saturating_add(AHEAD_NS) <= behind_ns
                }
                (None, _) => false,
            };
            if is_due {
                let Reverse(Waiting { at_ns, span, .. }) = self.waiting.pop()?;
                self.bytes -= span.bytes();
                return Some(Arrived { at_ns, span });
            }
            if !self.read_more() {
                return None;
            }
        }
    }
}

impl Waiting {
    fn order(&self) -> (u64, u64) {
        (self.at_ns, self.number)
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Waiting {}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::json;

    use super::*;

    const START_NS: u64 = 1_800_000_000_000_000_000;

    /// Writes a file with a line for each of these times, at which spans ended, in milliseconds.
    fn write(folder: &Path, name: &str, lines: &[&[u64]]) -> PathBuf {
        let line = |ends: &&[u64]| {
            let spans = ends.iter().map(|end| {
                let end_ns = START_NS + end * 1_000_000;
                json!({
                    "traceId": format!("{:032x}", end + 1), "spanId": format!("{:016x}", end + 1), "name": "a",
                    "startTimeUnixNano": "1", "endTimeUnixNano": end_ns.to_string(),
                })
            });
            let spans: Vec<_> = spans.collect();
            json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] }).to_string() + "\n"
        };
        let path = folder.join(name);
        fs::write(&path, lines.iter().map(line).collect::<String>()).unwrap();
        path
    }

    fn replay(paths: &[PathBuf]) -> Vec<u64> {
        let replay = Replay::new(&Files::open(paths), &Filter::default());
        replay.map(|arrived| (arrived.at_ns - START_NS) / 1_000_000).collect()
    }

    #[test]
    fn spans_come_in_the_order_of_their_arrival() {
        let folder = tempfile::tempdir().unwrap();
        let one = write(folder.path(), "one", &[&[5, 300, 40], &[310, 290], &[5_000, 1_700], &[6_000]]);
        let sorted = [5, 40, 290, 300, 310, 1_700, 5_000, 6_000];
        assert_eq!(replay(std::slice::from_ref(&one)), sorted);
        // Of two machines.
        let other = write(folder.path(), "other", &[&[100], &[5_500, 5_400], &[9_000]]);
        let both = [5, 40, 100, 290, 300, 310, 1_700, 5_000, 5_400, 5_500, 6_000, 9_000];
        assert_eq!(replay(&[one.clone(), other.clone()]), both);
        assert_eq!(replay(&[other, one]), both);
    }

    #[test]
    fn a_file_that_is_missing_does_not_end_the_replay() {
        let folder = tempfile::tempdir().unwrap();
        let one = write(folder.path(), "one", &[&[5], &[3]]);
        let files = Files::open(&[folder.path().join("missing"), one]);
        let mut replay = Replay::new(&files, &Filter::default());
        assert_eq!(replay.by_ref().count(), 2);
        assert!(replay.read().is_damaged());
    }
}
