//! Routine work of this workspace, in Rust instead of shell: `cargo xtask <command>`.

mod demo;
mod process;
mod setup;
mod terminal;
mod test;

use std::io::{self, ErrorKind};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  demo    runs a real HTTP service under load and shows its traces, and what bpftrace sees
  test    runs every check, and says which were skipped
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["demo"] => demo::run(),
        ["test"] => test::run(),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
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

/// As in `cargo xtask demo | head`: no failure of ours.
fn reader_has_left(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
