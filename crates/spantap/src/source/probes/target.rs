//! Which file has the probes, and of which process they are wanted.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::read::elf::NoteIterator;
use object::{Endianness, Object, ObjectSection};

/// All of them, by the contract, of which `spantap attach` takes these.
pub(super) const PROVIDER: &str = "tracing";

/// What a program that has the layer has in any case.
const WITNESS: &str = "span_emit";

/// What to attach to.
#[derive(Debug)]
pub struct Target {
    /// The file with the probes, by a path that leads there from here.
    pub(super) file: PathBuf,
    /// The one process; else all that run the file.
    pub(super) pid: Option<i32>,
    /// What it is to a person.
    name: String,
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
        let exe = proc.join("exe");
        let name = match fs::read_link(&exe) {
            Ok(path) => path.display().to_string(),
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
        // By way of /proc it is found also where it was replaced, or lies in a container.
        if has_probes(&exe).with_context(|| format!("can't read the executable of process {pid}"))? {
            return Ok(Self { file: exe, pid: Some(pid), name });
        }
        for library in libraries(&proc) {
            if has_probes(&library).unwrap_or(false) {
                return Ok(Self { file: library, pid: Some(pid), name });
            }
        }
        bail!(
            "neither {} (pid {pid}) nor its libraries have probes of tracing-usdt; is the layer in it, and the program \
             built for Linux?",
            name
        )
    }

    /// Every process of the executable or library at `path`, now and later.
    ///
    /// # Errors
    ///
    /// When it has no probes.
    pub fn file(path: &Path) -> Result<Self> {
        let file = fs::canonicalize(path).with_context(|| {
            let hint = if path.components().count() == 1 {
                "; a program on the PATH has to be named whole"
            } else {
                ""
            };
            format!("there is no {}{hint}", path.display())
        })?;
        if !has_probes(&file).with_context(|| format!("can't read {}", file.display()))? {
            bail!(
                "{} has no probes of tracing-usdt; is the layer in it, and the program built for Linux?",
                file.display()
            );
        }
        Ok(Self { pid: None, name: file.display().to_string(), file })
    }
}

/// Files that the process has mapped to run, seen through its own root.
fn libraries(proc: &Path) -> Vec<PathBuf> {
    let maps = fs::read(proc.join("maps")).unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps).into_owned();
    let mut known = HashSet::new();
    // address perms offset dev inode path
    let paths = maps.lines().filter_map(|line| {
        let mut words = line.splitn(6, ' ').filter(|word| !word.is_empty());
        let is_code = words.nth(1)?.contains('x');
        words.nth(3).map(str::trim).filter(|path| is_code && path.starts_with('/'))
    });
    let new = paths.filter(|path| known.insert((*path).to_owned()));
    new.map(|path| proc.join("root").join(&path[1..])).collect()
}

/// Whether it is an ELF file with the probes.
fn has_probes(path: &Path) -> Result<bool> {
    let bytes = fs::read(path)?;
    let Ok(file) = object::File::parse(&*bytes) else { return Ok(false) };
    let Some(section) = file.section_by_name(".note.stapsdt") else { return Ok(false) };
    let data = section.data().unwrap_or_default();
    let Ok(mut notes) =
        NoteIterator::<object::elf::FileHeader64<Endianness>>::new(file.endianness(), 4, data)
    else {
        return Ok(false);
    };
    while let Ok(Some(note)) = notes.next() {
        // Three addresses, then the provider, the name and what the arguments are in.
        let mut words = note.desc().get(24..).unwrap_or_default().split(|byte| *byte == 0);
        if words.next() == Some(PROVIDER.as_bytes()) && words.next() == Some(WITNESS.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}
