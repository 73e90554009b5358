//! The Dockerfile, as far as it can be checked without Docker.

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::Path;

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
