//! The chunks that wait for a sink, between the thread that pushes and the worker that sends.
//!
//! The chunks are in memory ([`super::memory`]) or on disk ([`super::spool`]). Both keep the batch that was taken
//! until it is acknowledged, so that a worker may end at any point and every span stays counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::stats::Counters;
use crate::encode::Chunk;
use crate::process::{Progress, Senders};

/// A number of spans and bytes; also the limits of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Load {
    pub(super) spans: u64,
    pub(super) bytes: u64,
}

impl Load {
    pub(super) fn of(chunk: &Chunk) -> Self {
        Self { spans: chunk.spans.into(), bytes: chunk.bytes() as u64 }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { spans: self.spans + other.spans, bytes: self.bytes + other.bytes }
    }

    pub(super) fn exceeds(self, limits: Self) -> bool {
        self.spans > limits.spans || self.bytes > limits.bytes
    }

    fn fills(self, limits: Self) -> bool {
        self.spans >= limits.spans || self.bytes >= limits.bytes
    }
}

/// A bounded first-in first-out queue of chunks, which counts what it takes and loses.
pub(super) trait Store: Send + Sync {
    /// Adds a chunk, and returns what waits then. Never waits for the worker. Spans without room are counted as
    /// dropped.
    fn push(&self, chunk: &Chunk) -> Load;
    /// What was pushed and has not been taken.
    fn waiting(&self) -> Load;
    /// Takes the oldest chunks, within `limits` unless the first chunk alone exceeds them. Empty if there are none. A
    /// batch that was taken before must have been given back or acknowledged.
    fn take(&self, limits: Load) -> Vec<Chunk>;
    /// Removes the batch that was taken; the backend rejected `rejected` of its spans.
    fn acknowledge(&self, rejected: u64);
    /// Returns the taken batch to the front of the queue.
    fn give_back(&self);
    /// Notes that senders have come this far with spans that are not pushed.
    fn advance(&self, _progress: &[Progress]) {}
    /// The progress of each sender, as far as it survives the program.
    fn senders(&self) -> Senders {
        Senders::default()
    }
    /// Ends the queue: spans that do not survive the program are counted as lost.
    fn close(&self);
}

/// A store, and the wake-ups of its worker.
pub(super) struct Queue {
    pub(super) store: Box<dyn Store>,
    pub(super) counters: Arc<Counters>,
    /// The limits of a batch; that of bytes may be lowered.
    batch_spans: u64,
    batch_bytes: AtomicU64,
    /// Notified when the first chunk arrives, and when there is a whole batch. Not at each push: waking a sleeping
    /// thread costs the pushing thread some microseconds.
    arrived: Notify,
    filled: Notify,
}

impl Queue {
    pub(super) fn new(store: Box<dyn Store>, counters: Arc<Counters>, batch: Load) -> Self {
        let batch_bytes = AtomicU64::new(batch.bytes);
        Self {
            store,
            counters,
            batch_spans: batch.spans,
            batch_bytes,
            arrived: Notify::new(),
            filled: Notify::new(),
        }
    }

    /// The limits of a batch.
    fn batch(&self) -> Load {
        Load { spans: self.batch_spans, bytes: self.batch_bytes.load(Ordering::Relaxed) }
    }

    /// Sets the most bytes of a batch; its first chunk may have more.
    pub(super) fn limit_batch(&self, bytes: u64) {
        self.batch_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn push(&self, chunk: &Chunk) {
        let waiting = self.store.push(chunk);
        if waiting.spans <= chunk.spans.into() {
            self.arrived.notify_one();
        }
        if waiting.fills(self.batch()) {
            self.filled.notify_one();
        }
    }

    /// Waits until there is something to send.
    pub(super) async fn arrival(&self) {
        while self.store.waiting().spans == 0 {
            self.arrived.notified().await;
        }
    }

    /// Waits until there is a whole batch.
    pub(super) async fn whole_batch(&self) {
        while !self.store.waiting().fills(self.batch()) {
            self.filled.notified().await;
        }
    }

    /// Takes up to a batch. Reads files if the store is on disk.
    pub(super) fn take(&self) -> Vec<Chunk> {
        self.store.take(self.batch())
    }
}
