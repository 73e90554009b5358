//! The queue between the thread that receives and the thread that decodes, bounded by bytes and not by datagrams.
//!
//! On many systems the kernel's queue holds ten datagrams, whatever their size. A sender that doesn't wait, such as
//! Core Lightning, loses datagrams while that is full; this queue makes room for a burst.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::batch::Datagrams;

/// About 20 ms of a million spans a second. With 32 MiB the bytes have left the cache before they are decoded,
/// which costs a tenth more time.
const MAX_QUEUED_BYTES: usize = 8 << 20;

/// How many decoded batches are kept to reuse their memory. New memory costs page faults, which took a third of the
/// receiving time.
const MAX_SPARE_BATCHES: usize = 4;

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Datagrams>,
    spare: Vec<Datagrams>,
    bytes: usize,
    /// Whether one of the ends is gone.
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }
}

/// The end where batches go in.
#[derive(Debug)]
pub(super) struct BatchSender(Arc<Shared>);

/// The end where batches come out.
#[derive(Debug)]
pub(super) struct BatchReceiver(Arc<Shared>);

pub(super) fn queue() -> (BatchSender, BatchReceiver) {
    let shared = Arc::new(Shared::default());
    (BatchSender(Arc::clone(&shared)), BatchReceiver(shared))
}

impl BatchSender {
    /// An empty batch, with memory to reuse if there is one.
    pub(super) fn spare(&self) -> Datagrams {
        self.0.state().spare.pop().unwrap_or_default()
    }

    /// Waits while the queue is full. Returns false if the other end is gone.
    pub(super) fn push(&self, batch: Datagrams) -> bool {
        let full = |state: &mut State| state.bytes > MAX_QUEUED_BYTES && !state.closed;
        let waited = self.0.changed.wait_while(self.0.state(), full);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return false;
        }
        // The shutdown of the socket wakes the reader with an empty batch.
        if batch.memory_bytes() == 0 {
            return true;
        }
        state.bytes += batch.memory_bytes();
        state.batches.push_back(batch);
        drop(state);
        self.0.changed.notify_all();
        true
    }
}

impl BatchReceiver {
    /// Waits for the next batch. Returns `None` if the other end is gone and the queue is empty.
    pub(super) fn next(&self) -> Option<Datagrams> {
        let empty = |state: &mut State| state.batches.is_empty() && !state.closed;
        let waited = self.0.changed.wait_while(self.0.state(), empty);
        self.pop(waited.unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn next_if_there(&self) -> Option<Datagrams> {
        self.pop(self.0.state())
    }

    /// Keeps the memory of a decoded batch.
    pub(super) fn recycle(&self, mut batch: Datagrams) {
        batch.clear();
        let mut state = self.0.state();
        if state.spare.len() < MAX_SPARE_BATCHES {
            state.spare.push(batch);
        }
    }

    fn pop(&self, mut state: MutexGuard<'_, State>) -> Option<Datagrams> {
        let batch = state.batches.pop_front()?;
        let was_full = state.bytes > MAX_QUEUED_BYTES;
        state.bytes -= batch.memory_bytes();
        drop(state);
        if was_full {
            self.0.changed.notify_all();
        }
        Some(batch)
    }
}

impl Drop for BatchSender {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Drop for BatchReceiver {
    fn drop(&mut self) {
        self.0.close();
    }
}
