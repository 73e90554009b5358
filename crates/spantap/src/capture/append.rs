//! Appends to a file, all or nothing, and follows its path when someone renames or removes the file.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that is appended to, with whatever `F` holds of it, such as a lock.
pub(crate) struct Appender<F> {
    path: PathBuf,
    open: fn(&Path) -> io::Result<F>,
    file: F,
    /// Where a partly written end begins that could not be removed.
    torn: Option<u64>,
}

impl<F: Deref<Target = File>> Appender<F> {
    /// Opens the file by `open`, which makes it if it does not exist.
    pub(crate) fn open(path: &Path, open: fn(&Path) -> io::Result<F>) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), open, file: open(path)?, torn: None })
    }

    /// Opens the file again if its path leads to another file or to none, such as after a rotation by logrotate: what
    /// comes next belongs in a new file.
    pub(crate) fn follow(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        let there = self.path.metadata();
        if !there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            (self.file, self.torn) = ((self.open)(&self.path)?, None);
        }
        Ok(())
    }

    /// Appends all or nothing, so that it can be repeated.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.follow()?;
        if let Some(whole) = self.torn {
            self.file.set_len(whole)?;
            self.torn = None;
        }
        let before = self.file.metadata()?;
        // Only a regular file can be truncated; a terminal can't.
        let (is_file, before) = (before.is_file(), before.len());
        let written = (&*self.file).write_all(bytes);
        if written.is_err() && is_file && self.file.set_len(before).is_err() {
            self.torn = Some(before);
        }
        written
    }

    /// The current file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    #[cfg(test)]
    pub(crate) fn tear(&mut self, part: &[u8]) -> io::Result<()> {
        self.torn = Some(self.file.metadata()?.len());
        (&*self.file).write_all(part)
    }
}
