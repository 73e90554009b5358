//! Which file has the probes, and of which process they are wanted.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::build::Build;
use super::elf::Lack;
use super::executable::program_name;
use super::place::Place;

/// What to attach to.
#[derive(Debug)]
pub struct Target {
    /// The file with the probes.
    pub(super) build: Build,
    pub(super) of: Of,
    /// What it is to a person.
    pub(super) name: String,
}

/// Whose probes.
#[derive(Debug)]
pub(super) enum Of {
    /// Of one process.
    Process(i32),
    /// Of all that run the file, or what takes its place.
    All(Place),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            Of::Process(pid) => write!(f, "{} (pid {pid})", self.name),
            Of::All(_) => write!(f, "all processes of {}, now and later", self.name),
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
        let with = |build| Self { build, of: Of::Process(pid), name: name.clone() };
        let unreadable = || format!("can't read the executable of process {pid}");
        // What has the layer, but no probes.
        let mut lacking = match Build::open(&proc.join("exe")).with_context(unreadable)? {
            Ok(build) => return Ok(with(build)),
            Err(Lack::Layer) => None,
            Err(lack) => Some((lack, name.clone())),
        };
        let mut hidden = None;
        for Mapped { path, name } in libraries(&proc) {
            match Build::open(&path) {
                Ok(Ok(build)) => return Ok(with(build)),
                Ok(Err(Lack::Layer | Lack::Sections)) => {}
                Ok(Err(lack)) => _ = lacking.get_or_insert((lack, name)),
                Err(error) => hidden = Some((error, name)),
            }
        }
        if let Some((lack, of)) = lacking {
            bail!("process {pid}: {}", lack.of(&of));
        }
        if let Some((error, library)) = hidden {
            return Err(error).with_context(|| {
                format!(
                    "{name} (pid {pid}) has no probes of tracing-usdt, and its library {library} can't be read, which \
                     takes root or the capability CAP_CHECKPOINT_RESTORE"
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
            Ok(Ok(build)) => Ok(Self { build, of: Of::All(place), name }),
            Ok(Err(lack)) => bail!("{}", lack.of(&name)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(error).with_context(|| no_file(path)),
            Err(error) => Err(error).with_context(|| format!("can't read {name}")),
        }
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

/// A file that a process has mapped to run.
struct Mapped {
    /// Leads to the very file, whatever is at its path by now.
    path: PathBuf,
    /// For a person.
    name: String,
}

/// Those of a process, by its folder in `/proc`.
fn libraries(process: &Path) -> Vec<Mapped> {
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    let mut known = HashSet::new();
    // start-end perms offset dev inode path
    let mapped = maps.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = String::from_utf8_lossy(line);
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let is_code = words.next()?.contains('x');
        let (_, dev, inode) = (words.next()?, words.next()?.to_owned(), words.next()?.to_owned());
        let path = words.next().filter(|path| path.starts_with('/'))?;
        if !is_code || !known.insert((dev, inode)) {
            return None;
        }
        // Its names have no leading zeros.
        let number = |text| u64::from_str_radix(text, 16).ok();
        let range = format!("{:x}-{:x}", number(start)?, number(end)?);
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        Some(Mapped { path: process.join("map_files").join(range), name })
    });
    mapped.collect()
}
