//! A file that is written.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::target::{Format, Target};
use crate::search::Files;

/// A target whose file is open.
pub struct Output {
    pub(super) format: Format,
    path: PathBuf,
    out: Box<dyn Write>,
}

impl Output {
    /// Opens the files of targets. What was in them is lost.
    ///
    /// # Errors
    ///
    /// When a file can't be written, is one of those that are read, or is the file of two targets.
    pub fn open(targets: &[Target], files: &Files) -> Result<Vec<Self>> {
        let mut open: Vec<(u64, u64)> = Vec::new();
        // All are looked at before the first one is emptied.
        for Target { path, .. } in targets {
            let is_stdout = path.as_os_str() == "-";
            let Some(metadata) = path.metadata().ok().filter(|file| !is_stdout && file.is_file()) else {
                continue;
            };
            let id = (metadata.dev(), metadata.ino());
            ensure!(!files.have(id), "can't write {}: it is one of the files to read", path.display());
            ensure!(!open.contains(&id), "can't write {}: two targets have the same file", path.display());
            open.push(id);
        }
        let same = |one: &Target| targets.iter().filter(|other| other.path == one.path).count() > 1;
        if let Some(twice) = targets.iter().find(|target| same(target)) {
            ensure!(!same(twice), "can't write {}: two targets have the same file", twice.path.display());
        }
        targets.iter().map(Self::create).collect()
    }

    fn create(target: &Target) -> Result<Self> {
        let Target { format, path } = target.clone();
        let out: Box<dyn Write> = match path.as_os_str() == "-" {
            true => Box::new(io::stdout()),
            false => {
                Box::new(File::create(&path).with_context(|| format!("can't write {}", path.display()))?)
            }
        };
        Ok(Self { format, path, out: Box::new(BufWriter::with_capacity(1 << 16, out)) })
    }

    /// Writes by `write`. The error says what failed.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let path = &self.path;
        write(&mut *self.out).with_context(|| format!("can't write {}", path.display()))
    }

    pub(super) fn finish(&mut self) -> Result<()> {
        self.write(|out| out.flush())
    }
}
