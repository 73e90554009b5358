//! From text to the socket, and the account of what got there.
//!
//! `inline` sends each span before its close returns. `socket` connects and reconnects, `stats`
//! counts, `at_exit` tells the last losses when the program ends.

mod at_exit;
mod inline;
#[cfg_attr(not(unix), path = "socket_none.rs")]
mod socket;
mod stats;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use inline::Inline;
use socket::Socket;
pub use stats::{Dropped, Stats};

use crate::encode::Format;
use crate::error::Reporter;
use crate::resource::Resource;

/// Delivery to the socket at `path`; `None` on a platform that has none, which is reported.
pub(crate) fn open(
    path: PathBuf,
    max_wait: Duration,
    format: Format,
    resource: Arc<Resource>,
    reporter: Arc<Reporter>,
) -> Option<Arc<Inline>> {
    let socket = Socket::open(path, max_wait, &reporter)?;
    let inline = Arc::new(Inline::new(socket, format, resource, reporter));
    at_exit::register(&inline);
    Some(inline)
}
