//! Runs the program `receiver`, which reads the socket.

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
    /// Closing it announces that no more datagrams come.
    stdin: ChildStdin,
    output: Lines<String>,
    pub(crate) socket: PathBuf,
}

/// What the receiver does with a datagram.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Drain,
    Parse,
}

const TIMEOUT: Duration = Duration::from_secs(30);

impl Receiver {
    pub(crate) fn start(programs: &Programs, mode: Mode, folder: &Path, name: &str) -> Result<Self> {
        let socket = folder.join(name);
        let mut command = command(programs.path("receiver"));
        command.arg(match mode {
            Mode::Drain => "drain",
            Mode::Parse => "parse",
        });
        command.arg(&socket).stdin(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = Started::spawn("the receiver", &mut command)?;
        let stdin = process.input()?;
        let output = lines(process.output()?.0);
        output.recv_timeout(TIMEOUT).context("the receiver did not get ready; see its message above")?;
        Ok(Self { process, stdin, output, socket })
    }

    /// Its counts. Call this after all senders have ended.
    pub(crate) fn finish(self) -> Result<Value> {
        let Self { mut process, stdin, output, .. } = self;
        drop(stdin);
        let line =
            output.recv_timeout(TIMEOUT).context("the receiver printed no counts; see its message above")?;
        process.wait(TIMEOUT)?;
        serde_json::from_str(&line).with_context(|| format!("the receiver printed no JSON but {line:?}"))
    }
}
