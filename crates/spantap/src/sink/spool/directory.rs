//! The folder of `--spool`: has a folder for each sink and a lock against other processes. Refuses a folder that has
//! files of a later version.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Spool;
use super::format::{FILE_HEAD_BYTES, Kind, VERSION};
use super::segment::{self, Position};
use crate::sink::stats::Counters;
use crate::sink::target::Target;
use crate::text::Notices;

/// Holds the lock until it is dropped.
pub(in crate::sink) struct Directory {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Directory {
    /// Makes the folder if it doesn't exist; only the user may read it.
    pub(in crate::sink) fn open(path: &Path) -> Result<Self> {
        make_folder(path)
            .with_context(|| format!("can't make the folder for the spool {}", path.display()))?;
        let file = path.join("lock");
        let context = || format!("can't open {}: choose a --spool that can be written", file.display());
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file);
        match Flock::lock(lock.with_context(context)?, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                // The pid is for the message below. If a full disk has no room for it, spantap must still deliver
                // what is on the disk.
                let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
                Ok(Self { path: path.to_owned(), _lock: lock })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                bail!(
                    "the spool {} is in use by another spantap (pid {pid}): end that one, or choose another --spool",
                    path.display()
                )
            }
            Err((_, cause)) => bail!("can't lock {}: {cause}", file.display()),
        }
    }

    /// The spool of one sink.
    pub(in crate::sink) fn spool(
        &self,
        target: &Target,
        max_bytes: u64,
        counters: Arc<Counters>,
        notices: Notices,
    ) -> Result<Spool> {
        let folder = self.path.join(target.folder());
        check(&folder)?;
        let open = || {
            make_folder(&folder)?;
            let (file, name) = (folder.join("target"), target.to_string());
            // Not rewritten if it is right: a full disk would lose the name.
            if std::fs::read(&file).ok().as_deref() != Some(name.as_bytes()) {
                std::fs::write(file, name)?;
            }
            Spool::open(folder.clone(), max_bytes, counters, notices)
        };
        open().with_context(|| {
            let folder = folder.display();
            format!("can't use the spool of {target} in {folder}: repair or remove this folder")
        })
    }

    /// Reports the spans that wait for sinks other than `targets`.
    pub(in crate::sink) fn report_other_targets(&self, targets: &[Target], notices: &Notices) -> Result<()> {
        let context = || format!("can't read the spool {}", self.path.display());
        let own: Vec<PathBuf> = targets.iter().map(Target::folder).collect();
        for entry in std::fs::read_dir(&self.path).with_context(context)? {
            let folder = entry.with_context(context)?.path();
            let known = own.iter().any(|own| folder.ends_with(own));
            let Ok(target) = std::fs::read_to_string(folder.join("target")) else { continue };
            if known {
                continue;
            }
            // No sink of this run needs these spans, so an error must not keep it from starting.
            if let Err(cause) = check(&folder) {
                notices.say(format!("spans of an earlier start wait for {target}: {cause:#}"));
                continue;
            }
            let spans = spans_in(&folder).with_context(context)?;
            if spans > 0 {
                let folder = folder.display();
                notices.say(format!(
                    "{spans} spans of an earlier start wait in {folder} for {target}: start with --to {target} \
                     to send them, or remove the folder"
                ));
            }
        }
        Ok(())
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    // 0700: spans can reveal a lot about a program and its users.
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The number of spans that wait in the folder of a sink.
fn spans_in(folder: &Path) -> io::Result<u64> {
    let Position { number: current, done } = segment::read_position(folder);
    let mut spans = 0;
    for number in segment::numbers(folder)?.into_iter().filter(|number| *number >= current) {
        let done = if number == current { done } else { 0 };
        spans += segment::scan(&segment::path(folder, number), done)?.spans.total();
    }
    Ok(spans)
}

/// Fails if a file in the folder of a sink is of a later version. Must be called before anything in the folder
/// changes.
pub(super) fn check(folder: &Path) -> Result<()> {
    let files = [("position", Kind::Position), ("senders", Kind::Senders)];
    let files = files.map(|(name, kind)| (folder.join(name), kind));
    let numbers = match segment::numbers(folder) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(()),
        numbers => numbers.with_context(|| format!("can't read the spool {}", folder.display()))?,
    };
    let segments = numbers.into_iter().map(|number| (segment::path(folder, number), Kind::Segment));
    for (path, kind) in files.into_iter().chain(segments) {
        let version = kind.version(
            &begin(&path).with_context(|| format!("can't read the spool's file {}", path.display()))?,
        );
        if version > VERSION {
            bail!(
                "{}: a later spantap wrote this file (spool format {version}; this spantap reads formats up to \
                 {VERSION}). It is left unchanged. Start the later spantap to send these spans, or choose another \
                 --spool",
                path.display()
            );
        }
    }
    Ok(())
}

/// Reads as much of a head as there is.
fn begin(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_HEAD_BYTES as u64).read_to_end(&mut head).map(|_| head),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(head),
        Err(cause) => Err(cause),
    }
}
