//! Who sent spans to spantap, for counters and notices.

use std::fmt;
use std::net::IpAddr;

use super::sender::Sender;

/// A process that wrote to the socket or was attached to, or an address that OTLP requests came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum SentBy {
    /// The kernel reports the process.
    Process(Sender),
    /// Nothing is known of the client but its address. The port is left out: it differs for each connection.
    Address(IpAddr),
}

impl From<Sender> for SentBy {
    fn from(sender: Sender) -> Self {
        Self::Process(sender)
    }
}

impl From<IpAddr> for SentBy {
    fn from(address: IpAddr) -> Self {
        // A listener on `::` reports IPv4 clients as IPv6 addresses.
        Self::Address(address.to_canonical())
    }
}

impl fmt::Display for SentBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(sender) => sender.fmt(f),
            Self::Address(address) => write!(f, "{address} over OTLP"),
        }
    }
}
