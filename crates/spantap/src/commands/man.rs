//! `spantap man`: prints the manual pages, one for the program and one for each command.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;
use clap_mangen::Man;

use super::cli::Cli;

pub(super) fn print() -> Result<ExitCode> {
    let mut pages = Vec::new();
    let mut command = Cli::command();
    command.build();
    Man::new(command.clone()).render(&mut pages)?;
    // The page of the program refers to these.
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = format!("spantap-{}", command.get_name());
        Man::new(command.clone()).title(name).render(&mut pages)?;
    }
    io::stdout().write_all(&pages)?;
    Ok(ExitCode::SUCCESS)
}
