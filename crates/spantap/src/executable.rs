//! What the program of a process is called, and where its file lies.
//!
//! The kernel's link `/proc/PID/exe` always leads to the file that runs. Its text is the path by which the file was
//! executed, with ` (deleted)` behind it once the file has no such path any more, and `/memfd:NAME (deleted)` for a file
//! in memory. Neither is a name that a person gave the program. The layer names its own process by the same rule, which
//! its documentation states.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What the kernel adds to the path of a file that was unlinked. A file may also really be called so.
const DELETED: &[u8] = b" (deleted)";

/// How the text of a link to a file in memory begins.
const MEMORY: &str = "/memfd:";

/// The file that a process executes.
#[derive(PartialEq, Debug)]
pub(crate) struct Executable {
    /// In the mount namespace of the process, without what the kernel adds.
    path: PathBuf,
    /// The file is still there.
    is_there: bool,
}

impl Executable {
    /// `process` is its folder in `/proc`.
    pub(crate) fn of(process: &Path) -> io::Result<Self> {
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
    #[cfg(feature = "ebpf")]
    pub(crate) fn path_from_here(&self, process: &Path) -> PathBuf {
        seen_from_here(process, &self.path)
    }

    /// Its file name. Where the file has none, or is the dynamic loader's, the process is called as it was started.
    fn name(&self, first_argument: &str, comm: &str) -> String {
        let own = file_name(&self.path);
        let is_in_memory = self.path.to_string_lossy().starts_with(MEMORY);
        // O_TMPFILE makes files that are called `#3935`.
        let is_nameless = !self.is_there && (is_in_memory || is_number_after("#", &own));
        if !is_nameless && !is_loader(&own) {
            return unwrapped(own);
        }
        // The number of the descriptor by which it was started, or, by newer kernels, the link itself.
        let is_name =
            |name: &String| !name.is_empty() && !is_number_after("", name) && !name.starts_with("memfd:");
        let mut started_as = [first_argument, comm].into_iter().map(|path| file_name(Path::new(path)));
        started_as.find(is_name).unwrap_or_else(|| own.trim_start_matches("memfd:").to_owned())
    }
}

/// The name of the program that a process runs, by its folder in `/proc`.
///
/// # Errors
///
/// When the process is gone, or is another user's.
pub(crate) fn program_name(process: &Path) -> io::Result<String> {
    let executable = Executable::of(process)?;
    let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
    let first = |bytes: Vec<u8>, end: u8| {
        String::from_utf8_lossy(bytes.split(|byte| *byte == end).next().unwrap_or_default()).into_owned()
    };
    Ok(executable.name(&first(read("cmdline"), 0), &first(read("comm"), b'\n')))
}

/// The kernel tells paths as they are in the process's mount namespace.
fn seen_from_here(process: &Path, path: &Path) -> PathBuf {
    let namespace = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    if namespace(process) == namespace(Path::new("/proc/self")) {
        return path.to_owned();
    }
    process.join("root").join(path.strip_prefix("/").unwrap_or(path))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_number_after(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Nix has programs as `.shop-wrapped`, with a script of the right name that starts them.
fn unwrapped(name: String) -> String {
    let inner = name.strip_prefix('.').and_then(|name| name.trim_end_matches('_').strip_suffix("-wrapped"));
    inner.filter(|inner| !inner.is_empty()).map(str::to_owned).unwrap_or(name)
}

/// `ld-linux-x86-64.so.2`, `ld-musl-x86_64.so.1`, `ld.so` and their like.
fn is_loader(name: &str) -> bool {
    name == "ld.so" || (name.starts_with("ld-") && (name.ends_with(".so") || name.contains(".so.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str, is_there: bool, argument: &str, comm: &str) -> String {
        Executable::read(text.into(), is_there).name(argument, comm)
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
            ("/usr/bin/7", true, "7"),
            // Which packagers have put behind another.
            ("/nix/store/x/bin/.shop-wrapped", true, "shop"),
            ("/nix/store/x/bin/.shop-wrapped__ (deleted)", false, "shop"),
            ("/usr/bin/.-wrapped", true, ".-wrapped"),
        ] {
            assert_eq!(name(text, is_there, "other", "another"), expected, "{text}");
        }
    }

    #[test]
    fn a_program_without_a_file_of_its_own_is_called_as_it_was_started() {
        for (text, argument, comm, expected) in [
            ("/memfd:image (deleted)", "/usr/bin/the shop", "3", "the shop"),
            ("/memfd:image (deleted)", "", "worker", "worker"),
            ("/memfd:image (deleted)", "/", "worker", "worker"),
            ("/memfd:image (deleted)", "/proc/self/fd/5", "5", "image"),
            ("/memfd:image (deleted)", "/dev/fd/5", "memfd:image (de", "image"),
            ("/memfd:by: x (deleted)", "", "", "by: x"),
            ("/tmp/#3935 (deleted)", "shop", "5", "shop"),
            ("/lib64/ld-linux-x86-64.so.2", "./target/shop", "ld-linux-x86-64", "shop"),
        ] {
            assert_eq!(
                name(text, text.contains("ld-"), argument, comm),
                expected,
                "{text} {argument} {comm}"
            );
        }
    }
}
