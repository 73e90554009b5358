//! The program `spantap`; its parts are in the library of the same name.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};
use clap_mangen::Man;
use spantap::cli::{Cli, Command};
use spantap::signals::Blocked;
use spantap::source::Folder;
use spantap::view::safe;
use spantap::{attach, listen, run};

/// A span is some thirty small pieces of memory that one thread makes and another gives back: with the C
/// library's allocator, traces and OTLP took a quarter more processor time, page faults among it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match work(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // It may name what strangers chose: a process, a path.
            // Where that can't be written either, there is nobody to tell.
            let _ = writeln!(io::stderr(), "spantap: {}", safe(&format!("{error:#}")));
            error.downcast_ref::<run::NotRun>().map_or(ExitCode::FAILURE, run::NotRun::exit_code)
        }
    }
}

fn work(command: Command) -> Result<ExitCode> {
    match command {
        // Before there are other threads, and something to be cleared up.
        Command::Run(options) => collect(run::run(options, Blocked::all()?, Folder::new()?)),
        Command::Listen(options) => collect(listen::listen(options, Blocked::ending()?)),
        Command::Attach(options) => collect(attach::attach(options, Blocked::ending()?)),
        Command::Completions { shell } => {
            // It can't be told that the reader has left.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "spantap", &mut script);
            io::stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => {
            let mut pages = Vec::new();
            let mut command = Cli::command();
            command.build();
            Man::new(command.clone()).render(&mut pages)?;
            // The first names these as its companions.
            for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
                let name = format!("spantap-{}", command.get_name());
                Man::new(command.clone()).title(name).render(&mut pages)?;
            }
            io::stdout().write_all(&pages)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn collect(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    // One thread for the sinks beside the one that waits for signals.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let code = runtime.block_on(work);
    // Nothing that still hangs, such as a write to a disk that is gone, may keep us.
    runtime.shutdown_background();
    code
}
