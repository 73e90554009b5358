//! The path by which a program is started, where a deployment puts the next build of it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::build::{Build, Stamp};
use super::elf::Lack;
use crate::executable::Executable;

/// The path is looked at so often. A new build's process that starts in between is seen from then on.
const EACH: Duration = Duration::from_millis(20);

/// A file that stays the same for so long is no longer being written.
const SETTLED: Duration = Duration::from_secs(1);

/// A path that goes on to lead to what it was meant to.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Given as `/proc/PID/exe`: that link, and what is at the path already.
    link: Option<(PathBuf, Option<Stamp>)>,
    /// The process through whose folder in `/proc` the path leads: another that gets its pid has another folder.
    _process: Option<File>,
}

/// What happened at a place.
#[derive(Debug)]
pub(super) enum Change {
    /// There is a build that may be another one.
    Build(Build),
    /// This file is getting another content, or has one without probes.
    Rewritten(Stamp),
    /// There is a file without probes.
    Lacks(Lack),
    /// There is one that can't be read.
    Unreadable(io::Error),
}

impl Place {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let Some((process, rest)) = through_process(path) else {
            return Ok(Self { path: path.to_owned(), link: None, _process: None });
        };
        let folder = File::open(process)?;
        let process = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        let (path, link) = if rest == Path::new("exe") {
            let path = Executable::of(&process)?.path_from_here(&process);
            let there = Stamp::at(&path).ok();
            (path, Some((process.join(rest), there)))
        } else {
            (process.join(rest), None)
        };
        Ok(Self { path, link, _process: Some(folder) })
    }

    /// Leads to the file that is meant.
    pub(super) fn path_now(&self) -> &Path {
        self.link.as_ref().map_or(&self.path, |(link, _)| link)
    }

    /// Tells of what takes the place of `build`, until nobody listens.
    pub(super) fn watch(self, build: &Build) -> io::Result<Receiver<Change>> {
        let (tell, changes) = channel();
        let seen = self.link.as_ref().map_or(Some(build.stamp()), |(_, there)| *there);
        thread::Builder::new().name("watch".into()).spawn(move || self.tell_changes(seen, &tell))?;
        Ok(changes)
    }

    fn tell_changes(&self, mut seen: Option<Stamp>, tell: &Sender<Change>) {
        // Since when there is a file that is no build. It is told once it has settled.
        let mut useless: Option<(Instant, Change)> = None;
        loop {
            thread::sleep(EACH);
            // For a moment there may be none.
            let Ok(stamp) = Stamp::at(&self.path) else { continue };
            let mut told = Ok(());
            if seen != Some(stamp) {
                let is_rewritten = seen.is_some_and(|before| before.is_same_file(&stamp));
                seen = Some(stamp);
                useless = None;
                let lacking = match Build::open(&self.path) {
                    Ok(Ok(build)) => {
                        seen = Some(build.stamp());
                        told = tell.send(Change::Build(build));
                        None
                    }
                    Ok(Err(lack)) => Some(Change::Lacks(lack)),
                    Err(error) => Some(Change::Unreadable(error)),
                };
                if let Some(lacking) = lacking {
                    useless = Some((Instant::now(), lacking));
                    if is_rewritten {
                        told = tell.send(Change::Rewritten(stamp));
                    }
                }
            } else if let Some((_, change)) = useless.take_if(|(since, _)| since.elapsed() >= SETTLED) {
                told = tell.send(change);
            }
            if told.is_err() {
                return;
            }
        }
    }
}

/// The folder of a process in `/proc` and what follows it, if a path begins so.
fn through_process(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut rest = path.strip_prefix("/proc").ok()?.components();
    let pid: u32 = rest.next()?.as_os_str().to_str()?.parse().ok()?;
    Some((format!("/proc/{pid}").into(), rest.as_path().to_owned()))
}
