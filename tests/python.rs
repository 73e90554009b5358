//! Python receives datagrams with nothing but its standard library.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::{Build, Fixture, Linkage, Process, need, wait_until};

fn start_python(script: &Path, args: &[&str]) -> Process {
    let mut python = Command::new("python3");
    python.arg(script).args(args).stdout(Stdio::piped());
    Process(python.spawn().unwrap())
}

#[test]
fn python_checks_every_span_of_eight_threads() {
    if !need(&["python3"]) {
        return;
    }
    // The fixture is built before the script starts, because the script waits for at most 30 s.
    let path = Build::Release.path(Linkage::Executable, 0);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("trace.sock");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("check_spans.py");
    let mut python = start_python(&script, &[socket.to_str().unwrap(), "8000"]);
    let mut stdout = BufReader::new(python.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "bound\n");

    let mut fixture = Fixture::start(&path, Linkage::Executable, Some(&socket));
    fixture.run("threads 8 500");
    assert_eq!(fixture.run("stats"), "8000 8000 0");
    fixture.end();
    let mut printed = String::new();
    stdout.read_to_string(&mut printed).unwrap();
    assert!(python.wait().unwrap().success(), "{printed}");
    assert_eq!(printed, "checked 8000 spans of 4000 traces from 8 threads\n");
}

/// The manual contains the whole code of `examples/collector.py`.
#[test]
fn the_collector_of_the_manual_prints_the_spans() {
    if !need(&["python3"]) {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let script = root.join("examples/collector.py");
    let code = std::fs::read_to_string(&script).unwrap();
    let (_doc, code) = code.split_once("\"\"\"\n").unwrap();
    let manual = std::fs::read_to_string(root.join("docs/manual.md")).unwrap();
    assert!(manual.contains(code), "docs/manual.md shows another collector than examples/collector.py");

    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("trace.sock");
    let mut python = start_python(&script, &[socket.to_str().unwrap()]);
    wait_until("the collector binds its socket", || socket.exists());
    let path = Build::Release.path(Linkage::Executable, 0);
    let mut fixture = Fixture::start(&path, Linkage::Executable, Some(&socket));
    fixture.run("tree");
    fixture.end();
    let lines = BufReader::new(python.stdout.take().unwrap()).lines();
    let names: Vec<String> =
        lines.take(3).map(|line| line.unwrap().split_whitespace().last().unwrap().to_owned()).collect();
    assert_eq!(names, ["child", "before", "parent"]);
}
