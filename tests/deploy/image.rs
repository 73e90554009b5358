//! The Dockerfile, as far as it can be checked without Docker.

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;

use e2e::{need, program};

use crate::deployed;

/// The instructions, with their continued lines.
fn instructions() -> Vec<(String, String)> {
    let text = read_to_string(deployed("Dockerfile")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let lines = joined.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| line.split_once(' ').map(|(name, rest)| (name.to_owned(), rest.to_owned())).unwrap())
        .collect()
}

/// With the packages that `cargo xtask` installs for it, and the features that exist.
#[test]
fn the_image_builds_spantap_with_all_that_attach_needs() {
    let instructions = instructions();
    let names: BTreeSet<&str> = instructions.iter().map(|(name, _)| &**name).collect();
    let known = BTreeSet::from(["COPY", "ENTRYPOINT", "FROM", "RUN", "USER", "WORKDIR"]);
    assert_eq!(names, known);
    let setup =
        read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/xtask/src/setup.rs")).unwrap();
    let (_, rest) = setup.split_once("const EBPF").unwrap();
    let (packages, _) = rest.split_once("];").unwrap();
    let needed = packages.split("packages: &[\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let run: Vec<&str> =
        instructions.iter().filter(|(name, _)| name == "RUN").map(|(_, run)| &**run).collect();
    for package in needed {
        assert!(run[0].split_whitespace().any(|word| word == package), "{package}: {}", run[0]);
    }
    assert!(
        run[1].starts_with("cargo build --release --locked --package spantap --features ebpf "),
        "{}",
        run[1]
    );
    // Both stages have the same C library.
    let from: Vec<&str> =
        instructions.iter().filter(|(name, _)| name == "FROM").map(|(_, from)| &**from).collect();
    assert_eq!(from, ["rust:1-bookworm AS build", "debian:bookworm-slim"]);
    let copied: Vec<&str> =
        instructions.iter().filter(|(name, _)| name == "COPY").map(|(_, copy)| &**copy).collect();
    assert_eq!(copied, [". .", "--from=build /source/target/release/spantap /usr/local/bin/spantap"]);
}

/// The libraries that spantap is linked with, of the packages of Debian 12.
#[test]
fn the_image_has_all_libraries_of_spantap() {
    if !need(&["btf", "readelf"]) {
        return;
    }
    let output = Command::new("readelf").arg("--dynamic").arg(program("spantap")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let libraries: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .map(|line| line.split(['[', ']']).nth(1).unwrap())
        .collect();
    assert!(libraries.contains(&"libelf.so.1"), "without eBPF: {text}");
    let instructions = instructions();
    let install: Vec<&str> =
        instructions.iter().filter(|(name, _)| name == "RUN").map(|(_, run)| &**run).collect();
    let installed: BTreeSet<&str> = install.last().unwrap().split_whitespace().collect();
    for library in libraries {
        let package = match library {
            "libelf.so.1" => "libelf1",
            "libz.so.1" => "zlib1g",
            // Every Debian has them.
            "libc.so.6" | "libgcc_s.so.1" | "libm.so.6" => continue,
            other if other.starts_with("ld-linux") => continue,
            other => panic!("no package is known to have {other}"),
        };
        assert!(installed.contains(package), "{package}, for {library}: {installed:?}");
    }
}
