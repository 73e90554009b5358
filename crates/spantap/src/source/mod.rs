//! Where spans come from: `datagrams` from a Unix socket, each with its sender, or the `probes` of a process, read
//! through eBPF, together with what the `kernel` did in its spans. Beside either, or alone, `otlp` takes requests of
//! OpenTelemetry's exporters.
//!
//! A source puts its spans into an [`Intake`], on the thread that decodes. OTLP requests have a thread and an intake of their
//! own.

mod datagrams;
mod kernel;
pub mod otlp;
#[cfg(feature = "ebpf")]
pub mod probes;

use anyhow::Result;

pub use datagrams::{Datagrams, Folder, Receiver, Socket, Stop, receive};
pub use kernel::Kernel;

use crate::pipeline::Intake;
use crate::stats::Stats;

/// A source that is ready to run.
pub enum Source {
    /// A bound socket, which programs may have sent to already.
    Socket {
        /// The socket.
        socket: Socket,
        /// The users that may send; empty for all users.
        allowed_uids: Vec<u32>,
    },
    /// Attached probes.
    #[cfg(feature = "ebpf")]
    Probes(Box<probes::Probes>),
    /// Nothing but OTLP requests, which come beside the source.
    OnlyOtlp,
}

/// A source that runs.
pub(crate) enum Running {
    Socket {
        receiver: Receiver,
        allowed_uids: Vec<u32>,
    },
    #[cfg(feature = "ebpf")]
    Probes(Box<probes::Probes>),
    OnlyOtlp,
}

/// Ends a running source, from any thread.
pub(crate) enum End {
    Socket(Stop),
    #[cfg(feature = "ebpf")]
    Probes(probes::Stop),
    OnlyOtlp,
}

impl Source {
    /// Whether its spans may have what the kernel did during them.
    pub(crate) fn has_kernel(&self) -> bool {
        match self {
            Self::Socket { .. } => false,
            #[cfg(feature = "ebpf")]
            Self::Probes(probes) => probes.has_times(),
            // Another spantap, which is attached, may forward its spans to this one.
            Self::OnlyOtlp => true,
        }
    }

    pub(crate) fn start(self) -> Result<(Running, End)> {
        Ok(match self {
            Self::Socket { socket, allowed_uids } => {
                let (receiver, stop) = receive(socket)?;
                (Running::Socket { receiver, allowed_uids }, End::Socket(stop))
            }
            #[cfg(feature = "ebpf")]
            Self::Probes(probes) => {
                let stop = probes.stop();
                (Running::Probes(probes), End::Probes(stop))
            }
            Self::OnlyOtlp => (Running::OnlyOtlp, End::OnlyOtlp),
        })
    }
}

impl Running {
    /// Takes in everything that comes, until the source has ended and is empty.
    pub(crate) fn run(self, intake: &mut Intake<'_>, _stats: &Stats) -> Result<()> {
        match self {
            Self::Socket { receiver, allowed_uids } => {
                receiver.take_in(intake, &allowed_uids);
                receiver.end()
            }
            #[cfg(feature = "ebpf")]
            Self::Probes(probes) => probes.take_in(intake, _stats),
            Self::OnlyOtlp => Ok(()),
        }
    }
}

impl End {
    pub(crate) fn end(&self) {
        match self {
            Self::Socket(stop) => stop.stop(),
            #[cfg(feature = "ebpf")]
            Self::Probes(stop) => stop.stop(),
            Self::OnlyOtlp => {}
        }
    }

    /// Whether a program that starts now can still reach this source.
    pub(crate) fn is_reachable(&self) -> bool {
        match self {
            Self::Socket(stop) => stop.is_reachable(),
            #[cfg(feature = "ebpf")]
            Self::Probes(_) => true,
            Self::OnlyOtlp => true,
        }
    }
}
