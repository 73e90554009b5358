//! The commands of the program `spantap`.
//!
//! `cli` parses the command line. `run`, `listen` and `attach` collect: each opens its source and decides when to end;
//! `collect` does the rest, and `together` runs OTLP requests beside the source. `record` is one of the three with a capture or the
//! flight recorder as its target, and `top` one with a full screen. `signals` reports when the user wants spantap to end. `view`,
//! `graph` and `top` show what was recorded, `diff` compares it, and
//! `export` writes it for other programs; `replay` and `growing` show it at the pace at which it was or is recorded. `shown` is how a trace is
//! written, `drawn` how a graph is, and `failed` is their exit code for errors.
//! `probes` lists the probes of a program. `completions` prints a script for a shell, and `man` the manual pages.

mod attach;
mod cli;
mod collect;
mod completions;
mod diff;
mod drawn;
mod export;
mod failed;
mod findings;
mod graph;
mod growing;
mod listen;
mod man;
mod probes;
mod record;
mod replay;
mod run;
mod shown;
mod signals;
mod together;
mod top;
mod view;

use std::process::ExitCode;

use anyhow::Result;

pub use cli::Cli;

use crate::source::Folder;
use crate::terminal::Stream;
use cli::Command;
use collect::Output;
use signals::Blocked;

impl Cli {
    /// Runs the command and returns its exit code.
    ///
    /// # Errors
    ///
    /// When the command fails. [`exit_code`] gives the exit code for the error.
    pub fn execute(self) -> Result<ExitCode> {
        match self.command {
            // Signals are blocked before other threads start and before the folder exists that must be removed.
            Command::Run(options) => {
                let output = Output { stream: Stream::Stderr, ..Output::default() };
                block_on(run::run(options, Blocked::all()?, Folder::new()?, output))
            }
            Command::Listen(options) => {
                block_on(listen::listen(options, Blocked::ending()?, Output::default()))
            }
            Command::Attach(options) => {
                block_on(attach::attach(options, Blocked::ending()?, Output::default()))
            }
            Command::Record(options) => record::record(*options),
            Command::View(options) => view::view(options),
            Command::Graph(options) => graph::graph(options),
            Command::Diff(options) => diff::diff(&options),
            Command::Export(options) => export::write(&options),
            Command::Top(options) => top::top(*options),
            Command::Probes(options) => probes::list(&options),
            Command::Completions { shell } => completions::print(shell),
            Command::Man => man::print(),
        }
    }
}

/// The exit code of the program for an error of [`Cli::execute`].
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<failed::Failed>() {
        return failed::Failed::EXIT_CODE.into();
    }
    error.downcast_ref::<run::StartError>().map_or(ExitCode::FAILURE, run::StartError::exit_code)
}

fn block_on(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    // The sinks' tasks run on one worker thread; `block_on` runs the command on this thread.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let code = runtime.block_on(command);
    // A blocking task may hang, such as a write to a disk that is gone. It must not keep spantap from ending.
    runtime.shutdown_background();
    code
}
