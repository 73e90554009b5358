//! Routine work of this workspace, in Rust instead of shell: `cargo xtask <command>`.

mod bench;
mod bpftrace;
mod demo;
mod process;
mod setup;
mod terminal;
mod test;

use std::io::{self, ErrorKind};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  bench   measures what a span costs, here and with tracing-usdt's peers: --quick, --markdown
  demo    runs a real HTTP service under load and shows its traces, and what bpftrace sees: --debug, not optimised
  test    runs every check, and says which were skipped
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["bench", ref options @ ..] => match bench::Options::parse(options) {
            Some(options) => bench::run(&options),
            None => return usage(),
        },
        ["demo"] => demo::run(false),
        ["demo", "--debug"] => demo::run(true),
        ["test"] => test::run(),
        _ => return usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if reader_has_left(&error) => ExitCode::SUCCESS,
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

/// As in `cargo xtask demo | head`: no failure of ours.
fn reader_has_left(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
