//! Datagrams off a Unix socket, each with who sent it.
//!
//! `socket` owns the path in the file system, `receive` the thread that reads, `messages` how it reads,
//! `queue` is between that thread and the one that decodes, with `datagrams` in it.

mod datagrams;
mod messages;
mod queue;
mod receive;
mod socket;

pub use datagrams::{Datagram, Datagrams};
pub use receive::{Receiver, Stop, receive};
pub use socket::Socket;
