//! Reads several files of spans as one.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};

use crate::capture::{self, Capture, Damage, Filter, Spans};
use crate::text::counted;

/// The files of a search. They stay open, so each pass reads the same ones, whatever their names are by then: a recording
/// that gets too large is renamed.
#[derive(Debug)]
pub struct Files {
    open: Vec<(PathBuf, File)>,
    /// Why others could not be opened.
    failed: Vec<Error>,
}

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
    fn is_damaged(&self) -> bool {
        self.damage.places > 0 || self.damage.refused > 0
    }
}

impl Files {
    /// These files, in this order.
    pub fn open(paths: &[PathBuf]) -> Self {
        let (mut open, mut failed) = (Vec::new(), Vec::new());
        for path in paths {
            match capture::open(path) {
                Ok(file) => open.push((path.clone(), file)),
                Err(error) => failed.push(error),
            }
        }
        Self { open, failed }
    }

    /// Passes what `filter` selects through `each`, on several threads, and the results to `take`, in the order of the
    /// files. Goes on with the next file if one can't be read.
    pub(crate) fn read<T: Send + 'static>(
        &self,
        filter: &Filter,
        each: impl Fn(Spans) -> T + Clone + Send + Sync + 'static,
        mut take: impl FnMut(T),
    ) -> Read {
        self.read_while(filter, each, |result| {
            take(result);
            true
        })
    }

    /// As `read`, until `take` returns false.
    pub(crate) fn read_while<T: Send + 'static>(
        &self,
        filter: &Filter,
        each: impl Fn(Spans) -> T + Clone + Send + Sync + 'static,
        mut take: impl FnMut(T) -> bool,
    ) -> Read {
        let (mut read, mut is_wanted) = (self.nothing_read(), true);
        for (path, file) in &self.open {
            let result = read.file(path, file, filter, each.clone(), &mut |result| {
                is_wanted = take(result);
                is_wanted
            });
            read.failed.extend(result.err());
            if !is_wanted {
                break;
            }
        }
        read
    }
}

impl Files {
    /// The names of the files, without their folders.
    pub(crate) fn names(&self) -> String {
        let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        self.open.iter().map(|(path, _)| name(path)).collect::<Vec<_>>().join(", ")
    }

    /// Whether this is one of the files, given by its device and inode.
    pub(crate) fn have(&self, (device, inode): (u64, u64)) -> bool {
        let id = |file: &File| file.metadata().map(|file| (file.dev(), file.ino()));
        self.open.iter().any(|(_, file)| id(file).is_ok_and(|id| id == (device, inode)))
    }

    /// The files that are open.
    pub(super) fn open_files(&self) -> impl Iterator<Item = (&Path, &File)> {
        self.open.iter().map(|(path, file)| (path.as_path(), file))
    }

    /// What is known before they are read.
    pub(super) fn nothing_read(&self) -> Read {
        let failed = self.failed.iter().map(|error| anyhow::anyhow!("{error:#}")).collect();
        Read { lost_by_senders: 0, unread: Vec::new(), failed }
    }

    /// A line about each older part of a recording that is not among the files.
    pub(crate) fn older(&self) -> Vec<String> {
        let paths: Vec<&PathBuf> = self.open.iter().map(|(path, _)| path).collect();
        let older = paths
            .iter()
            .map(|path| next_older(path))
            .filter(|older| !paths.contains(&older) && older.exists());
        older.map(|older| format!("{} was not read: it has the spans from before", older.display())).collect()
    }
}

/// The part of a recording before this one: `spantap record` renames `CAPTURE` to `CAPTURE.1`, and that to `CAPTURE.2`.
fn next_older(path: &Path) -> PathBuf {
    let number = path.extension().and_then(|number| number.to_str()?.parse::<u32>().ok());
    match number {
        Some(number) => path.with_extension(number.saturating_add(1).to_string()),
        None => {
            let mut older = path.as_os_str().to_owned();
            older.push(".1");
            older.into()
        }
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
        file: &File,
        filter: &Filter,
        each: impl Fn(Spans) -> T + Send + Sync + 'static,
        take: &mut impl FnMut(T) -> bool,
    ) -> Result<()> {
        let file = file.try_clone().with_context(|| format!("can't read {}", path.display()))?;
        let capture = Capture::from_file(path, file)?.with_filter(filter.clone());
        let mut results = capture.in_parallel(each)?;
        let read = loop {
            match results.next() {
                None => break Ok(()),
                Some(Err(error)) => break Err(error),
                Some(Ok(result)) => {
                    if !take(result) {
                        break Ok(());
                    }
                }
            }
        };
        let capture = results.capture();
        self.note(path, capture.damage(), capture.lost_by_senders());
        read
    }

    /// Adds what a file had beside spans.
    pub(super) fn note(&mut self, path: &Path, damage: &Damage, lost_by_senders: u64) {
        self.lost_by_senders = self.lost_by_senders.saturating_add(lost_by_senders);
        if !damage.is_none() {
            self.unread.push(Unread { path: path.to_owned(), damage: damage.clone() });
        }
    }

    /// Takes the ends of files that are not whole for ones that are still being written.
    pub fn forgive_tails(&mut self) {
        self.unread.iter_mut().for_each(|of| of.damage.tail_bytes = 0);
        self.unread.retain(|of| !of.damage.is_none());
    }

    /// Whether spans that were in the files could not be read.
    pub fn is_damaged(&self) -> bool {
        !self.failed.is_empty() || self.unread.iter().any(Unread::is_damaged)
    }

    /// What the user has to know, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.lost_by_senders > 0 {
            let spans = counted(self.lost_by_senders, "span is", "spans are");
            lines.push(format!("{spans} missing: the programs reported them as lost"));
        }
        lines.extend(self.unread.iter().map(|of| format!("{}: {}", of.path.display(), of.damage)));
        lines.extend(self.failed.iter().map(|error| format!("{error:#}")));
        lines
    }
}
