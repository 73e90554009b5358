//! Where the next build of a program will be: a deployment puts it at the path by which the program is started, and a
//! process executes it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::build::{Build, Stamp};
use crate::executable::Executable;

/// The path is looked at so often. A new build's process that starts in between is seen from then on.
const EACH: Duration = Duration::from_millis(20);

/// A file that stays the same for so long is no longer being written.
const SETTLED: Duration = Duration::from_secs(1);

/// A path that goes on to lead to what it was meant to.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// The file that was there when it was looked at first.
    seen: Option<Stamp>,
    /// Leads to the file that is meant, if the path may lead to another one already.
    link: Option<PathBuf>,
    /// The process through whose folder in `/proc` the path leads: another that gets its pid has another folder.
    _process: Option<File>,
}

/// What happened at a place.
#[derive(Debug)]
pub(super) enum Change {
    /// There is a build that may be another one; if it is, this is to be said.
    Build(Build, String),
    /// This file is getting another content, or has one without probes.
    Rewritten(Stamp),
    /// There is a file without probes, as this says.
    Useless(String),
}

impl Place {
    /// The path to a file.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let Some((pid, rest)) = through_process(path) else {
            return Ok(Self {
                path: path.to_owned(),
                seen: Stamp::at(path).ok(),
                link: None,
                _process: None,
            });
        };
        let place = Self::in_process(pid, &rest)?;
        if rest != Path::new("exe") {
            return Ok(place);
        }
        // The next build will not be at the link, but where that says that it leads.
        let process = place.path.parent().unwrap_or(path);
        let path = Executable::of(process)?.path_from_here(process);
        Ok(Self { seen: Stamp::at(&path).ok(), path, link: Some(place.path), ..place })
    }

    /// The executable of a process, which is another one when it executes that.
    pub(super) fn of_process(pid: u32) -> io::Result<Self> {
        Self::in_process(pid, Path::new("exe"))
    }

    fn in_process(pid: u32, rest: &Path) -> io::Result<Self> {
        let folder = File::open(format!("/proc/{pid}"))?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(rest);
        Ok(Self { seen: Stamp::at(&path).ok(), path, link: None, _process: Some(folder) })
    }

    /// Leads to the file that is meant.
    pub(super) fn path_now(&self) -> &Path {
        self.link.as_deref().unwrap_or(&self.path)
    }

    /// Tells of changes from now on, until nobody listens. `find` looks what is at a path; what it returns is for
    /// [`Change`].
    pub(super) fn watch(
        self,
        find: impl Fn(&Path) -> Result<(Build, String), String> + Send + 'static,
    ) -> io::Result<Receiver<Change>> {
        let (tell, changes) = channel();
        thread::Builder::new().name("watch".into()).spawn(move || self.tell_changes(find, &tell))?;
        Ok(changes)
    }

    fn tell_changes(self, find: impl Fn(&Path) -> Result<(Build, String), String>, tell: &Sender<Change>) {
        let mut seen = self.seen;
        // Since when there is a file that may be no build, or not yet.
        let mut useless: Option<Instant> = None;
        loop {
            thread::sleep(EACH);
            // For a moment there may be none.
            let Ok(stamp) = Stamp::at(&self.path) else { continue };
            let has_settled = useless.is_some_and(|since| since.elapsed() >= SETTLED);
            if seen == Some(stamp) && !has_settled {
                continue;
            }
            let is_rewritten = seen.is_some_and(|before| before.is_same_file(&stamp));
            seen = Some(stamp);
            let change = match find(&self.path) {
                Ok((build, news)) => {
                    useless = None;
                    Change::Build(build, news)
                }
                Err(why) if has_settled => {
                    useless = None;
                    Change::Useless(why)
                }
                Err(_) => {
                    useless = Some(Instant::now());
                    if !is_rewritten {
                        continue;
                    }
                    Change::Rewritten(stamp)
                }
            };
            if tell.send(change).is_err() {
                return;
            }
        }
    }
}

/// The process, and what follows its folder in `/proc`, if a path begins with that.
fn through_process(path: &Path) -> Option<(u32, PathBuf)> {
    let mut rest = path.strip_prefix("/proc").ok()?.components();
    let pid = rest.next()?.as_os_str().to_str()?.parse().ok()?;
    Some((pid, rest.as_path().to_owned()))
}
