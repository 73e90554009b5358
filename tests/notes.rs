//! The probes' ELF notes as static tools read them: each probe once, with a semaphore, in every build.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use e2e::{Build, Document, Linkage, need, quoted};

/// Each probe in `docs/wire.md` with its number of arguments, sorted by name.
fn probes() -> BTreeMap<String, usize> {
    let table = Document::wire().table("## Probes");
    let arguments = |row: &[String]| row.iter().filter(|cell| !cell.is_empty()).count() - 1;
    table.iter().map(|row| (quoted(&row[0]).next().unwrap().to_owned(), arguments(row))).collect()
}

fn output(program: &str, args: &[&str], path: &Path) -> String {
    let output = Command::new(program).args(args).arg(path).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Checks names, semaphores and arguments of the notes as `readelf -n` prints them.
fn assert_notes(path: &Path, register: &str) {
    let text = output("readelf", &["--notes", "--wide"], path);
    let mut notes: BTreeMap<String, usize> = BTreeMap::new();
    let mut semaphores = BTreeSet::new();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (i, _) in lines.iter().enumerate().filter(|(_, line)| line.ends_with("Provider: tracing")) {
        let name = lines[i + 1].strip_prefix("Name: ").unwrap();
        let semaphore = lines[i + 2].rsplit_once("Semaphore: ").unwrap().1;
        let arguments: Vec<&str> =
            lines[i + 3].strip_prefix("Arguments: ").unwrap().split_whitespace().collect();
        assert!(arguments.iter().all(|a| a.starts_with(register)), "{name}: {arguments:?}");
        assert_eq!(
            notes.insert(name.to_owned(), arguments.len()),
            None,
            "{name} is in two places of {path:?}"
        );
        let semaphore = u64::from_str_radix(&semaphore[2..], 16).unwrap();
        assert!(semaphore > 0, "{name} has no semaphore");
        assert!(semaphores.insert(semaphore), "{name} shares its semaphore with another");
    }
    assert_eq!(notes, probes(), "in {path:?}");
    let first = *semaphores.first().unwrap();
    let side_by_side: BTreeSet<u64> = (0..probes().len() as u64).map(|n| first + 2 * n).collect();
    assert!(semaphores == side_by_side && first % 32 == 0, "semaphores in {path:?}: {semaphores:x?}");
    // The counters of callsites are in the same section.
    let sections = output("readelf", &["--sections", "--wide"], path);
    let section = sections.lines().find(|line| line.contains(" .probes ")).unwrap();
    let address = section.split_once(" .probes ").unwrap().1.split_whitespace().nth(1).unwrap();
    assert!(
        u64::from_str_radix(address, 16).unwrap() % 4096 == 0,
        "no page of their own in {path:?}: {section}"
    );
}

#[test]
fn readelf_shows_every_probe_once_with_a_semaphore_of_its_own() {
    if need(&["readelf"]) {
        assert_notes(&Build::Debug.path(Linkage::Executable, 0), "-8@%");
        assert_notes(&Build::Release.path(Linkage::Executable, 0), "-8@%");
        assert_notes(&Build::Release.path(Linkage::Cdylib, 0), "-8@%");
    }
}

#[test]
#[ignore = "deep: builds eight times"]
fn readelf_shows_every_probe_once_in_every_build() {
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
#[ignore = "deep: builds for another processor"]
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
        assert!(listed.iter().eq(probes().keys()), "{text}");
    }
}

#[test]
fn bpftrace_lists_every_probe() {
    if !need(&e2e::BPFTRACE) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let pattern = format!("usdt:{}:*", path.display());
    let output = Command::new("bpftrace").args(["-l", &pattern]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut listed: Vec<&str> =
        text.lines().filter_map(|line| line.rsplit_once(":tracing:")).map(|p| p.1).collect();
    listed.sort_unstable();
    assert!(listed.iter().eq(probes().keys()), "{text}");
}

/// Also arguments 6 and 7, which bpftrace before 0.24 refuses.
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
