//! The process at the other end of the socket.

use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::Receiver as Lines;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::programs::{Programs, command};
use crate::process::{Started, lines};

pub(crate) struct Receiver {
    process: Started,
    /// Closed, it says that no more comes.
    stdin: ChildStdin,
    output: Lines<String>,
    pub(crate) socket: PathBuf,
}

/// What it does with a datagram.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    Drain,
    Parse,
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Receiver {
    pub(crate) fn start(programs: &Programs, manner: Manner, folder: &Path, name: &str) -> Result<Self> {
        let socket = folder.join(name);
        let mut command = command(programs.path("receiver"));
        command.arg(match manner {
            Manner::Drain => "drain",
            Manner::Parse => "parse",
        });
        command.arg(&socket).stdin(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = Started::spawn("the receiver", &mut command)?;
        let stdin = process.input()?;
        let output = lines(process.output()?.0);
        output.recv_timeout(PATIENCE).context("the receiver did not get ready; see its message above")?;
        Ok(Self { process, stdin, output, socket })
    }

    /// What it got in all. To be called when its senders have ended.
    pub(crate) fn finish(self) -> Result<Value> {
        let Self { mut process, stdin, output, .. } = self;
        drop(stdin);
        let line =
            output.recv_timeout(PATIENCE).context("the receiver gave no account; see its message above")?;
        process.wait(PATIENCE)?;
        serde_json::from_str(&line).with_context(|| format!("the receiver printed no JSON but {line:?}"))
    }
}
