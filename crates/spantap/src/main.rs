//! The program `spantap`. All of its parts are in the library of the same name.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use spantap::commands::{Cli, exit_code};
use spantap::text::safe;

/// A span takes about thirty small allocations, which one thread makes and another frees. With glibc's allocator,
/// showing and forwarding spans took a quarter more CPU time, in part for page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().execute().unwrap_or_else(|error| {
        // The error may contain untrusted text, such as a path or the name of a process.
        // If stderr can't be written either, there is nowhere to report that.
        let _ = writeln!(io::stderr(), "spantap: {}", safe(&format!("{error:#}")));
        exit_code(&error)
    })
}
