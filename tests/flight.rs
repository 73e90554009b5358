//! `spantap record --keep-last`: what the flight recorder writes when something happens, and that it writes nothing else.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use e2e::{Build, EBPF, Fixture, Linkage, MadeUp, Spantap, need, program, send, wait_until};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

/// The traces of a file, by `spantap view`.
fn view(capture: &Path) -> Vec<Value> {
    let output = Command::new(program("spantap")).arg("view").arg(capture).arg("--json").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The number of spans of a file.
fn spans(capture: &Path) -> usize {
    view(capture).iter().map(|trace| trace["spans"].as_array().unwrap().len()).sum()
}

/// The files in a folder, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|of| of.unwrap().path()).collect();
    files.sort();
    files
}

fn fixture() -> String {
    Build::Release.path(Linkage::Executable, 0).to_str().unwrap().to_owned()
}

/// Runs a shell script, in which `$0` is the fixture, with the flight recorder.
fn run(capture: &Path, args: &[&str], script: &str) -> Spantap {
    let args = [&["--keep-last", "5m"], args].concat();
    Spantap::record_program_with(capture, &args, &["sh", "-c", script, &fixture()])
}

#[test]
fn the_death_of_the_program_writes_the_last_spans() {
    for (end, code, why) in [
        ("kill -SEGV $$", 139, "SIGSEGV ended the program"),
        ("kill -KILL $$", 137, "SIGKILL ended the program"),
        ("exit 3", 3, "the program ended with exit code 3"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let capture = folder.path().join("crash.spans");
        let ended = run(&capture, &[], &format!("echo threads 2 30 | $0; {end}")).wait();
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        assert!(ended.stderr.contains(why) && ended.stderr.contains("crash.spans: "), "{ended:?}");
        assert_eq!(files(folder.path()), std::slice::from_ref(&capture));
        assert_eq!(capture.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let said = format!("crash.spans: {} spans of the last ", spans(&capture));
        assert!(ended.stderr.contains(&said) && spans(&capture) >= 60, "{said}: {ended:?}");
    }
}

#[test]
fn an_end_without_a_trigger_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("crash.spans");
    let ended = run(&capture, &["--on", "duration > 1h"], "echo threads 2 30 | $0").wait();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains("nothing has triggered it, so nothing was written"), "{ended:?}");
    // The user ends the program: it has not died.
    let spantap = run(&capture, &[], "echo threads 2 30 | $0; echo ready >&2; exec sleep 60");
    wait_until("the program sleeps", || spantap.stderr().contains("ready\n"));
    let ended = spantap.terminate();
    assert_eq!(ended.status.code(), Some(128 + 15), "{ended:?}");
    assert!(ended.stderr.contains("nothing has triggered it"), "{ended:?}");
    // And spantap itself.
    let spantap = Spantap::record(&capture, &["--keep-last", "5m"]);
    send(spantap.socket(), &MadeUp::many(20));
    let ended = spantap.terminate();
    assert!(ended.status.success() && ended.stderr.contains("it kept 20 spans"), "{ended:?}");
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_span_that_a_query_chooses_writes_its_whole_trace() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("slow.spans");
    let args =
        ["--keep-last", "5m", "--on", "name == 'nothing'", "--on", "name == 'child' and duration > 1ms"];
    let spantap = Spantap::record(&capture, &args);
    let path = Build::Release.path(Linkage::Executable, 0);
    let mut fixture = Fixture::start(&path, Linkage::Executable, Some(spantap.socket()));
    fixture.run("threads 1 10");
    // The child is chosen, and its parent ends later.
    fixture.run("tree");
    wait_until("the file is there", || capture.exists());
    let traces = view(&capture);
    let trace = traces.iter().find(|trace| trace["spans"][1]["name"] == "child").unwrap();
    assert_eq!(
        (&trace["spans"][0]["name"], &trace["missing_parents"]),
        (&"parent".into(), &0.into()),
        "{trace}"
    );
    fixture.end();
    let ended = spantap.terminate();
    assert!(ended.status.success(), "{ended:?}");
    let why = format!(
        "in trace {} (--on 'name == \"child\" and duration > 1ms')",
        trace["trace_id"].as_str().unwrap()
    );
    assert!(
        ended.stderr.contains("because child of fixture took 2.") && ended.stderr.contains(&why),
        "{ended:?}"
    );
    assert_eq!(files(folder.path()), [capture]);
}

