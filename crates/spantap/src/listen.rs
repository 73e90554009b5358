//! `spantap listen`: a socket for whoever wants to send.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::Listen;
use crate::collect::Collect;
use crate::signals::Signals;
use crate::source::Socket;
use crate::terminal::Stream;

/// Listens until it is told to end.
///
/// # Errors
///
/// When it can't listen, or the collector can't run.
pub async fn listen(listen: Listen) -> Result<ExitCode> {
    // Before there is a socket to be removed.
    let mut signals = Signals::install()?;
    let socket = Socket::bind(&listen.socket, listen.mode)?;
    let collect = Collect {
        socket,
        allowed_uids: listen.allow_uid,
        common: listen.common,
        stream: Stream::Stdout,
        alone: true,
    };
    let end = async move {
        signals.next().await;
        Ok(((), signals))
    };
    let ((), hurried) = collect.run(end).await?;
    // As shells say it of one that a signal ended.
    let code = hurried.and_then(|signal| u8::try_from(128 + signal as i32).ok());
    Ok(code.map_or(ExitCode::SUCCESS, ExitCode::from))
}
