//! The files in `deploy`: they are what systemd and Kubernetes take, and spantap works as confined as they say.
//!
//! `unit` reads the units of systemd, and `confined` runs a command with the user, the capabilities and the file system that a unit or a
//! pod gives it. `units` and `pods` are the tests.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod confined;
mod image;
mod pods;
mod unit;
mod units;

use std::path::{Path, PathBuf};

use e2e::{Build, Fixture, Linkage, Rotel, wait_until};

/// A file in `deploy`.
fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// The number in `docs/deployment.md` after this text.
fn documented(text: &str) -> f64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/deployment.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, rest) = document.split_once(text).unwrap_or_else(|| panic!("no {text:?}"));
    rest.split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()
        .unwrap()
        .trim_end_matches('.')
        .parse()
        .unwrap()
}

/// A traced program that any user can read and execute.
fn program() -> PathBuf {
    Build::Release.path(Linkage::Executable, 0)
}

/// Sends spans to a socket until some have come through spantap to the backend.
fn spans_arrive(fixture: &mut Fixture, backend: &Rotel, name: &str) {
    fixture.run("tree");
    wait_until("spans arrive at the backend", || backend.log().contains(name));
}
