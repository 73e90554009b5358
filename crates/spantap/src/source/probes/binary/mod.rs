//! Finds the file that has the probes.
//!
//! `build` is such a file, `elf` reads its format, and `mapped` finds the processes that run it. `place` watches
//! for the next build, at a path that `way` resolves.

mod build;
mod elf;
mod mapped;
mod place;
mod way;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::{fmt, io};

use anyhow::{Context, Result, bail};

pub(super) use build::{Build, Stamp};
pub(super) use mapped::mapped_of;
pub(super) use place::Change;

use super::foreign::Foreign;
use crate::process::program_name;
use elf::Lack;
use mapped::libraries;
use place::Place;

/// What to attach to.
#[derive(Debug)]
pub struct Target {
    pub(super) what: What,
    /// The only process to attach to; `None` for all processes that run the file.
    pub(super) pid: Option<i32>,
    /// The name to show.
    pub(super) name: String,
}

#[derive(Debug)]
pub(super) enum What {
    /// The file with the probes.
    Probes(Box<Watched>),
    /// A process without probes.
    Foreign(Foreign),
}

/// A file, and where new builds of it appear.
#[derive(Debug)]
pub(super) struct Watched {
    build: Build,
    place: Place,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{} (pid {pid})", self.name),
            None => write!(f, "all processes of {}, now and later", self.name),
        }
    }
}

impl Target {
    /// Targets the process `pid`. The probes are in its executable or in one of its libraries.
    ///
    /// # Errors
    ///
    /// There is no such process, or it has no probes.
    pub fn process(pid: i32) -> Result<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let name = match program_name(&proc) {
            Ok(name) => name,
            Err(error) if error.kind() == ErrorKind::NotFound && !proc.exists() => {
                bail!("there is no process {pid}; pgrep NAME prints the pids of a program")
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("process {pid} has no executable: it has ended, or is a kernel thread")
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "can't read the executable of process {pid}; try as root: sudo spantap attach ..."
                    )
                });
            }
        };
        let unreadable = || format!("can't read the executable of process {pid}");
        let place = Place::of_process(&proc).with_context(unreadable)?;
        // The first file that has the layer, but no probes.
        let mut lacking = match Build::open(&proc.join("exe")).with_context(unreadable)? {
            Ok(build) => return Ok(Self::probes(build, Some(pid), place, name)),
            Err(Lack::Layer) => None,
            Err(lack) => Some((lack, name.clone())),
        };
        let mut hidden = None;
        for library in libraries(&proc) {
            match library.open() {
                Ok(Ok(build)) => return Ok(Self::probes(build, Some(pid), place, name)),
                Ok(Err(Lack::Layer | Lack::Sections)) => {}
                // The process has unmapped it in the meantime.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Ok(Err(lack)) => _ = lacking.get_or_insert_with(|| (lack, library.name())),
                Err(error) => hidden = Some((error, library.name())),
            }
        }
        if lacking.is_none()
            && let Some(foreign) = Foreign::of(pid)?
        {
            return Ok(Self { what: What::Foreign(foreign), pid: Some(pid), name });
        }
        if let Some((lack, of)) = lacking {
            bail!("process {pid}: {}", lack.message(&of));
        }
        if let Some((error, library)) = hidden {
            return Err(error).with_context(|| {
                format!(
                    "{name} (pid {pid}) has no probes of tracing-usdt, and its library {library} can't be read; try \
                     as root: sudo spantap attach ..."
                )
            });
        }
        bail!(
            "neither {name} (pid {pid}) nor its libraries have probes of tracing-usdt; does it use the layer, and \
             was it built for Linux? (A program in another language needs OpenTelemetry's thread context.)"
        )
    }

    fn probes(build: Build, pid: Option<i32>, place: Place, name: String) -> Self {
        Self { what: What::Probes(Box::new(Watched { build, place })), pid, name }
    }

    /// Targets every process that runs the executable or library at `path`, now and later.
    ///
    /// # Errors
    ///
    /// The file has no probes, or can't be read.
    pub fn file(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let opened = Place::of(path).and_then(|mut place| Ok((place.open()?, place)));
        match opened {
            Ok((Ok(build), place)) => Ok(Self::probes(build, None, place, name)),
            Ok((Err(lack), _)) => bail!("{}", lack.message(&name)),
            Err(error) => {
                let why = unreadable(path, &error);
                Err(error).context(why)
            }
        }
    }
}

impl Watched {
    /// Returns the file, and a channel with the builds that replace it. `pid` and `name` are those of the target.
    pub(super) fn watch(self, pid: Option<i32>, name: String) -> io::Result<(Build, Receiver<Change>)> {
        let Self { build, place } = self;
        let changes = match pid {
            Some(pid) => place.watch(move |_| match Target::process(pid) {
                Ok(Target { what: What::Probes(watched), name, .. }) => {
                    let news = format!(
                        "process {pid} has executed {name}; its spans are collected \
                         from now on"
                    );
                    Ok((watched.build, news))
                }
                Ok(Target { what: What::Foreign(_), name, .. }) => Err(format!(
                    "process {pid} has executed {name}, which has no probes of tracing-usdt; attach to it again for \
                     what the kernel does in its spans"
                )),
                Err(error) => Err(format!(
                    "process {pid} has executed another program: {error:#}; libraries that it loads later are not \
                     checked, so attach to it again once the layer is loaded"
                )),
            }),
            None => place.watch(move |way| match Build::at(way) {
                Ok(Ok(build)) => {
                    let news = format!(
                        "{name} was replaced: spans of the new build are collected from now on, and those of earlier \
                         builds as long as they run"
                    );
                    Ok((build, news))
                }
                Ok(Err(lack)) => Err(lack.message(&format!("the new file at {name}"))),
                Err(error) => Err(format!("{name} was replaced by a file that can't be read: {error}")),
            }),
        };
        Ok((build, changes?))
    }
}

/// Why the file at `path` can't be attached to, and what to do.
fn unreadable(path: &Path, error: &io::Error) -> String {
    let path_shown = path.display();
    match error.kind() {
        ErrorKind::NotFound if path.components().count() == 1 => {
            format!("there is no {path_shown}; give the whole path of a program on the PATH")
        }
        ErrorKind::NotFound if path.to_string_lossy().ends_with(" (deleted)") => format!(
            "there is no {path_shown}; the executable of a process is at /proc/PID/exe, even after it was deleted"
        ),
        ErrorKind::NotFound => format!("there is no {path_shown}"),
        ErrorKind::PermissionDenied => {
            format!("can't read {path_shown}; try as root: sudo spantap attach ...")
        }
        _ => format!("can't read {path_shown}"),
    }
}
