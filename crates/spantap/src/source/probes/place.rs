//! Where the next build of a program will be: a deployment puts it at the path by which the program is started, and a
//! process executes it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::build::{Build, Stamp};
use super::elf::Lack;
use super::way::{Way, through_process};
use crate::exec::Image;
use crate::executable::Executable;

/// The time between two looks at the path. Spans of a new build's process that end before the next look are missed.
const EACH: Duration = Duration::from_millis(20);

/// A file that has not changed for this long is no longer being written.
const SETTLED: Duration = Duration::from_secs(1);

/// How often it is checked that processes are left in a container.
const EACH_CONTAINER: Duration = Duration::from_secs(1);

/// A path at which new builds are expected.
#[derive(Debug)]
pub(super) struct Place {
    way: Way,
    /// Where the first build is, if it may be elsewhere.
    first: Option<Way>,
    /// What the first build is; `None` until it was opened.
    seen: Option<Seen>,
    /// New builds come by `exec` of a process.
    is_process: bool,
    /// The path as the user named it, until no process is left where it leads.
    named: Option<PathBuf>,
}

/// What is at a place.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Seen {
    stamp: Stamp,
    /// Of the process, if the place is what it executes.
    image: Option<Image>,
}

/// What happened at a place.
#[derive(Debug)]
pub(super) enum Change {
    /// A file with probes is there, and the line for the user in case it is a new one.
    Build(Build, String),
    /// The content of this file changes, and at the moment it has no probes.
    Rewritten(Stamp),
    /// Why there is nothing to attach to: a line for the user.
    Useless(String),
}

impl Place {
    /// The path to a file.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        // A link of the user's own to a process is as good as the path to which it leads.
        if let (None, Ok(target)) = (through_process(path), fs::read_link(path))
            && through_process(&target).is_some()
        {
            return Self::of(&target);
        }
        let (way, named) = (Way::of(path)?, Some(path.to_owned()));
        let Some((process, _)) = through_process(path).filter(|(_, rest)| rest == Path::new("exe")) else {
            return Ok(Self { way, first: None, seen: None, is_process: false, named });
        };
        // A new build does not change where the link leads; it comes to the path that the link names.
        let next = Way::of(&Executable::of(&process)?.path_from_here(&process))?;
        Ok(Self { way: next, first: Some(way), seen: None, is_process: false, named })
    }

    /// The executable of a process, by its folder in `/proc`. It changes when the process executes another program.
    pub(super) fn of_process(process: &Path) -> io::Result<Self> {
        let way = Way::in_process(process, Path::new("exe"))?;
        let mut place = Self { way, first: None, seen: None, is_process: true, named: None };
        place.seen = place.look().ok();
        Ok(place)
    }

    /// Opens the file that the user named. It is what was there at first.
    pub(super) fn open(&mut self) -> io::Result<Result<Build, Lack>> {
        let opened = Build::at(self.first.as_ref().unwrap_or(&self.way))?;
        self.seen = opened.as_ref().ok().map(|build| Seen { stamp: build.stamp(), image: None });
        Ok(opened)
    }

    fn look(&self) -> io::Result<Seen> {
        let stamp = Stamp::of(&self.way.find()?.metadata()?);
        let image = match self.way.folder() {
            // While it executes a program, there is nothing to be seen.
            Some(process) if self.is_process => Some(Image::of(&process).ok_or(io::ErrorKind::Interrupted)?),
            _ => None,
        };
        Ok(Seen { stamp, image })
    }

    /// Sends changes. It ends at the first one after the receiver was dropped. `find` opens what is there, and returns it with the line for the
    /// user, or the line that says why it is no build.
    pub(super) fn watch(
        self,
        find: impl Fn(&Way) -> Result<(Build, String), String> + Send + 'static,
    ) -> io::Result<Receiver<Change>> {
        let (tell, changes) = channel();
        thread::Builder::new().name("watch".into()).spawn(move || self.tell_changes(find, &tell))?;
        Ok(changes)
    }

    fn tell_changes(mut self, find: impl Fn(&Way) -> Result<(Build, String), String>, tell: &Sender<Change>) {
        let mut seen = self.seen;
        // Since when there has been a file without probes. It may still be being written.
        let mut useless: Option<Instant> = None;
        let mut next_check = Instant::now();
        loop {
            thread::sleep(EACH);
            if Instant::now() >= next_check {
                next_check = Instant::now() + EACH_CONTAINER;
                if let Some(why) = self.check_container()
                    && tell.send(Change::Useless(why)).is_err()
                {
                    return;
                }
            }
            // A deployment may remove the old file before it puts the new one there.
            let Ok(now) = self.look() else { continue };
            let has_settled = useless.is_some_and(|since| since.elapsed() >= SETTLED);
            // A program loads its libraries one by one.
            let is_loading = self.is_process && useless.is_some();
            let is_new = seen != Some(now);
            if !is_new && !has_settled && !is_loading {
                continue;
            }
            let is_rewritten =
                !self.is_process && seen.is_some_and(|before| before.stamp.is_same_file(&now.stamp));
            seen = Some(now);
            let change = match find(&self.way) {
                Ok((build, news)) => {
                    useless = None;
                    Change::Build(build, news)
                }
                Err(why) if has_settled && !is_new => {
                    useless = None;
                    Change::Useless(why)
                }
                Err(_) => {
                    if is_new {
                        useless = Some(Instant::now());
                    }
                    if !is_rewritten {
                        continue;
                    }
                    Change::Rewritten(now.stamp)
                }
            };
            if tell.send(change).is_err() {
                return;
            }
        }
    }

    /// What to say once no process is left in the container where new builds are expected.
    fn check_container(&mut self) -> Option<String> {
        let path = self.named.take_if(|_| !self.way.has_process())?;
        Some(format!(
            "the last process of the container of {} has ended: new builds are followed only if another process enters \
             it; start spantap again for a new container",
            path.display()
        ))
    }
}
