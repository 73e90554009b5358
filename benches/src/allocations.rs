//! An allocator that counts, for the program that has it: how often a thread asked for memory, and
//! how many bytes are in use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

/// The system's allocator, counted.
pub struct Counting;

thread_local! {
    // Constant and without a destructor, so that to count needs no allocation of its own.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

fn count(bytes: usize) {
    CALLS.set(CALLS.get() + 1);
    LIVE_BYTES.fetch_add(bytes as i64, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as our caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as our caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        LIVE_BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as our caller promised.
        unsafe { System.realloc(memory, layout, new_size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as our caller promised.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// How often the calling thread has allocated; `None` in a program without the counting allocator.
pub(crate) fn of_this_thread() -> Option<u64> {
    is_installed().then(|| CALLS.get())
}

/// The bytes in use; `None` in a program without the counting allocator.
pub(crate) fn live_bytes() -> Option<i64> {
    is_installed().then(|| LIVE_BYTES.load(Ordering::Relaxed))
}

/// Where it is installed something is in use: std itself allocates before `main`.
fn is_installed() -> bool {
    LIVE_BYTES.load(Ordering::Relaxed) != 0
}
