//! Which file has the probes, and of which process they are wanted.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::{fmt, io};

use anyhow::{Context, Result, bail};

use super::build::Build;
use super::elf::Lack;
use super::mapped::libraries;
use super::place::{Change, Place};
use crate::executable::program_name;

/// What to attach to.
#[derive(Debug)]
pub struct Target {
    /// The file with the probes.
    pub(super) build: Build,
    /// The one process; else all that run the file.
    pub(super) pid: Option<i32>,
    /// Where the next build will be.
    place: Place,
    /// What it is to a person.
    pub(super) name: String,
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
    /// The process `pid`, whose executable or one of whose libraries has the probes.
    ///
    /// # Errors
    ///
    /// When there is no such process, or it has no probes.
    pub fn process(pid: i32) -> Result<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let name = match program_name(&proc) {
            Ok(name) => name,
            Err(error) if error.kind() == ErrorKind::NotFound && !proc.exists() => {
                bail!("there is no process {pid}; pgrep NAME tells the pids of a program")
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("process {pid} has no executable: it has ended, or is a thread of the kernel")
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("can't see the executable of process {pid} (as root it can be seen: sudo spantap attach ...)")
                });
            }
        };
        let unreadable = || format!("can't read the executable of process {pid}");
        let place = Place::of_process(&proc).with_context(unreadable)?;
        // The first file that has the layer, but no probes.
        let mut lacking = match Build::open(&proc.join("exe")).with_context(unreadable)? {
            Ok(build) => return Ok(Self { build, pid: Some(pid), place, name }),
            Err(Lack::Layer) => None,
            Err(lack) => Some((lack, name.clone())),
        };
        let mut hidden = None;
        for library in libraries(&proc) {
            match library.open() {
                Ok(Ok(build)) => return Ok(Self { build, pid: Some(pid), place, name }),
                Ok(Err(Lack::Layer | Lack::Sections)) => {}
                // The process has unmapped it in the meantime.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Ok(Err(lack)) => _ = lacking.get_or_insert_with(|| (lack, library.name())),
                Err(error) => hidden = Some((error, library.name())),
            }
        }
        if let Some((lack, of)) = lacking {
            bail!("process {pid}: {}", lack.message(&of));
        }
        if let Some((error, library)) = hidden {
            return Err(error).with_context(|| {
                format!(
                    "{name} (pid {pid}) has no probes of tracing-usdt, and can't read its library {library} (as root it \
                     can be read: sudo spantap attach ...)"
                )
            });
        }
        bail!(
            "neither {name} (pid {pid}) nor its libraries have probes of tracing-usdt; is the layer in it, and the program \
             built for Linux?"
        )
    }

    /// Every process of the executable or library to which `path` leads, now and later.
    ///
    /// # Errors
    ///
    /// When it has no probes.
    pub fn file(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let opened = Place::of(path).and_then(|mut place| Ok((place.open()?, place)));
        match opened {
            Ok((Ok(build), place)) => Ok(Self { build, pid: None, place, name }),
            Ok((Err(lack), _)) => bail!("{}", lack.message(&name)),
            Err(error) => {
                let why = unreadable(path, &error);
                Err(error).context(why)
            }
        }
    }

    /// The file, and what takes its place from now on.
    pub(super) fn watch(self) -> io::Result<(Build, Receiver<Change>)> {
        let Self { build, pid, place, name } = self;
        let changes = match pid {
            Some(pid) => place.watch(move |_| match Self::process(pid) {
                Ok(target) => {
                    let news = format!("process {pid} has executed {}, which is followed from now on", target.name);
                    Ok((target.build, news))
                }
                Err(error) => Err(format!(
                    "process {pid} has executed another program: {error:#} (what it loads from now on is not looked at; \
                     attach to it again once the layer is loaded)"
                )),
            }),
            None => place.watch(move |way| match Build::at(way) {
                Ok(Ok(build)) => {
                    let news = format!(
                        "{name} was replaced: processes of the new build are followed from now on, and those of the \
                         builds before as long as they run"
                    );
                    Ok((build, news))
                }
                Ok(Err(lack)) => Err(lack.message(&format!("what replaced {name}"))),
                Err(error) => Err(format!("{name} was replaced by what can't be read: {error}")),
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
            format!("there is no {path_shown}; a program on the PATH has to be named whole")
        }
        ErrorKind::NotFound if path.to_string_lossy().ends_with(" (deleted)") => format!(
            "there is no {path_shown}; what a process has executed is at /proc/PID/exe, also after it was deleted"
        ),
        ErrorKind::NotFound => format!("there is no {path_shown}"),
        ErrorKind::PermissionDenied => {
            format!("can't read {path_shown} (as root it can be read: sudo spantap attach ...)")
        }
        _ => format!("can't read {path_shown}"),
    }
}
