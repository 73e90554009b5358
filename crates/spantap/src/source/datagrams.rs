//! What was received, as it goes to the thread that decodes.

use crate::process::Sender;

/// One datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// What is in it.
    pub bytes: &'a [u8],
    /// By the kernel's word.
    pub sender: Sender,
    /// It was larger than any we know of, and the end is missing.
    pub cut: bool,
}

/// What came with one system call.
#[derive(Debug, Default)]
pub struct Datagrams {
    /// One behind the other.
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

    /// In the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        let mut start = 0;
        self.received.iter().map(move |received| {
            let bytes = self.bytes.get(start..received.end).unwrap_or_default();
            start = received.end;
            Datagram { bytes, sender: received.sender, cut: received.cut }
        })
    }

    /// In memory, with what is around each.
    pub(super) fn weight(&self) -> usize {
        self.bytes.len() + self.received.len() * 256
    }
}
