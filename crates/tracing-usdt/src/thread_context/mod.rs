//! The thread context: which spans a thread is in, in its own memory, for programs in the kernel that read it without a
//! trap.
//!
//! Each thread writes its own `block`. The probe `thread_register` has the block's address. A thread hits it at its
//! first enter while the probe has a consumer, and then at most every 100 ms, because it can't know whether the
//! consumer is still the same. A block is used again when its thread has ended, and never freed: a consumer may
//! read it at any time.

mod block;

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use block::{Block, Entered};
use tracing_core::span::Id;

use crate::clock::Monotonic;
use crate::probes;
use crate::process;
use crate::propagation::Ids;

/// The least time between two registrations of a thread.
const REGISTER_INTERVAL_NS: u64 = 100_000_000;

thread_local! {
    static OWN: Cell<Option<&'static Block>> = const { Cell::new(None) };
    static RETURNS: Returns = const { Returns };
}

/// Blocks of threads that have ended.
static UNUSED: Mutex<Vec<&'static Block>> = Mutex::new(Vec::new());

/// The calling thread's block, which it gets now if it has none. `None` if the thread is ending.
#[inline]
pub(crate) fn own() -> Option<&'static Block> {
    current().or_else(claim)
}

/// Whether the calling thread has a block.
#[inline]
pub(crate) fn exists() -> bool {
    OWN.get().is_some()
}

/// The calling thread's block, if it has one.
#[inline]
pub(crate) fn current() -> Option<&'static Block> {
    let block = OWN.get()?;
    if block.forks() != process::forks() {
        // The spans in this copy are those of the parent.
        claim_for_process(block);
    }
    Some(block)
}

/// The calling thread has entered the span `key`, whose ids have changed.
#[inline]
pub(crate) fn change(key: &Id, ids: Ids) {
    if let Some(block) = OWN.get() {
        block.change(key.into_u64(), ids);
    }
}

/// Tells consumers where the block is, if that may be new to them.
#[inline]
pub(crate) fn register(block: &Block, now: Monotonic) {
    if now.as_ns().saturating_sub(block.registered_ns()) >= REGISTER_INTERVAL_NS {
        register_now(block, now);
    }
}

#[cold]
fn register_now(block: &Block, now: Monotonic) {
    block.set_registered_ns(now.as_ns());
    probes::thread_register(&probes::ThreadRegister { block: std::ptr::from_ref(block).cast() });
}

#[cold]
fn claim() -> Option<&'static Block> {
    // Fails when the thread's values are being dropped: nobody would take the block back.
    RETURNS.try_with(|_| ()).ok()?;
    let unused = process::lock_for_a_moment(&UNUSED).and_then(|mut unused| unused.pop());
    let block = unused.unwrap_or_else(|| Box::leak(Box::new(Block::new())));
    claim_for_process(block);
    OWN.set(Some(block));
    Some(block)
}

/// Begins the block anew, with an owner that no block has had. So a consumer that still reads it for another thread
/// sees that it has changed hands.
#[cold]
fn claim_for_process(block: &Block) {
    static OWNERS: AtomicU64 = AtomicU64::new(1);
    block.begin(OWNERS.fetch_add(1, Ordering::Relaxed), process::forks());
}

/// Takes the block back when its thread ends.
struct Returns;

impl Drop for Returns {
    fn drop(&mut self) {
        let Some(block) = OWN.take() else { return };
        block.end();
        // In a forked child, the lock may be held for good. Then each thread that ends loses its block, of 6 KiB.
        if let Some(mut unused) = process::lock_for_a_moment(&UNUSED) {
            unused.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gets_another_owner_when_it_is_used_again() {
        let of_a_thread = || {
            let words = || own().map(|block| (std::ptr::from_ref(block) as usize, block.owner()));
            std::thread::spawn(words).join().expect("no panic").expect("the thread is not ending")
        };
        // Other tests may take the block in between.
        let owners: Vec<_> = (0..100).map(|_| of_a_thread()).collect();
        let same = owners.windows(2).find(|pair| pair[0].0 == pair[1].0).expect("a block is used again");
        assert_ne!(same[0].1, same[1].1);
        assert_ne!(same[0].1, 0);
    }

    #[test]
    fn a_thread_keeps_its_block() {
        let address = || own().map(std::ptr::from_ref);
        assert_eq!(address(), address());
        assert_eq!(address(), current().map(std::ptr::from_ref));
    }
}
