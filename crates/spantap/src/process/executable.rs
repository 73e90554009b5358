//! Finds the name of a process's program, and the path of its file.
//!
//! The link `/proc/PID/exe` always leads to the file that runs. The link's text is the path by which the file was
//! executed. The kernel appends ` (deleted)` once the file is no longer at that path, and shows a file in memory as
//! `/memfd:NAME (deleted)`; a person gave the program neither name. The layer names its own process by the same rule,
//! which its documentation states.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The kernel appends this to the path of a file that was unlinked. A file's own name may end like this, too.
const DELETED: &[u8] = b" (deleted)";

/// The link's text begins like this for a file in memory.
const MEMORY: &str = "/memfd:";

/// The file that a process executes.
#[derive(PartialEq, Debug)]
pub(crate) struct Executable {
    /// In the mount namespace of the process, without ` (deleted)`.
    path: PathBuf,
    /// Whether the file is still at the path.
    is_there: bool,
}

impl Executable {
    /// The executable of the process whose folder in `/proc` is `process`.
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

    /// The path of the file in spantap's mount namespace. Once the file is replaced, the path leads to the new file.
    #[cfg(feature = "ebpf")]
    pub(crate) fn path_from_here(&self, process: &Path) -> PathBuf {
        seen_from_here(process, &self.path)
    }

    /// The program's name: the file's name. If the file has no name, or is the dynamic loader, the name comes from the
    /// command line.
    fn name(&self, arguments: impl IntoIterator<Item = String>, comm: &str) -> String {
        let own = file_name(&self.path);
        let is_in_memory = self.path.to_string_lossy().starts_with(MEMORY);
        // Files made with O_TMPFILE are called, for example, `#3935`.
        let is_nameless = !self.is_there && (is_in_memory || is_number_after("#", &own));
        if !is_nameless && !is_loader(&own) {
            return unwrapped(own);
        }
        // For a file without a name, older kernels set `comm` to the descriptor's number, newer ones to the link's text.
        let is_name =
            |name: &String| !name.is_empty() && !is_number_after("", name) && !name.starts_with("memfd:");
        let candidates = [started_as(arguments), Some(comm.to_owned())].into_iter().flatten();
        let mut names = candidates.map(|path| file_name(Path::new(&path)));
        names.find(is_name).unwrap_or_else(|| own.trim_start_matches("memfd:").to_owned())
    }
}

/// The name of the program that a process runs. `process` is its folder in `/proc`.
///
/// # Errors
///
/// When the process has ended, or belongs to another user.
pub(crate) fn program_name(process: &Path) -> io::Result<String> {
    let executable = Executable::of(process)?;
    let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (command_line, comm) = (read("cmdline"), read("comm"));
    // Each argument ends with a NUL.
    let arguments = command_line.split(|byte| *byte == 0).map(text);
    Ok(executable.name(arguments, text(&comm).trim_end_matches('\n')))
}

/// Converts a path in the mount namespace of the process to one that spantap can open.
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

/// Options of glibc's and musl's loaders that take a value from the next argument.
const LOADER_OPTIONS: [&str; 7] = [
    "--argv0",
    "--audit",
    "--glibc-hwcaps-mask",
    "--glibc-hwcaps-prepend",
    "--inhibit-rpath",
    "--library-path",
    "--preload",
];

/// The program's `argv[0]`. If the command line begins with the dynamic loader, this is what the loader passes on: the
/// program's path, or the value of `--argv0`.
fn started_as(arguments: impl IntoIterator<Item = String>) -> Option<String> {
    let mut arguments = arguments.into_iter();
    let first = arguments.next()?;
    if !is_loader(&file_name(Path::new(&first))) {
        return Some(first);
    }
    let mut given = None;
    while let Some(argument) = arguments.next() {
        if !argument.starts_with("--") {
            return given.or(Some(argument));
        }
        let (name, mut value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (&*argument, None),
        };
        // musl accepts both `--name=value` and `--name value`.
        if value.is_none() && LOADER_OPTIONS.contains(&name) {
            value = arguments.next();
        }
        if name == "--argv0" {
            given = value;
        } else if name == "--" {
            return given.or(arguments.next());
        }
    }
    None
}

fn is_number_after(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Nix renames a program to `.shop-wrapped` and puts a script named `shop` in its place.
fn unwrapped(name: String) -> String {
    let inner = name.strip_prefix('.').and_then(|name| name.trim_end_matches('_').strip_suffix("-wrapped"));
    inner.filter(|inner| !inner.is_empty()).map(str::to_owned).unwrap_or(name)
}

/// Whether this is a dynamic loader, such as `ld-linux-x86-64.so.2`, `ld-musl-x86_64.so.1` or `ld.so`.
fn is_loader(name: &str) -> bool {
    name == "ld.so" || (name.starts_with("ld-") && (name.ends_with(".so") || name.contains(".so.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_by_the_rule_that_the_layer_documents() {
        for (link, is_there, argument, comm, expected) in
            include!("../../../tracing-usdt/tests/names/cases.rs")
        {
            let name = Executable::read(link.into(), is_there).name([argument.to_owned()], comm);
            assert_eq!(name, expected, "{link} {argument} {comm}");
        }
    }

    #[test]
    fn the_program_follows_the_loader_and_its_options() {
        for (command_line, expected) in [
            ("/lib64/ld-linux-x86-64.so.2|./shop|serve", Some("./shop")),
            ("ld.so|--library-path|/opt/lib|--inhibit-cache|shop", Some("shop")),
            ("ld.so|--preload|a.so|--audit|b.so|--inhibit-rpath|c|shop|--audit|d", Some("shop")),
            ("ld.so|--argv0|/opt/store|shop", Some("/opt/store")),
            ("/lib/ld-musl-aarch64.so.1|--library-path=/lib|--|shop", Some("shop")),
            ("/lib/ld-musl-aarch64.so.1|--argv0=store|--|shop", Some("store")),
            ("ld.so|--list-tunables", None),
            ("shop|--argv0|store", Some("shop")),
            ("", Some("")),
        ] {
            let arguments = command_line.split('|').map(str::to_owned);
            assert_eq!(started_as(arguments).as_deref(), expected, "{command_line}");
        }
    }
}
