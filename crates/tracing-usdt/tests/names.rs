//! What a program is called whose file is not in its place any more, or never was in any.
//!
//! Each test runs a copy of this executable, in which `says_who_it_is` is the program.
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
fn says_who_it_is() {
    if let Some(file) = std::env::var_os("REMOVES") {
        fs::remove_file(file).unwrap();
    }
    with_default(tracing_subscriber::registry().with(tracing_usdt::layer()), || drop(info_span!("span")));
}

/// The service, the executable's name and its path, as the program says them that `command` starts.
fn who(command: &mut Command) -> [Option<String>; 3] {
    let collector = Collector::bind();
    command.args(["--exact", "says_who_it_is", "--ignored", "--test-threads=1"]);
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
    // By another process: with our descriptor in a child of some other test it would be busy.
    let this = std::env::current_exe().unwrap();
    assert!(Command::new("cp").arg(this).arg(&copy).status().unwrap().success());
    copy
}

fn called(name: &str, path: Option<&Path>) -> [Option<String>; 3] {
    let path = path.map(|path| path.to_str().unwrap().to_owned());
    [Some(name.to_owned()), Some(name.to_owned()), path]
}

#[test]
fn a_program_whose_file_was_removed_or_replaced_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let shop = copy_to(folder.path(), "shop");
    assert_eq!(who(Command::new(&shop).env("REMOVES", &shop)), called("shop", Some(&shop)));
    // A file may really be called so.
    let odd = copy_to(folder.path(), "shop (deleted)");
    assert_eq!(who(&mut Command::new(&odd)), called("shop (deleted)", Some(&odd)));
    assert_eq!(who(Command::new(&odd).env("REMOVES", &odd)), called("shop (deleted)", Some(&odd)));
}

#[test]
fn a_program_that_the_loader_was_told_to_start_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let shop = copy_to(folder.path(), "shop");
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| Some(&line[line.find('/')?..]));
    let loader = paths.into_iter().find(|path| path.rsplit('/').next().unwrap().starts_with("ld-")).unwrap();
    for options in [&[][..], &["--library-path", "/nowhere"], &["--inhibit-cache", "--preload", ""]] {
        assert_eq!(who(Command::new(loader).args(options).arg(&shop)), called("shop", None), "{options:?}");
    }
}

#[test]
fn a_program_in_memory_is_called_what_it_was_started_as() {
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut file = fs::File::from(memfd_create("image", MFdFlags::empty()).unwrap());
    file.write_all(&program).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    assert_eq!(who(Command::new(&path).arg0("/opt/shop")), called("shop", None));
    assert_eq!(who(Command::new(&path).arg0("")), called("image", None), "comm is the descriptor's number");
    assert_eq!(who(&mut Command::new(&path)), called("image", None));
}
