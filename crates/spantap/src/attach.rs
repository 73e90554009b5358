//! `spantap attach`: the probes of a program that runs, and what the kernel did in its spans.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::Attach;
use crate::signals::Blocked;

/// Attaches, until it is told to end or the process ends.
///
/// # Errors
///
/// When it can't attach, or the collector can't run.
#[cfg(feature = "ebpf")]
pub async fn attach(attach: Attach, blocked: Blocked) -> Result<ExitCode> {
    use crate::collect::{Collect, exit_code};
    use crate::source::Source;
    use crate::source::probes::{Lifetime, Probes, Target, check_kernel};
    use crate::terminal::Stream;

    let mut signals = blocked.read()?;
    check_kernel()?;
    let target = match (attach.to.pid, &attach.to.exe) {
        (Some(pid), _) => Target::process(pid)?,
        (None, Some(path)) => Target::file(path)?,
        (None, None) => anyhow::bail!("--pid PID or --exe FILE says to what"),
    };
    let lifetime = Lifetime::of(&target)?;
    let probes = Probes::attach(target, &attach.kernel, attach.min)?;
    let collect = Collect {
        source: Source::Probes(Box::new(probes)),
        common: attach.common,
        stream: Stream::Stdout,
        alone: true,
    };
    let end = async move {
        tokio::select! {
            _ = signals.next() => {}
            () = lifetime.end() => {}
        }
        Ok(((), signals))
    };
    let ((), hurried) = collect.run(end).await?;
    Ok(exit_code(hurried))
}

/// There is no such thing in this build.
///
/// # Errors
///
/// Always.
#[cfg(not(feature = "ebpf"))]
#[allow(clippy::unused_async)] // as the other is
pub async fn attach(_: Attach, _: Blocked) -> Result<ExitCode> {
    anyhow::bail!(
        "this spantap was built without eBPF; install it anew with cargo install --features ebpf ..., which takes \
         clang, libelf and zlib (apt-get install clang gcc libelf-dev make pkg-config zlib1g-dev)"
    )
}
