//! A file that is written.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::target::{Format, Target};
use crate::replacement::{Place, Replacement};
use crate::search::Files;

/// Spans may have secrets, so that a new file is for its owner, as a recording is.
const MODE: u32 = 0o600;

/// A target that is written. A file is replaced once all targets are finished.
pub struct Output {
    pub(super) format: Format,
    path: PathBuf,
    /// `None` if nobody reads it any more, or if it is finished.
    out: Option<BufWriter<Out>>,
}

enum Out {
    Stdout(io::Stdout),
    File(Replacement),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(out) => out.flush(),
        }
    }
}

impl Output {
    /// Opens targets. What is in their files stays there until all are finished.
    ///
    /// # Errors
    ///
    /// When a file can't be written, is one of those that are read, or is the file of two targets.
    pub fn open(targets: &[Target], files: &Files) -> Result<Vec<Self>> {
        let mut places: Vec<Place> = Vec::new();
        let mut outputs = Vec::new();
        for Target { format, path } in targets {
            let cant_write = || format!("can't write {}", path.display());
            let twice = || format!("{}: two targets have the same file", cant_write());
            // By what is open, and not by names: `a` and `./a` are one file, and the standard output may be any.
            let (out, place) = match path.as_os_str() == "-" {
                true => {
                    let stdout = io::stdout();
                    let handle = stdout.as_fd().try_clone_to_owned().with_context(cant_write)?;
                    let place = Place::of(&File::from(handle)).with_context(cant_write)?;
                    (Out::Stdout(stdout), place)
                }
                false => {
                    let place = Place::named(path).with_context(cant_write)?;
                    // Before its replacement is in the way.
                    ensure!(!places.contains(&place), twice());
                    (Out::File(Replacement::of(path, MODE).with_context(cant_write)?), place)
                }
            };
            ensure!(!places.contains(&place), twice());
            let is_read = matches!(place, Place::Taken(device, inode) if files.have((device, inode)));
            ensure!(!is_read, "{}: it is one of the files to read", cant_write());
            places.push(place);
            let out = Some(BufWriter::with_capacity(1 << 16, out));
            outputs.push(Self { format: *format, path: path.clone(), out });
        }
        Ok(outputs)
    }

    /// Whether somebody reads it.
    pub(super) fn is_open(&self) -> bool {
        self.out.is_some()
    }

    /// Its file, for what is not written in order. `None` if it is a pipe or the like.
    pub(super) fn file(&self) -> Result<Option<File>> {
        let file = match self.out.as_ref().map(BufWriter::get_ref) {
            Some(Out::File(file)) => file.file().transpose(),
            Some(Out::Stdout(_)) | None => Ok(None),
        };
        file.with_context(|| format!("can't write {}", self.path.display()))
    }

    /// Writes by `write`, until the reader, such as `head`, has seen enough. The error says what failed.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        match write(out) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.out = None;
                Ok(())
            }
            written => written.with_context(|| format!("can't write {}", self.path.display())),
        }
    }

    /// Finishes all outputs, if none fails.
    pub(super) fn finish(outputs: &mut [Self]) -> Result<()> {
        outputs.iter_mut().try_for_each(|output| output.write(|out| out.flush()))?;
        for Self { path, out, .. } in outputs {
            // Nothing is left to flush.
            if let Some((Out::File(file), _)) = out.take().map(BufWriter::into_parts) {
                file.finish().with_context(|| format!("can't write {}", path.display()))?;
            }
        }
        Ok(())
    }
}
