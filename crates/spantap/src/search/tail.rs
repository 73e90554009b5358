//! The spans that are added to files while somebody looks.

use std::path::PathBuf;
use std::time::Duration;

use super::files::Read;
use super::processes::Processes;
use crate::capture::{Filter, Follow};
use crate::trace::EncodedSpan;

/// Following begins with the spans of this time, unless the user says since when, as `tail -f` begins with some lines: enough
/// for the traces of which spans are still to come.
pub const BEFORE: Duration = Duration::from_secs(10);

/// Files that are read while they are written.
pub struct Tail {
    files: Vec<(PathBuf, Follow)>,
    processes: Processes,
    read: Read,
    /// What is selected once everything was read that was there at the beginning.
    later: Option<Filter>,
}

impl Tail {
    /// Opens the files. `first` selects spans that are there already, and `later` those that are added.
    pub fn open(paths: &[PathBuf], first: &Filter, later: Filter) -> Self {
        let (mut files, mut read) = (Vec::new(), Read::default());
        for path in paths {
            match Follow::open(path, first.clone()) {
                Ok(follow) => files.push((path.clone(), follow)),
                Err(error) => read.failed.push(error),
            }
        }
        Self { files, processes: Processes::default(), read, later: Some(later) }
    }

    /// Why files are not read, a line each.
    pub fn not_read(&self) -> impl Iterator<Item = String> {
        self.read.failed.iter().map(|error| format!("{error:#}"))
    }

    /// Whether no file is read any more.
    pub fn is_over(&self) -> bool {
        self.files.is_empty()
    }

    /// Passes spans to `take`. Returns false if there are no more yet.
    pub fn read_some(&mut self, mut take: impl FnMut(EncodedSpan)) -> bool {
        let (mut has_more, mut place) = (false, 0);
        while let Some((_, follow)) = self.files.get_mut(place) {
            match follow.next() {
                Ok(Some(spans)) => {
                    let process = self.processes.known(&spans.process);
                    spans.iter().for_each(|(span, field)| take(EncodedSpan::new(&process, span, field)));
                    has_more = true;
                }
                Ok(None) => {}
                Err(error) => {
                    self.read.failed.push(error);
                    let (path, follow) = self.files.remove(place);
                    self.read.note(&path, &follow.damage(), follow.lost_by_senders());
                    continue;
                }
            }
            place += 1;
        }
        if !has_more && let Some(later) = self.later.take() {
            self.files.iter_mut().for_each(|(_, follow)| follow.set_filter(later.clone()));
        }
        has_more
    }

    /// Ends, and returns what the files had beside spans.
    pub fn end(mut self) -> Read {
        for (path, follow) in &self.files {
            self.read.note(path, &follow.damage(), follow.lost_by_senders());
        }
        self.read
    }
}
