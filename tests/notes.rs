//! The probes as static tools see them: each once, with a semaphore, in every build.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use e2e::{Build, Linkage, need};

/// Each probe and how many arguments it has.
const PROBES: [(&str, usize); 8] = [
    ("close", 7),
    ("enter", 4),
    ("event", 5),
    ("exit", 4),
    ("follows_from", 3),
    ("new_span", 8),
    ("record", 3),
    ("span_emit", 3),
];

fn output(program: &str, args: &[&str], path: &Path) -> String {
    let output = Command::new(program).args(args).arg(path).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Reads `readelf -n`: for each note of the provider its name, semaphore and arguments.
fn assert_notes(path: &Path, register: &str) {
    let text = output("readelf", &["--notes", "--wide"], path);
    let mut notes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut semaphores = BTreeSet::new();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (i, _) in lines.iter().enumerate().filter(|(_, line)| line.ends_with("Provider: tracing")) {
        let name = lines[i + 1].strip_prefix("Name: ").unwrap();
        let semaphore = lines[i + 2].rsplit_once("Semaphore: ").unwrap().1;
        let arguments: Vec<&str> =
            lines[i + 3].strip_prefix("Arguments: ").unwrap().split_whitespace().collect();
        assert!(arguments.iter().all(|a| a.starts_with(register)), "{name}: {arguments:?}");
        assert_eq!(notes.insert(name, arguments.len()), None, "{name} is in two places of {path:?}");
        assert!(u64::from_str_radix(&semaphore[2..], 16).unwrap() > 0, "{name} has no semaphore");
        assert!(semaphores.insert(semaphore), "{name} shares its semaphore with another");
    }
    assert_eq!(notes.into_iter().collect::<Vec<_>>(), PROBES, "in {path:?}");
}

#[test]
fn readelf_shows_every_probe_once_with_a_semaphore_of_its_own() {
    if !need(&["readelf"]) {
        return;
    }
    for build in Build::EVERYWHERE {
        assert_notes(&build.path(Linkage::Executable, 0), "-8@%");
    }
    for build in [Build::Debug, Build::Release, Build::Smallest] {
        assert_notes(&build.path(Linkage::Cdylib, 0), "-8@%");
    }
}

#[test]
fn readelf_shows_the_probes_of_an_aarch64_executable() {
    if need(&["readelf", "aarch64-linux-gnu-gcc", "target:aarch64-unknown-linux-gnu"]) {
        assert_notes(&Build::Aarch64.path(Linkage::Executable, 0), "-8@x");
    }
}

#[test]
fn gdb_lists_every_probe() {
    if !need(&["gdb"]) {
        return;
    }
    for linkage in [Linkage::Executable, Linkage::Cdylib] {
        let path = Build::Release.path(linkage, 0);
        let args = ["--batch", "--nx", "-ex", "info probes stap tracing"];
        let text = output("gdb", &args, &path);
        let listed: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_whitespace().skip_while(|word| *word != "tracing").nth(1))
            .collect();
        assert_eq!(listed, PROBES.map(|(name, _)| name), "{text}");
    }
}

#[test]
fn bpftrace_lists_every_probe() {
    if !need(&e2e::BPFTRACE) {
        return;
    }
    let path = Build::Smallest.path(Linkage::Executable, 0);
    let pattern = format!("usdt:{}:*", path.display());
    let output = Command::new("bpftrace").args(["-l", &pattern]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut listed: Vec<&str> =
        text.lines().filter_map(|line| line.rsplit_once(":tracing:")).map(|p| p.1).collect();
    listed.sort_unstable();
    assert_eq!(listed, PROBES.map(|(name, _)| name), "{text}");
}

/// All of them, also those that bpftrace 0.17 has no names for.
#[test]
fn gdb_reads_the_arguments_of_new_span() {
    if !need(&["gdb"]) {
        return;
    }
    let path = Build::Debug.path(Linkage::Executable, 0);
    let script = [
        "set breakpoint pending on",
        "break -probe-stap tracing:new_span",
        "run < /dev/stdin",
        "printf \"name=%s parent=%lx high=%lx low=%lx\\n\", $_probe_arg1, $_probe_arg4, $_probe_arg6, $_probe_arg7",
        "printf \"fields=%s\\n\", $_probe_arg5",
        "kill",
    ];
    let mut gdb = Command::new("gdb");
    gdb.args(["--batch", "--nx"]);
    for line in script {
        gdb.args(["-ex", line]);
    }
    let input = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(input.path(), "tree\n").unwrap();
    let output = gdb.arg(&path).stdin(input.reopen().unwrap()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("name=parent parent=0 "), "{text}");
    assert!(text.contains(r#"fields={"number":42,"text":"quote\" and é","float":1.5}"#), "{text}");
    let word = |key: &str| {
        let (_, rest) = text.split_once(key).unwrap();
        u64::from_str_radix(rest.split([' ', '\n']).next().unwrap(), 16).unwrap()
    };
    assert!(word("high=") != 0 && word("low=") != 0, "{text}");
}
