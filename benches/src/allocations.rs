//! An allocator that counts the allocations of each thread, and the bytes in use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

/// The system's allocator, with counters.
pub struct Counting;

thread_local! {
    // Constant and without a destructor, so that its first use does not allocate.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

fn count(bytes: usize) {
    CALLS.set(CALLS.get() + 1);
    LIVE_BYTES.fetch_add(bytes as i64, Ordering::Relaxed);
}

// SAFETY: each call is passed unchanged to the system's allocator, and counting does not allocate.
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

/// The number of allocations of the calling thread; `None` in a program without the counting allocator.
pub(crate) fn of_this_thread() -> Option<u64> {
    is_installed().then(|| CALLS.get())
}

/// The bytes in use; `None` in a program without the counting allocator.
pub(crate) fn live_bytes() -> Option<i64> {
    is_installed().then(|| LIVE_BYTES.load(Ordering::Relaxed))
}

/// std allocates before `main`, so the counter is not 0 if the allocator is installed.
fn is_installed() -> bool {
    LIVE_BYTES.load(Ordering::Relaxed) != 0
}
