//! The notes of the callsites, as other tools than bpftrace see them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use e2e::{Build, Linkage, need};

use super::PROVIDER;

/// Some of the fixture's probes, with their arguments' sizes and how often each is in the program.
const SOME: [(&str, &[i8], usize); 7] = [
    ("signed", &[8, -1, -2, -4, -8, -8], 1),
    ("small", &[8, 1, 1, 2, -2, 4], 1),
    ("texts", &[8, 8, 8, 8, 8], 1),
    ("forty", &[8, -4, -4, -4, -4, -4, -4, -4, -4, -4], 1),
    ("twice", &[8, -4], 2),
    ("many__exit", &[8, 8], 1),
    ("GET__orders__id___quoted_____exit", &[8, 8], 1),
];

fn output(program: &str, args: &[&str], path: &Path) -> String {
    let output = Command::new(program).args(args).arg(path).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

/// Checks the notes as `readelf -n` prints them: names, sizes, counts, addresses inside of the program's code, and one
/// semaphore for each callsite, beside that of its exit.
fn assert_notes(path: &Path, separator: &str) {
    let text = output("readelf", &["--notes", "--wide"], path);
    let sections = output("readelf", &["--sections", "--wide"], path);
    let section = |name: &str| {
        let line = sections.lines().find(|line| line.contains(&format!(" {name} "))).unwrap();
        let words: Vec<&str> = line.split_once(name).unwrap().1.split_whitespace().collect();
        number(words[1])..number(words[1]) + number(words[3])
    };
    let (code, counters) = (section(".text"), section(".probes"));
    assert_eq!(counters.start % 4096, 0, "{path:?}: the semaphores have no page of their own");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut found: BTreeMap<&str, Vec<(u64, Vec<i8>)>> = BTreeMap::new();
    for (i, _) in
        lines.iter().enumerate().filter(|(_, line)| line.ends_with(&format!("Provider: {PROVIDER}")))
    {
        let name = lines[i + 1].strip_prefix("Name: ").unwrap();
        let (location, rest) =
            lines[i + 2].strip_prefix("Location: ").unwrap().split_once(", Base: ").unwrap();
        let semaphore = number(rest.rsplit_once("Semaphore: ").unwrap().1);
        assert!(code.contains(&number(location)), "{name} is at {location}, which is no code of {path:?}");
        assert!(counters.contains(&semaphore), "{name}: semaphore at {semaphore:x}");
        let arguments = lines[i + 3].strip_prefix("Arguments: ").unwrap();
        let sizes =
            arguments.split(separator).map(|argument| argument.split('@').next().unwrap().parse().unwrap());
        found.entry(name).or_default().push((semaphore, sizes.collect()));
    }
    for (name, sizes, count) in SOME {
        let notes = &found[name];
        assert_eq!(notes.len(), count, "{name} in {path:?}");
        assert!(notes.iter().all(|note| note.1 == sizes && note.0 == notes[0].0), "{name}: {notes:?}");
    }
    assert_eq!(found["many"][0].0 + 2, found["many__exit"][0].0);
    assert_ne!(found["many"][0].0, found["forty"][0].0);
}

#[test]
fn readelf_shows_the_probes() {
    if need(&["readelf"]) {
        assert_notes(&Build::Release.path(Linkage::Executable, 0), ") ");
        assert_notes(&Build::Debug.path(Linkage::Cdylib, 0), ") ");
    }
}

#[test]
#[ignore = "deep: builds eight times"]
fn readelf_shows_the_probes_in_every_build() {
    if !need(&["readelf", "target:x86_64-unknown-linux-musl"]) {
        return;
    }
    for build in Build::EVERYWHERE.into_iter().chain([Build::Fastest, Build::StaticGlibc, Build::Musl]) {
        assert_notes(&build.path(Linkage::Executable, 0), ") ");
    }
    for build in [Build::Release, Build::Smallest] {
        assert_notes(&build.path(Linkage::Cdylib, 0), ") ");
    }
}

#[test]
#[ignore = "deep: builds for another processor"]
fn readelf_shows_the_probes_of_an_aarch64_executable() {
    if need(&["readelf", "aarch64-linux-gnu-gcc", "target:aarch64-unknown-linux-gnu"]) {
        assert_notes(&Build::Aarch64.path(Linkage::Executable, 0), "] ");
    }
}

/// bpftrace reads fewer arguments than there can be, gdb reads all.
#[test]
fn gdb_stops_at_a_callsite_and_reads_all_its_arguments() {
    if !need(&["gdb"]) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let script = [
        "set breakpoint pending on".to_owned(),
        format!("break -probe-stap {PROVIDER}:forty"),
        format!("break -probe-stap {PROVIDER}:signed"),
        "run < /dev/stdin".to_owned(),
        "printf \"forty=%d %d %d\\n\", $_probe_arg1, $_probe_arg8, $_probe_arg9".to_owned(),
        "info symbol $pc".to_owned(),
        "continue".to_owned(),
        "printf \"signed=%d %d %ld\\n\", $_probe_arg1, $_probe_arg2, $_probe_arg4".to_owned(),
        "kill".to_owned(),
    ];
    let mut gdb = Command::new("gdb");
    gdb.args(["--batch", "--nx"]);
    for line in &script {
        gdb.args(["-ex", line]);
    }
    let input = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(input.path(), "forty\nkinds\n").unwrap();
    let output = gdb.arg(&path).env("FIXTURE_STACK", "none").stdin(input.reopen().unwrap()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("forty=0 7 8"), "{text}");
    assert!(
        text.contains("fixture::callsites::forty") || text.contains("fixture::obey"),
        "the probe is in the user's code: {text}"
    );
    assert!(text.contains("signed=-100 -30000 -9223372036854775808"), "{text}");
}

/// perf names the events `sdt_PROVIDER:NAME` and keeps a list of them.
#[test]
fn perf_counts_the_hits_of_a_callsite() {
    if !need(&["perf", "root"]) {
        return;
    }
    let path = Build::Release.path(Linkage::Executable, 0);
    let home = tempfile::tempdir().unwrap();
    let perf = |args: &[&str]| {
        let mut perf = Command::new("perf");
        perf.args(["--buildid-dir"]).arg(home.path()).args(args);
        let output = perf.env("HOME", home.path()).env("FIXTURE_STACK", "none").output().unwrap();
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    };
    let path = path.to_str().unwrap();
    let event = format!("sdt_{PROVIDER}:many");
    let (cached, text) = perf(&["buildid-cache", "--add", path]);
    assert!(cached, "{text}");
    let (_, listed) = perf(&["list", "--no-desc", "sdt"]);
    assert!(listed.contains(&event), "{listed}");
    // A run that was killed may have left it.
    perf(&["probe", "--del", &event]);
    let (added, text) = perf(&["probe", "--add", &format!("%{event}")]);
    assert!(added, "{text}");
    let (ran, text) =
        perf(&["stat", "-a", "-e", &event, "--", "sh", "-c", &format!("echo many 300 | {path}")]);
    let (removed, _) = perf(&["probe", "--del", &event]);
    assert!(ran && removed, "{text}");
    let count =
        text.lines().find(|line| line.contains(&event)).and_then(|line| line.split_whitespace().next());
    assert_eq!(count, Some("300"), "{text}");
}
