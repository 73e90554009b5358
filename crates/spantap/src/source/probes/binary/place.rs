//! Watches for new builds of a program: a deployment puts one at the path of the program, or a process executes one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::build::{Build, Stamp};
use super::elf::Lack;
use super::way::{Way, through_process};
use crate::process::{Executable, Image};

/// The time between two checks of the path. Spans of a new build that end before the next check are missed.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// A file that has not changed for this long counts as completely written.
const SETTLED: Duration = Duration::from_secs(1);

/// How often the container is checked for remaining processes.
const CONTAINER_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A path at which new builds are expected.
#[derive(Debug)]
pub(in crate::source::probes) struct Place {
    way: Way,
    /// The path of the first build, if it differs.
    first: Option<Way>,
    /// The first build; `None` until it was opened.
    seen: Option<Seen>,
    /// Whether the executable of a process is watched, which changes by `exec`.
    is_process: bool,
    /// The path given by the user; `None` once no process is left in its container.
    named: Option<PathBuf>,
    /// Whether the last check found no process in the container.
    was_container_empty: bool,
}

/// The file found at a place.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Seen {
    stamp: Stamp,
    /// The image of the process, if the executable of a process is watched.
    image: Option<Image>,
}

/// A change at a place.
#[derive(Debug)]
pub(in crate::source::probes) enum Change {
    /// A file with probes, and a line for the user in case it is new.
    Build(Build, String),
    /// The content of this file changes, and at the moment it has no probes.
    Rewritten(Stamp),
    /// There is nothing to attach to; the line for the user says why.
    Unusable(String),
}

impl Place {
    fn new(way: Way, first: Option<Way>, named: Option<PathBuf>) -> Self {
        Self { way, first, seen: None, is_process: false, named, was_container_empty: false }
    }

    /// Watches the path of a file.
    pub(in crate::source::probes) fn of(path: &Path) -> io::Result<Self> {
        // A link that the user made to a path in /proc is treated like that path.
        if let (None, Ok(target)) = (through_process(path), fs::read_link(path))
            && through_process(&target).is_some()
        {
            return Self::of(&target);
        }
        let way = Way::of(path)?;
        let Some((process, _)) = through_process(path).filter(|(_, rest)| rest == Path::new("exe")) else {
            return Ok(Self::new(way, None, Some(path.to_owned())));
        };
        // A new build does not change where the link leads; it appears at the path that the link names.
        let next = Way::of(&Executable::of(&process)?.path_from_here(&process))?;
        Ok(Self::new(next, Some(way), Some(path.to_owned())))
    }

    /// Watches the executable of a process, given its folder in `/proc`. It changes when the process executes a
    /// program.
    pub(in crate::source::probes) fn of_process(process: &Path) -> io::Result<Self> {
        let way = Way::in_process(process, Path::new("exe"))?;
        let mut place = Self { is_process: true, ..Self::new(way, None, None) };
        place.seen = place.look().ok();
        Ok(place)
    }

    /// Opens the file that the user named, as the first build.
    pub(in crate::source::probes) fn open(&mut self) -> io::Result<Result<Build, Lack>> {
        let opened = Build::at(self.first.as_ref().unwrap_or(&self.way))?;
        self.seen = opened.as_ref().ok().map(|build| Seen { stamp: build.stamp(), image: None });
        Ok(opened)
    }

    fn look(&self) -> io::Result<Seen> {
        let stamp = Stamp::of(&self.way.find()?.metadata()?);
        let image = match self.way.folder() {
            // In the middle of an exec there is no image.
            Some(process) if self.is_process => Some(Image::of(&process).ok_or(io::ErrorKind::Interrupted)?),
            _ => None,
        };
        Ok(Seen { stamp, image })
    }

    /// Starts a thread that sends changes. It ends at the first change after the receiver was dropped. `find` opens
    /// the build, and returns it with a line for the user. On error, returns a line that explains why.
    pub(in crate::source::probes) fn watch(
        self,
        find: impl Fn(&Way) -> Result<(Build, String), String> + Send + 'static,
    ) -> io::Result<Receiver<Change>> {
        let (changes, receiver) = channel();
        thread::Builder::new().name("watch".into()).spawn(move || self.send_changes(find, &changes))?;
        Ok(receiver)
    }

    fn send_changes(
        mut self,
        find: impl Fn(&Way) -> Result<(Build, String), String>,
        changes: &Sender<Change>,
    ) {
        let mut seen = self.seen;
        // Since when there is a file without probes. It may still be in the middle of being written.
        let mut unusable_since: Option<Instant> = None;
        let mut next_check = Instant::now();
        loop {
            thread::sleep(CHECK_INTERVAL);
            if Instant::now() >= next_check {
                next_check = Instant::now() + CONTAINER_CHECK_INTERVAL;
                if let Some(why) = self.check_container()
                    && changes.send(Change::Unusable(why)).is_err()
                {
                    return;
                }
            }
            // A deployment may remove the old file before it adds the new one.
            let Ok(now) = self.look() else { continue };
            let has_settled = unusable_since.is_some_and(|since| since.elapsed() >= SETTLED);
            // A program loads its libraries one by one.
            let is_loading = self.is_process && unusable_since.is_some();
            let is_new = seen != Some(now);
            if !is_new && !has_settled && !is_loading {
                continue;
            }
            let is_rewritten =
                !self.is_process && seen.is_some_and(|before| before.stamp.is_same_file(&now.stamp));
            seen = Some(now);
            let change = match find(&self.way) {
                Ok((build, news)) => {
                    unusable_since = None;
                    Change::Build(build, news)
                }
                Err(why) if has_settled && !is_new => {
                    unusable_since = None;
                    Change::Unusable(why)
                }
                Err(_) => {
                    if is_new {
                        unusable_since = Some(Instant::now());
                    }
                    if !is_rewritten {
                        continue;
                    }
                    Change::Rewritten(now.stamp)
                }
            };
            if changes.send(change).is_err() {
                return;
            }
        }
    }

    /// Returns a line for the user, once, when no process is left in the container where new builds are expected.
    ///
    /// One check may miss the only process, if it started after the processes were listed, and its predecessor ended
    /// before it was looked at. So two checks in a row must find none.
    fn check_container(&mut self) -> Option<String> {
        self.named.as_ref()?;
        let is_empty = !self.way.has_process();
        let was_empty = std::mem::replace(&mut self.was_container_empty, is_empty);
        let path = self.named.take_if(|_| is_empty && was_empty)?;
        Some(format!(
            "the last process of the container of {} has ended: new builds are found only if another process enters \
             it; start spantap again for a new container",
            path.display()
        ))
    }
}
