//! What the program of a process is called, and where its file lies.
//!
//! The kernel's link `/proc/PID/exe` always leads to the file that runs. Its text is the path by which the file was
//! executed, with ` (deleted)` behind it once the file has no such path any more, and `/memfd:NAME (deleted)` for a file
//! in memory. Neither is a name that a person gave the program.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What the kernel adds to the path of a file that was unlinked. A file may also really be called so.
const DELETED: &[u8] = b" (deleted)";

/// How the text of a link to a file in memory begins.
const MEMORY: &[u8] = b"/memfd:";

/// The file that a process executes.
#[derive(PartialEq, Debug)]
pub(super) struct Executable {
    /// In the mount namespace of the process, without what the kernel adds.
    path: PathBuf,
    /// The file is still there.
    is_there: bool,
}

impl Executable {
    /// `process` is its folder in `/proc`.
    pub(super) fn of(process: &Path) -> io::Result<Self> {
        let link = process.join("exe");
        let text = fs::read_link(&link)?;
        let file = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
        let is_there = file(&seen_from_here(process, &text)).is_some_and(|named| Some(named) == file(&link));
        Ok(Self::read(text, is_there))
    }

    fn read(text: PathBuf, is_there: bool) -> Self {
        let path = match text.as_os_str().as_bytes().strip_suffix(DELETED) {
            Some(path) if !is_there => PathBuf::from(OsStr::from_bytes(path)),
            _ => text,
        };
        Self { path, is_there }
    }

    /// A path that leads to it from here, as long as the file is there; then to what takes its place.
    pub(super) fn path_from_here(&self, process: &Path) -> PathBuf {
        seen_from_here(process, &self.path)
    }

    /// Its file name. A file in memory has none: it is called as the process calls itself.
    fn name(&self, first_argument: &OsStr, comm: &OsStr) -> OsString {
        let name = match self.name_in_memory() {
            None => self.path.file_name(),
            Some(in_memory) => {
                let own = Path::new(first_argument).file_name();
                own.into_iter().chain([comm, in_memory]).find(|name| !name.is_empty())
            }
        };
        name.unwrap_or_default().to_owned()
    }

    fn name_in_memory(&self) -> Option<&OsStr> {
        let name = self.path.as_os_str().as_bytes().strip_prefix(MEMORY);
        name.filter(|_| !self.is_there).map(OsStr::from_bytes)
    }
}

/// The name of the program that a process runs, by its folder in `/proc`. The layer names itself by the same rule.
pub(super) fn program_name(process: &Path) -> io::Result<String> {
    let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
    let first = |bytes: Vec<u8>, end: u8| {
        OsString::from_vec(bytes.split(|byte| *byte == end).next().unwrap_or_default().to_vec())
    };
    let (argument, comm) = (first(read("cmdline"), 0), first(read("comm"), b'\n'));
    let name = Executable::of(process).map(|executable| executable.name(&argument, &comm));
    Ok(name?.to_string_lossy().into_owned())
}

/// The kernel tells paths as they are in the process's mount namespace.
fn seen_from_here(process: &Path, path: &Path) -> PathBuf {
    let namespace = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    if namespace(process) == namespace(Path::new("/proc/self")) {
        return path.to_owned();
    }
    process.join("root").join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str, is_there: bool, argument: &str, comm: &str) -> String {
        let executable = Executable::read(text.into(), is_there);
        executable.name(OsStr::new(argument), OsStr::new(comm)).to_string_lossy().into_owned()
    }

    #[test]
    fn a_program_is_called_by_its_file_and_never_deleted() {
        for (text, is_there, expected) in [
            ("/usr/bin/shop", true, "shop"),
            ("/usr/bin/shop (deleted)", false, "shop"),
            ("/usr/bin/shop (deleted)", true, "shop (deleted)"),
            ("/usr/bin/shop (deleted) (deleted)", false, "shop (deleted)"),
            ("/opt/my shop/the shop", true, "the shop"),
            ("/memfd:shop", true, "memfd:shop"),
        ] {
            assert_eq!(name(text, is_there, "other", "another"), expected, "{text}");
        }
    }

    #[test]
    fn a_program_in_memory_is_called_as_it_calls_itself() {
        for (argument, comm, expected) in [
            ("shop", "3", "shop"),
            ("/usr/bin/shop", "3", "shop"),
            ("", "worker", "worker"),
            ("/", "worker", "worker"),
            ("", "", "loaded: by x"),
        ] {
            let found = name("/memfd:loaded: by x (deleted)", false, argument, comm);
            assert_eq!(found, expected, "{argument:?} {comm:?}");
        }
    }
}
