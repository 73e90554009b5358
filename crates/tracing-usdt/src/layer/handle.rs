//! Access to a layer that has become a part of a subscriber.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::delivery::{Batches, Exporter, Stats};
use crate::error::FlushError;

/// Reads a layer's [`Stats`] and flushes it, after the layer has become a part of a subscriber. Made by
/// [`UsdtLayer::handle`](crate::UsdtLayer::handle).
#[derive(Clone)]
pub struct Handle {
    pub(super) exporter: Option<Exporter>,
    pub(super) batches: Arc<Batches>,
}

impl Handle {
    /// How many spans have been closed, sent to the socket, queued and dropped so far. All counts are 0 without a
    /// socket.
    pub fn stats(&self) -> Stats {
        self.exporter.as_ref().map(|exporter| exporter.stats()).unwrap_or_default()
    }

    /// The same for the probe `batch_emit`. Counts the spans that were closed while it had a consumer. `sent` are those
    /// of batches with which the probe was hit. `no_receiver` are those that were queued when the last consumer
    /// detached. The other reasons are those of a socket, except `queue_full`.
    pub fn batch_stats(&self) -> Stats {
        self.batches.stats()
    }

    /// Returns when every span that was closed before the call has been sent, or dropped and counted. The
    /// calling thread helps to send.
    ///
    /// The layer flushes by itself when the program ends, for up to a second. Call this in tests, before
    /// `exec`, and where the process may be frozen or killed.
    ///
    /// # Errors
    ///
    /// [`FlushError`] if some spans are still queued after `timeout`, or if an error callback calls this while its
    /// thread sends. The spans stay queued.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        let begin = Instant::now();
        let sent = self.exporter.as_ref().map_or(Ok(()), |exporter| exporter.flush(timeout));
        sent.and(self.batches.flush(timeout.saturating_sub(begin.elapsed())))
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("stats", &self.stats())
            .field("batch_stats", &self.batch_stats())
            .finish()
    }
}