#[test]
fn a_signal_writes_a_file_each_time_and_two_at_once_write_one() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("now.spans");
    let spantap = Spantap::record(&capture, &["--keep-last", "5m", "--on", "error", "--keep-files", "1"]);
    // Every fifth of these has an error, so that query and signal come together.
    send(spantap.socket(), &MadeUp::many(40));
    kill(spantap.pid(), Signal::SIGUSR1).unwrap();
    kill(spantap.pid(), Signal::SIGUSR1).unwrap();
    wait_until("the file is there", || capture.exists());
    let first = std::fs::read(&capture).unwrap();
    assert_eq!(spans(&capture), 40);
    // Soon after that: written at the end, beside the first one.
    send(spantap.socket(), &[MadeUp(1_001)]);
    kill(spantap.pid(), Signal::SIGUSR1).unwrap();
    let ended = spantap.terminate();
    assert!(ended.status.success() && ended.stderr.contains("wrote 2 files"), "{ended:?}");
    assert_eq!(ended.stderr.matches("spantap: wrote ").count(), 2, "{ended:?}");
    let found = files(folder.path());
    assert_eq!(
        (found.len(), spans(&found[0]), std::fs::read(&capture).unwrap()),
        (2, 41, first),
        "{found:?}"
    );
    assert!(found[0].to_str().unwrap().contains("now-20"), "{found:?}");
}

#[test]
fn the_end_of_an_attached_process_writes_its_last_spans() {
    if !need(&EBPF) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("end.spans");
    let mut fixture = Fixture::start(&Build::Release.path(Linkage::Executable, 0), Linkage::Executable, None);
    let mut command = Command::new(program("spantap"));
    command.arg("record").arg(&capture).args(["--keep-last", "5m", "--kernel", "none", "--pid"]);
    command.arg(fixture.pid().to_string());
    let spantap = Spantap::attach_by(&mut command);
    fixture.run("tree");
    fixture.run("flush");
    let pid = fixture.pid();
    drop(fixture);
    let ended = spantap.wait();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains(&format!("because process {pid} has ended")), "{ended:?}");
    let names: Vec<String> = view(&capture)
        .iter()
        .flat_map(|trace| trace["spans"].as_array().unwrap().clone())
        .map(|span| span["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(["before", "parent", "child"].iter().all(|name| names.iter().any(|of| of == name)), "{names:?}");
}

#[test]
fn the_memory_is_bounded_and_what_does_not_fit_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("flood.spans");
    let spantap =
        Spantap::record(&capture, &["--keep-last", "5m", "--keep-memory", "2MiB", "--flush-timeout", "60s"]);
    let mut command = Command::new(Build::Release.path(Linkage::Executable, 0));
    command.env("TRACING_USDT_FORMAT", "otlp-protobuf").env("TRACING_USDT_DELIVERY", "background");
    let mut fixture = Fixture::spawn(&mut command, Some(spantap.socket()));
    // 200,000 spans: compressed, some 7 MB.
    for _ in 0..5 {
        fixture.run("threads 2 10000");
        fixture.run("flush");
    }
    fixture.end();
    wait_until("the memory is full", || spantap.stderr().contains("--keep-memory has room for more"));
    kill(spantap.pid(), Signal::SIGUSR1).unwrap();
    wait_until("the file is there", || capture.exists());
    let length = capture.metadata().unwrap().len();
    assert!((1 << 20..=2 << 20).contains(&length), "{length}");
    let ended = spantap.terminate();
    assert!(
        ended.status.success() && ended.stderr.contains(" that did not fit into --keep-memory"),
        "{ended:?}"
    );
}

/// A small file system in memory, unmounted on drop.
struct SmallDisk(tempfile::TempDir);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_is_said_and_tried_again() {
    if !need(&["root"]) {
        return;
    }
    let disk = SmallDisk(tempfile::tempdir().unwrap());
    let folder = disk.0.path();
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
    let fill = |length: usize| std::fs::write(folder.join("other"), vec![7; length]);
    fill(64 << 10).unwrap();
    let capture = folder.join("full.spans");
    let spantap = Spantap::record(&capture, &["--keep-last", "5m"]);
    send(spantap.socket(), &MadeUp::many(40));
    kill(spantap.pid(), Signal::SIGUSR1).unwrap();
    wait_until("it is said", || spantap.stderr().contains("can't write the last spans to "));
    assert_eq!(files(folder), [folder.join("other")], "nothing is left behind");
    std::fs::remove_file(folder.join("other")).unwrap();
    let begin = Instant::now();
    wait_until("it is written", || capture.exists());
    assert_eq!(spans(&capture), 40, "after {:?}", begin.elapsed());
    let ended = spantap.terminate();
    assert!(ended.status.success() && ended.stderr.contains("because of SIGUSR1"), "{ended:?}");

    // If there is no room until the end, this is a failure.
    fill(64 << 10).unwrap_err();
    let spantap = Spantap::record(&capture, &["--keep-last", "5m"]);
    send(spantap.socket(), &MadeUp::many(40));
    kill(spantap.pid(), Signal::SIGUSR1).unwrap();
    wait_until("it is said", || spantap.stderr().contains("can't write the last spans to "));
    assert_eq!(spantap.terminate().status.code(), Some(1));
}

#[test]
fn a_place_that_can_not_be_written_to_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("missing/a.spans")] {
        let ended = run(&path, &[], "echo started >&2").wait();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(
            ended.stderr.contains("can't record to ") && !ended.stderr.contains("started\n"),
            "{ended:?}"
        );
    }
}
