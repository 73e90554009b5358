//! `spantap listen`: collects from a socket that any number of programs send to, or from OTLP requests alone.

use std::process::ExitCode;

use anyhow::Result;

use super::cli::Listen;
use super::collect::{Collect, Output};
use super::signals::Blocked;
use crate::source::{Socket, Source};

/// Collects until a signal asks for the end.
///
/// # Errors
///
/// When the socket can't be bound, or the collector can't run.
pub(super) async fn listen(listen: Listen, blocked: Blocked, output: Output) -> Result<ExitCode> {
    let mut signals = blocked.read()?;
    signals.trigger(output.flight.clone());
    let source = match &listen.socket {
        Some(path) => {
            let socket = Socket::bind(path, listen.access.mode)?;
            Source::Socket { socket, allowed_uids: listen.access.allow_uid }
        }
        None => Source::OnlyOtlp,
    };
    let collect = Collect {
        source,
        common: listen.common,
        rotation: output.rotation,
        flight: output.flight,
        stream: output.stream,
        top: output.top,
        owns_terminal: true,
    };
    let end = async move {
        tokio::select! {
            _ = signals.next() => {}
            () = Output::quit(output.quits) => {}
        }
        Ok(((), signals))
    };
    let ((), finish) = collect.run(end).await?;
    Ok(finish.exit_code(output.records))
}
