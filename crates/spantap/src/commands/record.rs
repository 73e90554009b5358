//! `spantap record`: as `listen`, `run` or `attach`, without showing traces, and with a capture as a target, or with the
//! flight recorder.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use super::attach::attach;
use super::block_on;
use super::cli::{Attach, AttachTo, Common, Display, Flight, Listen, Record, RecordFrom, Run};
use super::collect::Output;
use super::listen::listen;
use super::run::run;
use super::signals::Blocked;
use crate::capture::{KEEP, Rotation};
use crate::flight::{FlightRecorder, Settings};
use crate::sink::Target;
use crate::source::Folder;
use crate::terminal::Stream;

/// The default for the number of files of the flight recorder with a time in their name. They take no more than a capture does
/// by default, and show whether something happens again.
const KEEP_FLIGHTS: u32 = 9;

/// Records until a signal asks for the end, or the program ends.
///
/// # Errors
///
/// When the capture can't be written, or what the command for this source fails with.
pub(super) fn record(record: Record) -> Result<ExitCode> {
    let Record {
        capture,
        from,
        max_size,
        max_age,
        keep_files,
        flight,
        access,
        tap,
        mut forwarding,
        otlp,
        color,
    } = record;
    let Flight { keep_last, on: queries, keep_memory } = flight;
    let rotation = Rotation { max_bytes: max_size, max_age, keep: keep_files.unwrap_or(KEEP) };
    let mut recorder = None;
    match keep_last {
        None => forwarding.to.insert(0, Target::Capture(capture)),
        Some(time) => {
            forwarding.to.insert(0, Target::FlightRecorder);
            let keep = keep_files.unwrap_or(KEEP_FLIGHTS) as usize;
            ensure!(keep > 0, "--keep-files 0 would remove each file at once; write --keep-files 1 or more");
            let max_bytes = usize::try_from(keep_memory).unwrap_or(usize::MAX);
            let settings = Settings { path: capture, time, max_bytes, keep, queries };
            recorder = Some(Arc::new(FlightRecorder::new(settings)?));
        }
    }
    let common = Common { forwarding, display: Display::none(color), otlp };
    // SIGUSR1 would end spantap, and is only for the flight recorder.
    let blocked = || if recorder.is_some() { Blocked::ending_and_usr1() } else { Blocked::ending() };
    // stdout stays empty, as it is no view.
    let output =
        |flight| Output { rotation, flight, stream: Stream::Stderr, records: true, ..Output::default() };
    match from {
        RecordFrom { command, .. } if !command.is_empty() => {
            block_on(run(Run { common, command }, Blocked::all()?, Folder::new()?, output(recorder)))
        }
        RecordFrom { pid, exe, .. } if pid.is_some() || exe.is_some() => {
            let (to, blocked) = (AttachTo { pid, exe }, blocked()?);
            block_on(attach(Attach { to, tap, common }, blocked, output(recorder)))
        }
        RecordFrom { socket, .. } if socket.is_some() || !common.otlp.otlp.is_empty() => {
            let blocked = blocked()?;
            block_on(listen(Listen { socket, access, common }, blocked, output(recorder)))
        }
        _ => bail!("nothing to record; give a SOCKET, --pid PID, --exe FILE, --otlp ADDRESS or -- COMMAND"),
    }
}
