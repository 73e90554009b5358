//! `spantap attach`: reads spans from the probes of running programs, and from the kernel what it did during them.

use std::process::ExitCode;

use anyhow::Result;

use super::cli::Attach;
use super::collect::Output;
use super::signals::Blocked;

/// Collects from the probes until a signal asks for the end, or the process ends.
///
/// # Errors
///
/// When spantap can't attach, or the collector can't run.
#[cfg(feature = "ebpf")]
pub(super) async fn attach(attach: Attach, blocked: Blocked, output: Output) -> Result<ExitCode> {
    use super::collect::Collect;
    use crate::flight::Trigger;
    use crate::source::Source;
    use crate::source::probes::{Lifetime, Probes, Target, check_kernel};

    let mut signals = blocked.read()?;
    signals.trigger(output.flight.clone());
    check_kernel()?;
    let target = match (attach.to.pid, &attach.to.exe) {
        (Some(pid), _) => Target::process(pid)?,
        (None, Some(path)) => Target::file(path)?,
        (None, None) => anyhow::bail!("no process to attach to; give --pid PID or --exe FILE"),
    };
    let lifetime = Lifetime::of(&target)?;
    let probes = Probes::attach(target, &attach.tap.kernel, attach.tap.min, attach.tap.callsite)?;
    let flight = output.flight.clone();
    let pid = attach.to.pid;
    let collect = Collect {
        source: Source::Probes(Box::new(probes)),
        common: attach.common,
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
            () = lifetime.end() => {
                if let (Some(flight), Some(pid)) = (flight, pid) {
                    flight.trigger(Trigger::Death(format!("process {pid} has ended")));
                }
            }
        }
        Ok(((), signals))
    };
    let ((), finish) = collect.run(end).await?;
    Ok(finish.exit_code(output.records))
}

/// Reports that this build cannot attach.
///
/// # Errors
///
/// Always.
#[cfg(not(feature = "ebpf"))]
#[allow(clippy::unused_async)] // has the signature of the function above
pub(super) async fn attach(_: Attach, _: Blocked, _: Output) -> Result<ExitCode> {
    anyhow::bail!(
        "this spantap was built without eBPF; reinstall it with cargo install --features ebpf ..., which needs \
         clang, libelf and zlib (apt-get install clang gcc libc6-dev libelf-dev linux-libc-dev make pkg-config \
         zlib1g-dev)"
    )
}
