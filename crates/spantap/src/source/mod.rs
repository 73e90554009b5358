//! Where spans come from: `datagrams` from a Unix socket, each with its sender, or the `probes` of a process, read
//! through eBPF, together with what the `kernel` did in its spans.
//!
//! A source puts its spans into an [`Intake`], on the thread that decodes.

mod datagrams;
mod kernel;
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
}

/// A source that runs.
pub(crate) enum Running {
    Socket {
        receiver: Receiver,
        allowed_uids: Vec<u32>,
    },
    #[cfg(feature = "ebpf")]
    Probes(Box<probes::Probes>),
}

/// Ends a running source, from any thread.
pub(crate) enum End {
    Socket(Stop),
    #[cfg(feature = "ebpf")]
    Probes(probes::Stop),
}

impl Source {
    /// Whether its spans may have what the kernel did during them.
    pub(crate) fn has_kernel(&self) -> bool {
        match self {
            Self::Socket { .. } => false,
            #[cfg(feature = "ebpf")]
            Self::Probes(probes) => probes.has_times(),
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
        }
    }
}

impl End {
    pub(crate) fn end(&self) {
        match self {
            Self::Socket(stop) => stop.stop(),
            #[cfg(feature = "ebpf")]
            Self::Probes(stop) => stop.stop(),
        }
    }

    /// Whether a program that starts now can still reach this source.
    pub(crate) fn is_reachable(&self) -> bool {
        match self {
            Self::Socket(stop) => stop.is_reachable(),
            #[cfg(feature = "ebpf")]
            Self::Probes(_) => true,
        }
    }
}
