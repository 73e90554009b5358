//! Memory that each thread keeps for its next spans, so that recording a span does not allocate. Also keeps
//! the thread's id and name.
//!
//! The memory of most spans stays in their slots of the table. Here is that of spans whose slot was taken by another.
//!
//! A forked child starts with a copy of the forking thread's block, which holds the thread id of the parent.
//! So a block of an older fork generation is replaced.

use std::cell::RefCell;

use super::identity::Identity;
use super::open::OpenSpan;
use super::record::Record;
use super::thread::Thread;
use crate::fields::Fields;
use crate::process;

/// What a thread keeps.
struct Block {
    /// The fork generation in which the block was made.
    forks: u32,
    /// The thread in the form of [`Thread::to_bytes`].
    thread: Box<[u8]>,
    #[allow(clippy::vec_box)] // the boxes themselves are reused
    boxes: Vec<Box<OpenSpan>>,
    fields: Fields,
    text: Vec<u8>,
}

/// Maximum number of boxes that a thread keeps. Up to as many nested spans need no allocation.
const MAX_BOXES: usize = 32;

/// A text buffer that has grown beyond this is freed instead of kept.
const MAX_TEXT_BYTES: usize = 16 * 1024;

impl Block {
    #[cold]
    fn new(forks: u32) -> Self {
        Self {
            forks,
            thread: Thread::with_current(|thread| thread.to_bytes()),
            boxes: Vec::new(),
            fields: Fields::default(),
            text: Vec::new(),
        }
    }
}

thread_local! {
    static BLOCK: RefCell<Option<Block>> = const { RefCell::new(None) };
}

/// Runs `f` with this thread's block. `None` while the thread is being destroyed, and on re-entry, which
/// happens only if the allocator itself creates spans.
#[inline]
fn with_block<T>(f: impl FnOnce(&mut Block) -> T) -> Option<T> {
    let forks = process::forks();
    BLOCK
        .try_with(|block| {
            let mut block = block.try_borrow_mut().ok()?;
            let block = match &mut *block {
                Some(block) if block.forks == forks => block,
                stale => stale.insert(Block::new(forks)),
            };
            Some(f(block))
        })
        .ok()
        .flatten()
}

/// A box for a span whose slot in the table has none.
#[cold]
pub(super) fn open_span() -> Box<OpenSpan> {
    let taken = with_block(|block| block.boxes.pop()).flatten();
    taken.unwrap_or_else(|| Box::new(OpenSpan::new(Identity::nobody())))
}

/// A box for a span that has no slot in the table.
#[cold]
pub(super) fn open_span_of_thread() -> Box<OpenSpan> {
    let mut span = open_span();
    set_thread(&mut span.record);
    span
}

/// Sets the calling thread as the one that creates the span.
#[inline]
pub(super) fn set_thread(record: &mut Record) {
    // A reused box normally stays on its thread.
    let number = process::thread_number();
    if !record.is_of_thread(number) {
        set_other_thread(record, number);
    }
}

#[cold]
fn set_other_thread(record: &mut Record, number: usize) {
    if with_block(|block| record.set_thread(number, &block.thread)).is_none() {
        Thread::with_current(|thread| record.set_thread(number, &thread.to_bytes()));
    }
}

/// Keeps the box of a closed span, which is cleared, for another span.
#[cold]
pub(super) fn give_back(span: Box<OpenSpan>) {
    with_block(|block| {
        if block.boxes.len() < MAX_BOXES {
            block.boxes.push(span);
        }
    });
}

/// Runs `f` with empty [`Fields`], which are reused.
pub(crate) fn with_fields<T>(f: impl FnOnce(&mut Fields) -> T) -> T {
    // Takes the fields out of the block, because `f` may call this function again.
    let mut fields = with_block(|block| std::mem::take(&mut block.fields)).unwrap_or_default();
    let result = f(&mut fields);
    fields.clear();
    with_block(|block| block.fields = fields);
    result
}

/// Runs `f` with an empty buffer, which is reused.
pub(crate) fn with_text<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut text = with_block(|block| std::mem::take(&mut block.text)).unwrap_or_default();
    let result = f(&mut text);
    text.clear();
    if text.capacity() <= MAX_TEXT_BYTES {
        with_block(|block| block.text = text);
    }
    result
}
