//! Tests that need a tool or a right say so where it is missing; under CI they fail.

use std::io::Write;
use std::path::Path;

use crate::cgroup::Cgroup;
use crate::rotel::rotel;

/// Whether everything in `needs` is here: `root`, a program on the `PATH`, `btf`, `rotel`, or a
/// `target:TRIPLE` of rustup, `linux:VERSION` or later, a `cgroup` whose CPU time may be limited. If not, the test should return: it is reported as skipped on stderr,
/// past the capture of the test runner, and in the file that `TRACING_USDT_SKIPS` names.
///
/// Under CI (`CI=true`) nothing may be skipped.
pub fn need(needs: &[&str]) -> bool {
    let missing: Vec<&str> = needs.iter().copied().filter(|need| !is_here(need)).collect();
    if missing.is_empty() {
        return true;
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED {test}: it needs {}", missing.join(", "));
    let ci = std::env::var("CI").is_ok_and(|ci| !matches!(&*ci, "" | "0" | "false"));
    assert!(!ci, "under CI nothing is skipped. {line}");
    let _ = writeln!(std::io::stderr(), "\n{line}");
    if let Some(path) = std::env::var_os("TRACING_USDT_SKIPS") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
    }
    false
}

fn is_here(need: &str) -> bool {
    match need.split_once(':') {
        Some(("target", triple)) => has_target(triple),
        Some(("linux", version)) => is_linux(version),
        _ if need == "cgroup" => Cgroup::root().is_some(),
        _ if need == "root" => nix::unistd::geteuid().is_root(),
        _ if need == "rotel" => rotel().exists(),
        _ if need == "btf" => Path::new("/sys/kernel/btf/vmlinux").exists(),
        _ => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(need).is_file())
        }
    }
}

fn has_target(triple: &str) -> bool {
    let rustc =
        std::process::Command::new("rustc").args(["--print", "target-libdir", "--target", triple]).output();
    rustc.is_ok_and(|out| Path::new(String::from_utf8_lossy(&out.stdout).trim()).is_dir())
}

fn is_linux(version: &str) -> bool {
    let numbers =
        |text: &str| -> Vec<u32> { text.split(['.', '-']).map_while(|part| part.parse().ok()).collect() };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    numbers(release.trim()) >= numbers(version)
}
