//! The process that sent a datagram, as the kernel identifies it.

use std::fmt;

/// The most senders that counters and queues keep apart. Bounds memory: an untrusted sender may fork at will.
pub(crate) const MAX_SENDERS: usize = 1000;

/// The sending process, from the credentials that the kernel attaches (`SCM_CREDENTIALS`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Sender {
    /// The process id; 0 if the process is in a pid namespace that is not visible from ours.
    pub pid: u32,
    /// The real user id.
    pub uid: u32,
    /// The real group id.
    pub gid: u32,
}

impl Sender {
    /// Stands for a process that no datagram came from, such as one that is known from a file.
    pub(crate) const UNKNOWN: Self = Self { pid: 0, uid: 0, gid: 0 };

    /// Stands for all processes that sent OTLP requests: the kernel reports none of them. No process has this user.
    pub(crate) const OVER_OTLP: Self = Self { pid: 0, uid: u32::MAX, gid: u32::MAX - 1 };
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            _ if *self == Self::OVER_OTLP => f.write_str("over OTLP"),
            0 => write!(f, "a process of another pid namespace, uid {}", self.uid),
            pid => write!(f, "pid {pid}, uid {}", self.uid),
        }
    }
}
