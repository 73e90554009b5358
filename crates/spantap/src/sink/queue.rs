//! What waits for a sink: between the thread that pushes and the worker that sends.
//!
//! The chunks are in memory ([`super::memory`]) or on disk ([`super::spool`]). Both know one batch that
//! was taken and not yet answered for, so that a worker may end at any point without a span getting
//! out of account.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::figures::Figures;
use crate::chunk::Chunk;
use crate::sequence::Senders;

/// How much there is, or may be, in one batch.
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

/// A bounded first-in first-out queue of chunks, which keeps the account of what it takes and loses.
pub(super) trait Store: Send + Sync {
    /// Never waits for the worker; what there is no room for is counted as dropped. What waits then.
    fn push(&self, chunk: &Chunk) -> Load;
    /// What has been pushed and not taken.
    fn waiting(&self) -> Load;
    /// The oldest chunks, within `limits` unless the first alone is more. Empty if there is none. A
    /// batch that was taken before must have been given back or acknowledged.
    fn take(&self, limits: Load) -> Vec<Chunk>;
    /// The batch that was taken is done with; the backend refused `rejected` of its spans.
    fn acknowledge(&self, rejected: u64);
    /// The batch that was taken waits again, first in the queue.
    fn give_back(&self);
    /// How far each sender has come, by what outlives the program.
    fn senders(&self) -> Senders {
        Senders::default()
    }
    /// Nobody will take anything any more: what does not outlive the program is lost.
    fn close(&self);
}

/// A store and the bells of its worker.
pub(super) struct Queue {
    pub(super) store: Box<dyn Store>,
    pub(super) figures: Arc<Figures>,
    /// What the worker takes at once: so many spans, and so many bytes, which may become less.
    batch_spans: u64,
    batch_bytes: AtomicU64,
    /// Rung when there is something, and when there is a whole batch. Not at each push: waking a thread
    /// that sleeps costs the one that pushes some microseconds.
    arrived: Notify,
    filled: Notify,
}

impl Queue {
    pub(super) fn new(store: Box<dyn Store>, figures: Arc<Figures>, batch: Load) -> Self {
        let batch_bytes = AtomicU64::new(batch.bytes);
        Self {
            store,
            figures,
            batch_spans: batch.spans,
            batch_bytes,
            arrived: Notify::new(),
            filled: Notify::new(),
        }
    }

    /// What the worker takes at once.
    fn batch(&self) -> Load {
        Load { spans: self.batch_spans, bytes: self.batch_bytes.load(Ordering::Relaxed) }
    }

    /// From now on a batch has so many bytes at most, unless its first chunk alone has more.
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

    /// Waits for something to send.
    pub(super) async fn arrival(&self) {
        while self.store.waiting().spans == 0 {
            self.arrived.notified().await;
        }
    }

    /// Waits for a whole batch.
    pub(super) async fn whole_batch(&self) {
        while !self.store.waiting().fills(self.batch()) {
            self.filled.notified().await;
        }
    }

    /// What there is of a batch. It reads files if the store is on disk.
    pub(super) fn take(&self) -> Vec<Chunk> {
        self.store.take(self.batch())
    }
}
