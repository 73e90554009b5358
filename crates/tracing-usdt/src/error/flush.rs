//! The error of [`Handle::flush`](crate::Handle::flush).

use std::fmt;
use std::time::Duration;

/// Spans were still queued when [`Handle::flush`](crate::Handle::flush) returned. They stay queued.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlushError {
    /// How many spans are still queued.
    pub queued: u64,
    /// The timeout of the call.
    pub timeout: Duration,
    /// The callback of [`Builder::on_error`](crate::Builder::on_error) made the call while its thread was
    /// sending. The call returned at once, because it would have waited for its own thread.
    pub in_callback: bool,
}

impl std::error::Error for FlushError {}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { queued, timeout, in_callback } = self;
        if *in_callback {
            return write!(
                f,
                "{queued} spans are still queued: an error callback can't flush while its thread sends"
            );
        }
        write!(
            f,
            "{queued} spans are still queued after {timeout:?}: the receiver is away, or doesn't keep up"
        )
    }
}
