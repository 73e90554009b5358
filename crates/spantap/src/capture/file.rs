//! A capture that is recorded to.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::append::Appender;
use super::damage::Damage;
use super::encode::now_ns;
use super::filter::Filter;
use super::frame::Found;
use super::owner::give_to_user;
use super::read::Frames;
use super::rotate::Rotation;
use super::scan::Scan;

/// A capture, open for appending frames. It is locked against other writers until it is dropped.
pub struct CaptureFile {
    path: PathBuf,
    rotation: Rotation,
    appender: Appender<Flock<File>>,
}

impl CaptureFile {
    /// Opens a capture, or makes it. New frames come after those that it has. Cuts off an end that is the beginning of a
    /// frame, and returns how many bytes that was.
    ///
    /// A new file is readable and writable for its owner only. With `sudo`, this is the user who called it. A file that
    /// exists keeps its permissions.
    ///
    /// # Errors
    ///
    /// When the file can't be opened, is not a capture, is from a newer spantap, or another program records to it; and when a
    /// file that the rotation would replace is not a capture.
    pub fn open(path: &Path, rotation: Rotation) -> Result<(Self, u64)> {
        let context = || format!("can't record to {}", path.display());
        let is_other = path.metadata().is_ok_and(|metadata| !metadata.is_file());
        ensure!(!is_other, "can't record to {}: it is no regular file; choose another path", path.display());
        rotation.check(path).with_context(context)?;
        let appender = Appender::open(path, open).with_context(context)?;
        let cut = cut_tail(appender.file()).with_context(context)?;
        Ok((Self { path: path.to_owned(), rotation, appender }, cut))
    }

    /// Appends a frame of [`encode`](super::encode()), to a new file if it is time for one. After an error, the file is as
    /// before, and the call can be repeated.
    ///
    /// # Errors
    ///
    /// When the frame can't be written, or the files can't be renamed.
    pub fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        self.appender.follow()?;
        let length = self.appender.file().metadata()?.len();
        let began_ns = self.rotation.max_age.and_then(|_| began_ns(self.appender.file()));
        if self.rotation.is_due(length, began_ns, frame.len() as u64, now_ns()) {
            self.rotation.rotate(&self.path)?;
        }
        self.appender.append(frame)
    }
}

/// When the first frame was written.
fn began_ns(file: &File) -> Option<u64> {
    match Scan::default().found_at(file, 0, u64::MAX) {
        Ok(Found::Header(first)) => Some(first.written_ns),
        _ => None,
    }
}

/// Opens, makes and locks a file, and checks that it is a capture.
fn open(path: &Path) -> io::Result<Flock<File>> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600);
    let file = match options.clone().create_new(true).open(path) {
        Ok(file) => {
            give_to_user(&file);
            file
        }
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => options.create(true).open(path)?,
        Err(cause) => return Err(cause),
    };
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((_, Errno::EWOULDBLOCK)) => return Err(io::Error::other("another program records to it")),
        Err((_, cause)) => return Err(cause.into()),
    };
    match Scan::default().found_at(&file, 0, u64::MAX)? {
        // A part is an empty file, or one whose first frame was cut off.
        Found::Header(_) | Found::Part(_) => Ok(file),
        Found::Newer(version) => Err(io::Error::other(format!(
            "a newer spantap wrote it (version {version} of the format): choose another path"
        ))),
        Found::Other => Err(io::Error::other("it is not a capture: choose another path")),
    }
}

/// Cuts off what comes after the last whole frame.
fn cut_tail(file: &File) -> Result<u64> {
    let mut frames = Frames::new(file.try_clone()?);
    // No span is that late, so no body is read.
    let none = Filter { since_ns: u64::MAX, ..Filter::default() };
    let mut damage = Damage::default();
    while frames.next(&none, &mut damage)?.is_some() {}
    if damage.tail_bytes > 0 {
        file.set_len(frames.end())?;
    }
    Ok(damage.tail_bytes)
}
