//! The folder of `--spool`: a folder in it for each sink, and a lock that keeps other processes out.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Spool;
use super::segment::{self, Position};
use crate::notices::Notices;
use crate::sink::figures::Figures;
use crate::sink::target::Target;

/// Holds the lock while it lives.
pub(in crate::sink) struct Directory {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Directory {
    /// Makes the folder if there is none; nobody else may read what is in it.
    pub(in crate::sink) fn open(path: &Path) -> Result<Self> {
        make_folder(path)
            .with_context(|| format!("can't make the folder for the spool {}", path.display()))?;
        let file = path.join("lock");
        let context = || format!("can't open {}: choose a --spool that can be written", file.display());
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file);
        match Flock::lock(lock.with_context(context)?, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                // Who holds it, for the message below and for the curious. A full disk may have no room for
                // it, which must not keep us from delivering what is on it.
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
        figures: Arc<Figures>,
        notices: Notices,
    ) -> Result<Spool> {
        let folder = self.path.join(target.folder());
        let open = || {
            make_folder(&folder)?;
            let (file, name) = (folder.join("target"), target.to_string());
            // Not written anew: on a full disk the name would be lost.
            if std::fs::read(&file).ok().as_deref() != Some(name.as_bytes()) {
                std::fs::write(file, name)?;
            }
            Spool::open(folder.clone(), max_bytes, figures, notices)
        };
        open().with_context(|| {
            let folder = folder.display();
            format!("can't use the spool of {target} in {folder}: repair or remove this folder")
        })
    }

    /// Tells of what waits for sinks that are not among `targets`.
    pub(in crate::sink) fn tell_of_others(&self, targets: &[Target], notices: &Notices) -> Result<()> {
        let context = || format!("can't read the spool {}", self.path.display());
        let own: Vec<PathBuf> = targets.iter().map(Target::folder).collect();
        for entry in std::fs::read_dir(&self.path).with_context(context)? {
            let folder = entry.with_context(context)?.path();
            let known = own.iter().any(|own| folder.ends_with(own));
            let Ok(target) = std::fs::read_to_string(folder.join("target")) else { continue };
            let spans = if known { 0 } else { spans_in(&folder).with_context(context)? };
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
    // 0700: spans can tell a lot about a program and its users.
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// How many spans wait in the folder of a sink.
fn spans_in(folder: &Path) -> io::Result<u64> {
    let Position { number: current, done } = segment::read_position(folder);
    let mut spans = 0;
    for number in segment::numbers(folder)?.into_iter().filter(|number| *number >= current) {
        let done = if number == current { done } else { 0 };
        spans += segment::scan(&segment::path(folder, number), done)?.spans.total();
    }
    Ok(spans)
}
