//! Routine work of this workspace, in Rust instead of shell: `cargo xtask <command>`.

mod bench;
mod bpftrace;
mod demo;
mod imports;
mod picture;
mod process;
mod screen;
mod setup;
mod terminal;
mod test;
mod toolchains;

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use test::Rank;

const USAGE: &str = "\
usage: cargo xtask <command> [--no-install]

  test      runs the checks for each change: at most 8 minutes on two cores, once built
              --deep      also runs the checks that take long: Miri, ThreadSanitizer, loom, libFuzzer, every layout
                          of a binary, millions of spans, long outages, licences, packages; at most 30 minutes
  demo      runs a real HTTP service under load, and shows its traces and bpftrace's histograms
              --debug     without optimisation, which builds faster
  bench     measures what a span costs with tracing-usdt and with comparable crates
              --quick     runs a few short rounds, to check that it works
              --captures  measures only how fast spantap view answers from a capture of 1 GB
              --top       measures only spantap top: how soon it shows a key, at 100,000 spans a second
              --markdown  prints Markdown tables
  picture   runs the examples under spantap, and draws the pictures in docs/images: needs root, takes two minutes
  imports   reports modules that import in the wrong direction or in circles; part of `test`

test, demo, bench and picture install what is missing, and announce it first: Debian packages with apt-get (as root,
or through a sudo that asks for no password); with rustup, the toolchains, components and targets that
crates/xtask/src/toolchains.rs pins; with cargo and pip3, a few tools into target/.

  --no-install  installs nothing. Reports what is missing, with the command that installs it, and skips what needs
                it. Cargo still fetches and builds the crates of Cargo.lock
  --help        shows this help
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if arguments.iter().any(|argument| matches!(*argument, "--help" | "-h" | "help")) {
        return match write!(io::stdout(), "{USAGE}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if arguments.contains(&"--no-install") {
        arguments.retain(|argument| *argument != "--no-install");
        setup::disable_installs();
    }
    let run: Box<dyn FnOnce() -> Result<()>> = match arguments[..] {
        ["bench", ref options @ ..] => match bench::Options::parse(options) {
            Some(options) => Box::new(move || bench::run(&options)),
            None => return usage(),
        },
        ["demo"] => Box::new(|| demo::run(false).map(drop)),
        ["demo", "--debug"] => Box::new(|| demo::run(true).map(drop)),
        ["imports"] => Box::new(|| imports::check(&workspace()?)),
        ["picture"] => Box::new(picture::run),
        ["test"] => Box::new(|| test::run(Rank::Quick)),
        ["test", "--deep"] => Box::new(|| test::run(Rank::Deep)),
        _ => return usage(),
    };
    match process::clean_up_on_signals().and_then(|()| run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask {}: {error:#}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprint!("{USAGE}");
    ExitCode::from(2)
}

/// The root folder of the workspace.
pub(crate) fn workspace() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().with_context(|| format!("{} does not exist", root.display()))
}

/// As in `cargo xtask demo | head`: the reader of stdout has ended, which is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
