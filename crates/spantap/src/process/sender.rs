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
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => write!(f, "a process of another pid namespace, uid {}", self.uid),
            pid => write!(f, "pid {pid}, uid {}", self.uid),
        }
    }
}
