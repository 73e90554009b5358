//! From text to the socket, and the account of what got there.
//!
//! `inline` sends each span before its close returns. `stats` counts, `socket` connects and
//! reconnects, `at_exit` tells the last losses when the program ends.

mod at_exit;
mod inline;
#[cfg_attr(not(unix), path = "socket_none.rs")]
mod socket;
mod stats;

pub(crate) use at_exit::at_exit;
pub(crate) use inline::Inline;
pub use stats::{Dropped, Stats};
