//! Reads several files of spans as one.

use std::path::{Path, PathBuf};

use anyhow::{Error, Result};

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
    /// files. Goes on with the next file if one can't be read.
    pub(super) fn read<T: Send + 'static>(
        &self,
        filter: &Filter,
        each: impl Fn(Spans) -> T + Clone + Send + Sync + 'static,
        mut take: impl FnMut(T),
    ) -> Read {
        let mut read = Read::default();
        for path in &self.0 {
            let result = read.file(path, filter, each.clone(), &mut take);
            read.failed.extend(result.err());
        }
        read
    }
}

/// What a pass over the files has found beside spans.
#[derive(Default, Debug)]
pub struct Read {
    /// The spans that the programs reported as lost, as far as the reports were read.
    pub lost_by_senders: u64,
    /// What could not be read of files.
    pub unread: Vec<Unread>,
    /// Why files could not be read, or not to their end.
    pub failed: Vec<Error>,
}

impl Read {
    fn file<T: Send + 'static>(
        &mut self,
        path: &Path,
        filter: &Filter,
        each: impl Fn(Spans) -> T + Send + Sync + 'static,
        take: &mut impl FnMut(T),
    ) -> Result<()> {
        let mut results = Capture::open(path)?.with_filter(filter.clone()).in_parallel(each)?;
        let read = results.by_ref().try_for_each(|result| result.map(&mut *take));
        let capture = results.capture();
        self.lost_by_senders = self.lost_by_senders.saturating_add(capture.lost_by_senders());
        if !capture.damage().is_none() {
            self.unread.push(Unread { path: path.to_owned(), damage: capture.damage().clone() });
        }
        read
    }

    /// Whether spans that were in the files could not be read.
    pub fn is_damaged(&self) -> bool {
        !self.failed.is_empty() || self.unread.iter().any(Unread::is_damaged)
    }
}
