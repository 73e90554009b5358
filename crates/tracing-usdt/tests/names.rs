//! Names of programs whose file was moved or removed, or never existed.
//!
//! Each test runs a copy of this executable, in which `sends_its_name` is the program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod collector;

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use collector::Collector;
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::Value;
use tracing::{info_span, subscriber::with_default};
use tracing_subscriber::prelude::*;

#[test]
#[ignore = "a program"]
fn sends_its_name() {
    if let Some(file) = std::env::var_os("REMOVES") {
        fs::remove_file(file).unwrap();
    }
    with_default(tracing_subscriber::registry().with(tracing_usdt::layer()), || drop(info_span!("span")));
}

/// Starts the program by `command`, and returns the service, the executable's name and its path that it sends.
fn sent_name(command: &mut Command) -> [Option<String>; 3] {
    let collector = Collector::bind();
    command.args(["--exact", "sends_its_name", "--ignored", "--test-threads=1"]);
    command.env("TRACING_USDT_SOCKET", collector.path()).env("TRACING_USDT_FORMAT", "otlp");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let request: Value = serde_json::from_str(&collector.drain_text()[0]).unwrap();
    let attributes = request["resourceSpans"][0]["resource"]["attributes"].as_array().unwrap();
    ["service.name", "process.executable.name", "process.executable.path"].map(|key| {
        let found = attributes.iter().find(|attribute| attribute["key"] == key)?;
        Some(found["value"]["stringValue"].as_str().unwrap().to_owned())
    })
}

fn copy_to(folder: &Path, name: &str) -> std::path::PathBuf {
    let copy = folder.join(name);
    // Another process writes the copy. If this one did, a child of another test could inherit the descriptor,
    // and the file would be busy.
    let this = std::env::current_exe().unwrap();
    assert!(Command::new("cp").arg(this).arg(&copy).status().unwrap().success());
    copy
}

fn names(name: &str, path: Option<&Path>) -> [Option<String>; 3] {
    let path = path.map(|path| path.to_str().unwrap().to_owned());
    [Some(name.to_owned()), Some(name.to_owned()), path]
}

#[test]
fn a_program_whose_file_was_removed_or_replaced_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let shop = copy_to(folder.path(), "shop");
    assert_eq!(sent_name(Command::new(&shop).env("REMOVES", &shop)), names("shop", Some(&shop)));
    // A file's real name may end like this.
    let odd = copy_to(folder.path(), "shop (deleted)");
    assert_eq!(sent_name(&mut Command::new(&odd)), names("shop (deleted)", Some(&odd)));
    assert_eq!(sent_name(Command::new(&odd).env("REMOVES", &odd)), names("shop (deleted)", Some(&odd)));
}

#[test]
fn a_program_started_by_the_dynamic_loader_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let shop = copy_to(folder.path(), "shop");
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| Some(&line[line.find('/')?..]));
    let loader = paths.into_iter().find(|path| path.rsplit('/').next().unwrap().starts_with("ld-")).unwrap();
    for options in [&[][..], &["--library-path", "/nowhere"], &["--inhibit-cache", "--preload", ""]] {
        assert_eq!(
            sent_name(Command::new(loader).args(options).arg(&shop)),
            names("shop", None),
            "{options:?}"
        );
    }
}

#[test]
fn a_program_in_memory_has_the_name_it_was_started_by() {
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut file = fs::File::from(memfd_create("image", MFdFlags::empty()).unwrap());
    file.write_all(&program).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    assert_eq!(sent_name(Command::new(&path).arg0("/opt/shop")), names("shop", None));
    assert_eq!(
        sent_name(Command::new(&path).arg0("")),
        names("image", None),
        "comm is only the descriptor's number"
    );
    assert_eq!(sent_name(&mut Command::new(&path)), names("image", None));
}
