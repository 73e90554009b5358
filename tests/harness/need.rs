//! A test that lacks a tool or a right is skipped and reported; under CI it fails.

use std::io::Write;
use std::path::Path;

use crate::cgroup::Cgroup;
use crate::chdb::chdb;
use crate::duckdb::duckdb;
use crate::kubernetes::kubernetes_validate;
use crate::otlp::opentelemetry;
use crate::rotel::rotel;

/// Whether this machine has everything in `needs`: a program on the `PATH`, `root`, `btf`, `rotel`, `duckdb`, `chdb`,
/// `kubernetes-validate`, `opentelemetry`, a
/// `target:TRIPLE` of rustup, `linux:VERSION` or later, or a `cgroup` whose CPU time can be limited. (`Swap` and
/// tests with a sampler `skip` for want of `swap` and `samples`.)
///
/// If not, the test has to return. It is reported as skipped on stderr, past the capture of the test runner,
/// and in the file that `TRACING_USDT_SKIPS` names. Under CI (`CI=true`) the test fails instead, unless
/// `TRACING_USDT_LACKS` lists all that is missing, separated by commas: then the skip is only noted.
pub fn need(needs: &[&str]) -> bool {
    let missing: Vec<&str> = needs.iter().copied().filter(|need| !is_here(need)).collect();
    if missing.is_empty() {
        return true;
    }
    skip(&missing);
    false
}

/// Reports the running test as `need` does if it lacks `missing`. The test has to return.
pub fn skip(missing: &[&str]) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED {test}: it needs {}", missing.join(", "));
    let lacks = std::env::var("TRACING_USDT_LACKS").unwrap_or_default();
    if missing.iter().all(|missing| lacks.split(',').any(|lack| lack == *missing)) {
        note(&line);
        return;
    }
    let ci = std::env::var("CI").is_ok_and(|ci| !matches!(&*ci, "" | "0" | "false"));
    assert!(!ci, "under CI nothing is skipped. {line}");
    report("TRACING_USDT_SKIPS", &line);
}

/// Shows `line` in the result of the checks, where it fails nothing.
pub fn note(line: &str) {
    report("TRACING_USDT_NOTES", line);
}

/// Writes `line` to stderr, past the capture of the test runner, and to the file that `variable` names.
fn report(variable: &str, line: &str) {
    let _ = writeln!(std::io::stderr(), "\n{line}");
    if let Some(path) = std::env::var_os(variable) {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
    }
}

fn is_here(need: &str) -> bool {
    match need.split_once(':') {
        Some(("target", triple)) => has_target(triple),
        Some(("linux", version)) => is_linux(version),
        _ if need == "cgroup" => Cgroup::root().is_some(),
        _ if need == "root" => nix::unistd::geteuid().is_root(),
        _ if need == "rotel" => rotel().exists(),
        _ if need == "duckdb" => duckdb().join("duckdb/__init__.py").exists(),
        _ if need == "chdb" => chdb().join("chdb/__init__.py").exists(),
        _ if need == "kubernetes-validate" => kubernetes_validate().join("kubernetes_validate").exists(),
        _ if need == "opentelemetry" => opentelemetry().join("opentelemetry/sdk").exists(),
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
