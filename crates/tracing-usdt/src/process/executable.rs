//! The name of the program, by the rule in [the crate documentation](crate#names-of-processes): normally the
//! name of its executable file.
//!
//! On Linux the link `/proc/self/exe` names that file, with three exceptions. If the file has been unlinked,
//! the kernel appends ` (deleted)` to its path. The kernel calls a file that exists only in memory
//! `/memfd:NAME (deleted)`. If the command line started the dynamic loader with the program as an argument, the
//! link names the loader.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The suffix that the kernel adds to the path of an unlinked file.
const DELETED: &str = " (deleted)";

/// The prefix of the path of a file made by `memfd_create`.
const MEMORY: &str = "/memfd:";

pub(crate) struct Executable {
    /// Empty if unknown.
    pub(crate) name: String,
    /// `None` if the program has no file of its own.
    pub(crate) path: Option<PathBuf>,
}

impl Executable {
    /// The executable of this process.
    pub(crate) fn current() -> Self {
        let link = std::env::current_exe().unwrap_or_default();
        let is_current = is_same_file(&link);
        Self::of(link, is_current, std::env::args_os().next(), comm())
    }

    /// Applies the rule to the target of `/proc/self/exe`, the program's first argument and its `comm`.
    /// `is_current`: the path `link` leads to the file that this process executes.
    fn of(link: PathBuf, is_current: bool, argument: Option<OsString>, comm: Option<OsString>) -> Self {
        let file = if is_current { link } else { without_suffix(link) };
        let name = file_name(&file);
        // For a file without a path, the kernel shows a name that is only a description.
        let is_nameless =
            !is_current && (file.to_string_lossy().starts_with(MEMORY) || is_number(&name, "#"));
        if !is_nameless && !is_loader(&name) && !name.is_empty() {
            return Self { name: without_nix_affixes(name), path: Some(file) };
        }
        let given = [argument, comm].into_iter().flatten().map(|given| file_name(Path::new(&given)));
        // A number is the file descriptor that was executed, as in `/proc/self/fd/5`. Newer kernels set
        // `comm` to the name of the memfd.
        let mut given = given.filter(|name| !is_number(name, "") && !name.starts_with("memfd:"));
        let name = given.next().unwrap_or_else(|| name.trim_start_matches("memfd:").to_owned());
        Self { name, path: None }
    }
}

fn without_suffix(link: PathBuf) -> PathBuf {
    match link.to_str().and_then(|text| text.strip_suffix(DELETED)) {
        Some(file) => file.into(),
        None => link,
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether `name` is `prefix` followed by digits only.
fn is_number(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Removes the affixes of Nix, which renames a program `shop` to `.shop-wrapped` and starts it from a script
/// `shop`.
fn without_nix_affixes(name: String) -> String {
    let inner = name.strip_prefix('.').and_then(|name| name.trim_end_matches('_').strip_suffix("-wrapped"));
    inner.filter(|inner| !inner.is_empty()).map(str::to_owned).unwrap_or(name)
}

/// Whether `name` is that of a dynamic loader, such as `ld-linux-x86-64.so.2`, `ld-musl-x86_64.so.1` or
/// `ld.so`.
fn is_loader(name: &str) -> bool {
    name == "ld.so" || (name.starts_with("ld-") && (name.ends_with(".so") || name.contains(".so.")))
}

/// Whether `path` leads to the file that this process executes. Opening `/proc/self/exe` reaches that file
/// even if it is unlinked.
#[cfg(target_os = "linux")]
fn is_same_file(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let file = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let executed = file(Path::new("/proc/self/exe"));
    executed.is_some() && file(path) == executed
}

/// Only Linux adds a suffix to the path, so there is nothing to check.
#[cfg(not(target_os = "linux"))]
fn is_same_file(_: &Path) -> bool {
    true
}

/// The name of the process's main thread: by default the first 15 bytes of the executed file's name.
#[cfg(target_os = "linux")]
fn comm() -> Option<OsString> {
    use std::os::unix::ffi::OsStringExt;
    let mut comm = std::fs::read("/proc/self/comm").ok()?;
    // Removes the newline.
    comm.pop();
    Some(OsString::from_vec(comm))
}

#[cfg(not(target_os = "linux"))]
fn comm() -> Option<OsString> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(link: &str, is_current: bool, argument: &str, comm: &str) -> Executable {
        Executable::of(link.into(), is_current, Some(argument.into()), Some(comm.into()))
    }

    #[test]
    fn programs_are_named_by_the_documented_rule() {
        for (link, is_current, argument, comm, expected) in include!("../../tests/names/cases.rs") {
            assert_eq!(of(link, is_current, argument, comm).name, expected, "{link} {argument} {comm}");
        }
    }

    #[test]
    fn the_path_is_that_of_the_programs_own_file() {
        for (link, is_current, expected) in [
            ("/opt/my shop/shop", true, Some("/opt/my shop/shop")),
            // In a chroot, the path leads to another file.
            ("/opt/shop", false, Some("/opt/shop")),
            ("/opt/shop (deleted)", false, Some("/opt/shop")),
            ("/opt/shop (deleted)", true, Some("/opt/shop (deleted)")),
            ("/opt/shop (deleted) (deleted)", false, Some("/opt/shop (deleted)")),
            ("/memfd:live", true, Some("/memfd:live")),
            ("/memfd:image (deleted)", false, None),
            ("/tmp/#3935 (deleted)", false, None),
            ("/lib64/ld-linux-x86-64.so.2", true, None),
        ] {
            let path = of(link, is_current, "shop", "shop").path;
            assert_eq!(path.as_deref(), expected.map(Path::new), "{link}");
        }
    }

    #[test]
    fn without_a_link_the_first_argument_names_the_program() {
        assert_eq!(of("", false, "/opt/shop", "comm").name, "shop");
    }
}
