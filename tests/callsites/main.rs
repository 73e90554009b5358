//! The probes of callsites, made by the macros of `tracing_usdt::tracing`.
//!
//! * `syntax` and `instrument`: the macros and the attribute take what `tracing`'s take, and subscribers see the same.
//!   `recorder` writes down what they see.
//! * `hits`: what bpftrace sees of each kind of field, and that all hits arrive.
//! * `spans`: spans that no subscriber wants, beside those that one wants.
//! * `spantap`: what `spantap probes` shows.
//! * `tools`: the notes, as gdb, perf and readelf see them, in every build.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod hits;
mod instrument;
mod recorder;
mod spans;
mod spantap;
mod syntax;
mod tools;

use std::path::Path;

use e2e::{Bpftrace, Fixture, Linkage};

/// The provider of the fixture's callsites.
const PROVIDER: &str = "fixture__callsites";

/// A line of a script that prints `format` for each hit of a callsite's probe.
fn print(path: &Path, probe: &str, format: &str, values: &str) -> String {
    let path = path.display();
    format!("usdt:{path}:{PROVIDER}:{probe} {{ printf(\"{probe} {format}\\n\", {values}); }}\n")
}

/// The name of the probe of an event without a name: its level and the line in the fixture with `text`.
fn event(level: &str, text: &str) -> String {
    let source = include_str!("../fixture/src/callsites.rs");
    let mut lines = source.lines().enumerate().filter(|(_, line)| line.contains(text));
    let (line, _) = lines.next().unwrap();
    assert!(lines.next().is_none(), "{text:?} is in several lines");
    format!("{level}_{}", line + 1)
}

/// Starts the fixture with filters and layers of this name.
fn start(path: &Path, stack: &str) -> Fixture {
    Fixture::spawn(std::process::Command::new(path).env("FIXTURE_STACK", stack), None)
}

/// What the probes print while the fixture runs `commands`. bpftrace is attached before the fixture starts.
fn hits(path: &Path, linkage: Linkage, stack: &str, script: &str, commands: &[&str]) -> Vec<String> {
    let bpftrace = Bpftrace::attach(script, None);
    let mut fixture = match linkage {
        Linkage::Executable => start(path, stack),
        Linkage::Cdylib => Fixture::start(path, linkage, None),
    };
    for command in commands {
        fixture.run(command);
    }
    fixture.end();
    bpftrace.end()
}
