//! Received datagrams, on their way to the thread that decodes.

use crate::pipeline::Datagram;
use crate::process::Sender;

/// The datagrams of one system call.
#[derive(Debug, Default)]
pub struct Datagrams {
    /// The bytes of all datagrams, without gaps.
    bytes: Vec<u8>,
    received: Vec<Received>,
}

#[derive(Debug)]
struct Received {
    end: usize,
    sender: Sender,
    cut: bool,
}

impl Datagrams {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.received.clear();
    }

    pub(super) fn push(&mut self, datagram: Datagram<'_>) {
        let Datagram { bytes, sender, cut } = datagram;
        self.bytes.extend_from_slice(bytes);
        self.received.push(Received { end: self.bytes.len(), sender, cut });
    }

    /// The datagrams, in the order in which they were received.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        let mut start = 0;
        self.received.iter().map(move |received| {
            let bytes = self.bytes.get(start..received.end).unwrap_or_default();
            start = received.end;
            Datagram { bytes, sender: received.sender, cut: received.cut }
        })
    }

    /// The memory that they take, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.received.len() * 256
    }
}
