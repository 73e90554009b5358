//! Which file has the probes, and of which process they are wanted.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::{fmt, fs, io};

use anyhow::{Context, Result, bail};

use super::build::{Build, Stamp};
use super::elf::Lack;
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
        let place = Place::of_process(pid.unsigned_abs()).with_context(unreadable)?;
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
        let place = Place::of(path).with_context(|| no_file(path))?;
        match Build::open(place.path_now()) {
            Ok(Ok(build)) => Ok(Self { build, pid: None, place, name }),
            Ok(Err(lack)) => bail!("{}", lack.message(&name)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(error).with_context(|| no_file(path)),
            Err(error) => Err(error).with_context(|| format!("can't read {name}")),
        }
    }

    /// The file, and what takes its place from now on.
    pub(super) fn watch(self) -> io::Result<(Build, Receiver<Change>)> {
        let Self { build, pid, place, name } = self;
        let changes = match pid {
            Some(pid) => place.watch(move |_| match Self::process(pid) {
                Ok(target) => {
                    let news = format!("process {pid} has executed {}, which is followed, too", target.name);
                    Ok((target.build, news))
                }
                Err(error) => Err(format!("process {pid} has executed another program: {error:#}")),
            }),
            None => place.watch(move |path| match Build::open(path) {
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

fn no_file(path: &Path) -> String {
    let hint = if path.components().count() == 1 {
        "; a program on the PATH has to be named whole"
    } else if path.to_string_lossy().ends_with(" (deleted)") {
        "; what a process has executed is at /proc/PID/exe, also after it was deleted"
    } else {
        ""
    };
    format!("there is no {}{hint}", path.display())
}

/// A file of which a process has mapped code.
struct Library {
    /// Its link in `map_files`, which leads to the mapped file even if that was replaced or deleted. Following the link
    /// takes root.
    mapping: PathBuf,
    /// The path at which it was mapped, through the root of the process.
    path: PathBuf,
    inode: u64,
}

impl Library {
    fn open(&self) -> io::Result<Result<Build, Lack>> {
        let is_still_there = || Stamp::at(&self.path).is_ok_and(|stamp| stamp.inode == self.inode);
        match Build::open(&self.mapping) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && is_still_there() => {
                Build::open(&self.path)
            }
            opened => opened,
        }
    }

    fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned()
    }
}

/// The libraries and the executable of a process, by its folder in `/proc`.
fn libraries(process: &Path) -> Vec<Library> {
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    let mut known = HashSet::new();
    // start-end perms offset dev inode path
    let mapped = maps.split(|byte| *byte == b'\n').filter_map(|line| {
        let (before, path) = line.split_at(line.iter().position(|byte| *byte == b'/')?);
        let words: Vec<&str> = std::str::from_utf8(before).ok()?.split_ascii_whitespace().collect();
        let [range, permissions, _, device, inode] = words[..] else { return None };
        if !permissions.contains('x') || !known.insert((device, inode)) {
            return None;
        }
        // Unlike in `maps`, addresses have no leading zeros in the names in `map_files`.
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(Library {
            mapping: process.join("map_files").join(format!("{:x}-{:x}", number(start)?, number(end)?)),
            path: process.join("root").join(OsStr::from_bytes(&path[1..])),
            inode: inode.parse().ok()?,
        })
    });
    mapped.collect()
}
