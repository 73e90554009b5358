//! Datagrams from a Unix socket, each with its sender.
//!
//! `socket` owns the path in the file system and `folder` a folder for it. `receive` is the thread that reads,
//! through `messages`. It passes each system call's `batch` through the `queue` to the thread that decodes.

mod batch;
mod folder;
mod messages;
mod queue;
mod receive;
mod socket;

pub use batch::Datagrams;
pub use folder::Folder;
pub use receive::{Receiver, Stop, receive};
pub use socket::Socket;
