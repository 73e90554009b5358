//! `spantap record`: as `listen`, `run` or `attach`, without showing traces, and with a capture as a target.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::attach::attach;
use super::block_on;
use super::cli::{Attach, AttachTo, Common, Display, Listen, Record, RecordFrom, Run};
use super::collect::Output;
use super::listen::listen;
use super::run::run;
use super::signals::Blocked;
use crate::capture::Rotation;
use crate::sink::Target;
use crate::source::Folder;
use crate::terminal::Stream;

/// Records until a signal asks for the end, or the program ends.
///
/// # Errors
///
/// When the capture can't be written, or what the command for this source fails with.
pub(super) fn record(record: Record) -> Result<ExitCode> {
    let Record { capture, from, max_size, max_age, keep, access, tap, mut forwarding, color } = record;
    let rotation = Rotation { max_bytes: max_size, max_age, keep };
    forwarding.to.insert(0, Target::Capture(capture));
    let common = Common { forwarding, display: Display::none(color) };
    // stdout stays empty, as it is no view.
    let output = Output { rotation, stream: Stream::Stderr, records: true, ..Output::default() };
    match from {
        RecordFrom { socket: Some(socket), .. } => {
            block_on(listen(Listen { socket, access, common }, Blocked::ending()?, output))
        }
        RecordFrom { command, .. } if !command.is_empty() => {
            block_on(run(Run { common, command }, Blocked::all()?, Folder::new()?, output))
        }
        RecordFrom { pid, exe, .. } if pid.is_some() || exe.is_some() => {
            let to = AttachTo { pid, exe };
            block_on(attach(Attach { to, tap, common }, Blocked::ending()?, output))
        }
        _ => bail!("nothing to record; give a SOCKET, --pid PID, --exe FILE or -- COMMAND"),
    }
}
