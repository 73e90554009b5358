//! Between the thread that receives and the one that decodes: as much as fits into so many bytes, however
//! many datagrams that are.
//!
//! The queue of the kernel holds ten on many systems, of whatever size. A sender that doesn't wait, such
//! as Core Lightning, loses what comes while it is full; ours makes room for a burst.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::datagrams::Datagrams;

/// Some 20 ms of a million spans a second. With 32 MiB, what is decoded has left the cache: a tenth more time.
const ROOM: usize = 8 << 20;

/// So many batches that were decoded are kept for their memory: new memory costs page faults, which took
/// a third of the receiving.
const SPARE: usize = 4;

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Datagrams>,
    spare: Vec<Datagrams>,
    bytes: usize,
    /// One of the ends is gone.
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

/// Where batches go in.
#[derive(Debug)]
pub(super) struct In(Arc<Shared>);

/// Where they come out.
#[derive(Debug)]
pub(super) struct Out(Arc<Shared>);

pub(super) fn queue() -> (In, Out) {
    let shared = Arc::new(Shared::default());
    (In(Arc::clone(&shared)), Out(shared))
}

impl In {
    /// An empty batch.
    pub(super) fn spare(&self) -> Datagrams {
        self.0.state().spare.pop().unwrap_or_default()
    }

    /// Waits while there is no room. False if the other end is gone.
    pub(super) fn push(&self, batch: Datagrams) -> bool {
        let full = |state: &mut State| state.bytes > ROOM && !state.closed;
        let waited = self.0.changed.wait_while(self.0.state(), full);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return false;
        }
        // As it is when the shutdown of the socket wakes the reader.
        if batch.weight() == 0 {
            return true;
        }
        state.bytes += batch.weight();
        state.batches.push_back(batch);
        drop(state);
        self.0.changed.notify_all();
        true
    }
}

impl Out {
    /// Waits for the next. None if the other end is gone, and all that it left is taken.
    pub(super) fn next(&self) -> Option<Datagrams> {
        let empty = |state: &mut State| state.batches.is_empty() && !state.closed;
        let waited = self.0.changed.wait_while(self.0.state(), empty);
        self.pop(waited.unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn next_if_there(&self) -> Option<Datagrams> {
        self.pop(self.0.state())
    }

    /// Takes back what is decoded.
    pub(super) fn recycle(&self, mut batch: Datagrams) {
        batch.clear();
        let mut state = self.0.state();
        if state.spare.len() < SPARE {
            state.spare.push(batch);
        }
    }

    fn pop(&self, mut state: MutexGuard<'_, State>) -> Option<Datagrams> {
        let batch = state.batches.pop_front()?;
        let was_full = state.bytes > ROOM;
        state.bytes -= batch.weight();
        drop(state);
        if was_full {
            self.0.changed.notify_all();
        }
        Some(batch)
    }
}

impl Drop for In {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.0.close();
    }
}
