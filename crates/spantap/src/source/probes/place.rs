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

/// The time between two looks at the path. Spans of a new build's process that end before the next look are missed.
const EACH: Duration = Duration::from_millis(20);

/// A file that has not changed for this long is no longer being written.
const SETTLED: Duration = Duration::from_secs(1);

/// A path at which new builds are expected.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// The file that was at the path at first.
    seen: Option<Stamp>,
    /// The link `/proc/PID/exe`, if the user named that: the path may lead to a newer file already.
    link: Option<PathBuf>,
    /// The folder in `/proc` through which the path leads. It is held open, because another process may get the same pid.
    _process: Option<File>,
}

/// What happened at a place.
#[derive(Debug)]
pub(super) enum Change {
    /// A file with probes is there, and the line for the user in case it is a new one.
    Build(Build, String),
    /// The content of this file changes, and at the moment it has no probes.
    Rewritten(Stamp),
    /// A file without probes is there, and the line for the user.
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
        // A new build does not change where the link leads; it comes to the path that the link names.
        let process = place.path.parent().unwrap_or(path);
        let path = Executable::of(process)?.path_from_here(process);
        Ok(Self { seen: Stamp::at(&path).ok(), path, link: Some(place.path), ..place })
    }

    /// The executable of a process. It changes when the process executes another program.
    pub(super) fn of_process(pid: u32) -> io::Result<Self> {
        Self::in_process(pid, Path::new("exe"))
    }

    fn in_process(pid: u32, rest: &Path) -> io::Result<Self> {
        let folder = File::open(format!("/proc/{pid}"))?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(rest);
        Ok(Self { seen: Stamp::at(&path).ok(), path, link: None, _process: Some(folder) })
    }

    /// The path that leads to the file that the user named.
    pub(super) fn path_now(&self) -> &Path {
        self.link.as_deref().unwrap_or(&self.path)
    }

    /// Sends changes until the receiver is dropped. `find` opens what is at the path, and returns it with the line for
    /// the user, or the line that says why it is no build.
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
        // Since when there has been a file without probes. It may still be being written.
        let mut useless: Option<Instant> = None;
        loop {
            thread::sleep(EACH);
            // A deployment may remove the old file before it puts the new one there.
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

/// The process and the rest of a path that begins with `/proc/PID`.
fn through_process(path: &Path) -> Option<(u32, PathBuf)> {
    let mut rest = path.strip_prefix("/proc").ok()?.components();
    let pid = rest.next()?.as_os_str().to_str()?.parse().ok()?;
    Some((pid, rest.as_path().to_owned()))
}
