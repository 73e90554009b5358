//! The queue without `--spool`: chunks in memory, up to a number of bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::queue::{Load, Store};
use super::stats::{Counters, Loss};
use super::tally::Tally;
use crate::encode::Chunk;
use crate::text::Notices;

/// A [`Store`] in memory.
pub(super) struct Memory {
    max_bytes: u64,
    counters: Arc<Counters>,
    notices: Notices,
    chunks: Mutex<Chunks>,
}

#[derive(Default)]
struct Chunks {
    waiting: VecDeque<Chunk>,
    load: Load,
    taken: Vec<Chunk>,
    taken_load: Load,
    /// Whether it was reported that the queue is full.
    full: bool,
}

impl Memory {
    pub(super) fn new(max_bytes: u64, counters: Arc<Counters>, notices: Notices) -> Self {
        Self { max_bytes, counters, notices, chunks: Mutex::default() }
    }

    fn chunks(&self) -> MutexGuard<'_, Chunks> {
        // Nothing that holds the lock can panic half-way.
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chunks {
    fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.waiting.pop_front()?;
        let load = Load::of(&chunk);
        self.load = Load { spans: self.load.spans - load.spans, bytes: self.load.bytes - load.bytes };
        Some(chunk)
    }
}

impl Store for Memory {
    fn push(&self, chunk: &Chunk) -> Load {
        let mut chunks = self.chunks();
        self.counters.push(chunk.sender, chunk.spans.into());
        chunks.waiting.push_back(chunk.clone());
        chunks.load = chunks.load.and(Load::of(chunk));
        // Chunks that are being sent take up room, but dropping from the queue doesn't lose them.
        while chunks.load.bytes + chunks.taken_load.bytes > self.max_bytes {
            let Some(oldest) = chunks.pop() else { break };
            self.counters.lose(&Tally::of(oldest.sender, oldest.spans.into()), Loss::QueueFull);
            if !std::mem::replace(&mut chunks.full, true) {
                let (target, most) = (self.counters.target(), self.max_bytes);
                let until = match self.counters.snapshot().is_flight_recorder {
                    true => "there is more time to compress them",
                    false => "the backend accepts spans faster; --spool DIR has room for more",
                };
                self.notices.say(format!(
                    "{target}: the queue has reached {most} bytes; its oldest spans are dropped until {until}"
                ));
            }
        }
        chunks.load
    }

    fn waiting(&self) -> Load {
        self.chunks().load
    }

    fn take(&self, limits: Load) -> Vec<Chunk> {
        let mut chunks = self.chunks();
        while let Some(next) = chunks.waiting.front() {
            let load = chunks.taken_load.and(Load::of(next));
            if load.exceeds(limits) && !chunks.taken.is_empty() {
                break;
            }
            let Some(next) = chunks.pop() else { break };
            chunks.taken.push(next);
            chunks.taken_load = load;
        }
        chunks.taken.clone()
    }

    fn acknowledge(&self, rejected: u64) {
        let mut chunks = self.chunks();
        let mut spans = Tally::default();
        chunks.taken.drain(..).for_each(|chunk| spans.add(chunk.sender, chunk.spans.into()));
        chunks.taken_load = Load::default();
        self.counters.answer(&spans, rejected);
        // Only at half the limit: a backend that is slightly too slow is reported once.
        chunks.full &= chunks.load.bytes > self.max_bytes / 2;
    }

    fn give_back(&self) {
        let mut chunks = self.chunks();
        chunks.load = chunks.load.and(chunks.taken_load);
        chunks.taken_load = Load::default();
        while let Some(chunk) = chunks.taken.pop() {
            chunks.waiting.push_front(chunk);
        }
    }

    fn close(&self) {
        self.give_back();
        let mut chunks = self.chunks();
        while let Some(chunk) = chunks.pop() {
            self.counters.lose(&Tally::of(chunk.sender, chunk.spans.into()), Loss::Shutdown);
        }
    }
}
