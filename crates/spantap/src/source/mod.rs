//! Where spans come from: datagrams off a Unix socket, each with who sent it, or the probes of a process,
//! through eBPF, with what the kernel did in its spans.
//!
//! Of the socket, `socket` owns the path in the file system and `folder` a folder for it, `receive` the thread that reads, `messages` how
//! it reads, `queue` is between that thread and the one that decodes, with `datagrams` in it.

mod datagrams;
mod folder;
mod messages;
#[cfg(feature = "ebpf")]
pub mod probes;
mod queue;
mod receive;
mod socket;

use anyhow::Result;

pub use datagrams::{Datagram, Datagrams};
pub use folder::Folder;
pub use receive::{Receiver, Stop, receive};
pub use socket::Socket;

use crate::figures::Figures;
use crate::intake::Intake;

/// One that is ready.
pub enum Source {
    /// Bound, and perhaps written to already.
    Socket {
        /// Where it is.
        socket: Socket,
        /// Users that may send; all, if there are none.
        allowed_uids: Vec<u32>,
    },
    /// Attached.
    #[cfg(feature = "ebpf")]
    Probes(Box<probes::Probes>),
}

/// One that runs.
pub(crate) enum Running {
    Socket {
        receiver: Receiver,
        allowed_uids: Vec<u32>,
    },
    #[cfg(feature = "ebpf")]
    Probes(Box<probes::Probes>),
}

/// Ends one, from any thread.
pub(crate) enum End {
    Socket(Stop),
    #[cfg(feature = "ebpf")]
    Probes(probes::Stop),
}

impl Source {
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
    /// Takes in all that comes, until it is ended and nothing more can come.
    pub(crate) fn run(self, intake: &mut Intake<'_>, _figures: &Figures) -> Result<()> {
        match self {
            Self::Socket { receiver, allowed_uids } => {
                receiver.take_in(intake, &allowed_uids);
                receiver.end()
            }
            #[cfg(feature = "ebpf")]
            Self::Probes(probes) => probes.take_in(intake, _figures),
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

    /// Whether programs that start now are still seen.
    pub(crate) fn is_reachable(&self) -> bool {
        match self {
            Self::Socket(stop) => stop.is_reachable(),
            #[cfg(feature = "ebpf")]
            Self::Probes(_) => true,
        }
    }
}
