//! `spantap completions`: prints a script that completes spantap's command line in a shell.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use super::cli::Cli;

pub(super) fn print(shell: Shell) -> Result<ExitCode> {
    // `generate` panics when its output is a closed pipe, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "spantap", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
