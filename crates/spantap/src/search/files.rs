//! Reads several files of spans as one.

use std::path::PathBuf;

use anyhow::Result;

use crate::capture::{Capture, Damage, Filter, Spans};

/// The files of a search.
#[derive(Clone, Debug)]
pub struct Files(Vec<PathBuf>);

/// What of a file could not be read.
#[derive(Debug)]
pub struct Unread {
    /// The file.
    pub path: PathBuf,
    /// The damage.
    pub damage: Damage,
}

impl Unread {
    /// Whether something is lost. A file that is not whole at its end may still be written.
    pub fn is_damaged(&self) -> bool {
        self.damage.places > 0 || self.damage.refused > 0
    }
}

impl Files {
    /// These files, in this order.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self(paths)
    }

    /// Passes what `filter` selects through `each`, on several threads, and the results to `take`, in the order of the
    /// files. Returns what else was read.
    pub(super) fn read<T: Send + 'static>(
        &self,
        filter: &Filter,
        each: impl Fn(Spans) -> T + Clone + Send + Sync + 'static,
        mut take: impl FnMut(T),
    ) -> Result<Read> {
        let mut read = Read::default();
        for path in &self.0 {
            let mut results = Capture::open(path)?.with_filter(filter.clone()).in_parallel(each.clone())?;
            for result in &mut results {
                take(result?);
            }
            let capture = results.capture();
            read.lost_by_senders = read.lost_by_senders.saturating_add(capture.lost_by_senders());
            if !capture.damage().is_none() {
                read.unread.push(Unread { path: path.clone(), damage: capture.damage().clone() });
            }
        }
        Ok(read)
    }
}

/// What a pass over the files has found beside spans.
#[derive(Default, Debug)]
pub(super) struct Read {
    pub(super) lost_by_senders: u64,
    pub(super) unread: Vec<Unread>,
}
