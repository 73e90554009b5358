//! What the program is called: by the file that it was started from, where that is a file of its own.
//!
//! On Linux that file is where `/proc/self/exe` points. The kernel appends ` (deleted)` to the link of a file that was
//! unlinked since, and calls a file that is in memory only `/memfd:NAME (deleted)`. A program that was started by
//! naming the dynamic loader has the loader there. [The crate documentation](crate#names-of-processes) has the rule.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What the kernel appends to the path of an unlinked file.
const DELETED: &str = " (deleted)";

/// What the link of a file begins with that was made by `memfd_create`.
const MEMORY: &str = "/memfd:";

pub(crate) struct Executable {
    /// Empty where it is not known.
    pub(crate) name: String,
    /// `None` where the program has no file of its own.
    pub(crate) path: Option<PathBuf>,
}

impl Executable {
    /// This process's.
    pub(crate) fn this() -> Self {
        let link = std::env::current_exe().unwrap_or_default();
        let is_current = is_same_file(&link);
        Self::of(link, is_current, std::env::args_os().next(), comm())
    }

    /// By where the link points, and whether that path still leads to the file that is executed.
    fn of(link: PathBuf, is_current: bool, argument: Option<OsString>, comm: Option<OsString>) -> Self {
        let file = if is_current { link } else { without_suffix(link) };
        let name = file_name(&file);
        // Of a file that has no name, the link has one for a human to read.
        let is_nameless =
            !is_current && (file.to_string_lossy().starts_with(MEMORY) || is_number(&name, "#"));
        if !is_nameless && !is_loader(&name) && !name.is_empty() {
            return Self { name: unwrapped(name), path: Some(file) };
        }
        let given = [argument, comm].into_iter().flatten().map(|given| file_name(Path::new(&given)));
        // A number is the descriptor by which the file was started, `/proc/self/fd/5`. Newer kernels have the link as
        // `comm`.
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

fn is_number(name: &str, after: &str) -> bool {
    name.strip_prefix(after).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
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

/// Whether the path leads to the file that is executed; the link itself leads there even if the file is unlinked.
#[cfg(target_os = "linux")]
fn is_same_file(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let file = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let executed = file(Path::new("/proc/self/exe"));
    executed.is_some() && file(path) == executed
}

/// Other systems have no suffix.
#[cfg(not(target_os = "linux"))]
fn is_same_file(_: &Path) -> bool {
    true
}

/// The name of the process's first thread, by default the first 15 bytes of what was started.
#[cfg(target_os = "linux")]
fn comm() -> Option<OsString> {
    use std::os::unix::ffi::OsStringExt;
    let mut comm = std::fs::read("/proc/self/comm").ok()?;
    // The line's end.
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
        for (link, is_current, argument, comm, expected) in include!("../tests/names/cases.rs") {
            assert_eq!(of(link, is_current, argument, comm).name, expected, "{link} {argument} {comm}");
        }
    }

    #[test]
    fn a_path_is_that_of_the_programs_own_file() {
        for (link, is_current, expected) in [
            ("/opt/my shop/shop", true, Some("/opt/my shop/shop")),
            // It lies elsewhere for us, as in a chroot.
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
    fn without_a_link_the_first_argument_is_all_there_is() {
        assert_eq!(of("", false, "/opt/shop", "comm").name, "shop");
    }
}
