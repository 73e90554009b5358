//! `spantap listen`: a socket for whoever wants to send.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::Listen;
use crate::collect::{Collect, exit_code};
use crate::signals::Blocked;
use crate::source::{Socket, Source};
use crate::terminal::Stream;

/// Listens until it is told to end.
///
/// # Errors
///
/// When it can't listen, or the collector can't run.
pub async fn listen(listen: Listen, blocked: Blocked) -> Result<ExitCode> {
    let mut signals = blocked.read()?;
    let socket = Socket::bind(&listen.socket, listen.mode)?;
    let collect = Collect {
        source: Source::Socket { socket, allowed_uids: listen.allow_uid },
        common: listen.common,
        stream: Stream::Stdout,
        alone: true,
    };
    let end = async move {
        signals.next().await;
        Ok(((), signals))
    };
    let ((), hurried) = collect.run(end).await?;
    Ok(exit_code(hurried))
}
