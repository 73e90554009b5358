//! Memory of 64-bit words that threads share, where the caller sees to it that no two access the same word at a time.
//!
//! Plain accesses, unlike those of atomics, are done in large pieces: 60 instructions less for a span in a ring.

#[cfg(not(loom))]
use std::cell::UnsafeCell;

#[cfg(loom)]
use super::UnsafeCell;
#[cfg(loom)]
use crate::bytes::take;

/// See the module.
pub(crate) struct SharedWords<const WORDS: usize>(Box<[UnsafeCell<u64>; WORDS]>);

// SAFETY: the words are accessed by `write` and `read` only, whose callers exclude accesses at the same time.
#[allow(unsafe_code)]
unsafe impl<const WORDS: usize> Sync for SharedWords<WORDS> {}

impl<const WORDS: usize> SharedWords<WORDS> {
    /// Zeros.
    pub(crate) fn new() -> Self {
        // Collects into a vector, because an array would be built on the stack.
        let words: Box<[UnsafeCell<u64>]> = (0..WORDS).map(|_| UnsafeCell::new(0)).collect();
        Self(words.try_into().unwrap_or_else(|_| unreachable!("as many words as were made")))
    }

    /// Calls `f` with the bytes of the `count` words from `at` on. Panics if there are not so many.
    ///
    /// # Safety
    ///
    /// Until `f` has returned, no other access to these words may happen.
    #[cfg(not(loom))]
    #[allow(unsafe_code)]
    #[inline(always)]
    pub(crate) unsafe fn write(&self, at: usize, count: usize, f: impl FnOnce(&mut [u8])) {
        let words = &self.0[at..][..count];
        // SAFETY: the bytes are those of `words`, which are in cells, so they may change. Nobody else accesses them, as the
        // caller promises.
        f(unsafe {
            std::slice::from_raw_parts_mut(UnsafeCell::raw_get(words.as_ptr()).cast(), size_of_val(words))
        });
    }

    /// Calls `f` with the bytes of the `count` words from `at` on. Panics if there are not so many.
    ///
    /// # Safety
    ///
    /// Until `f` has returned, these words must not be written.
    #[cfg(not(loom))]
    #[allow(unsafe_code)]
    #[inline]
    pub(crate) unsafe fn read<T>(&self, at: usize, count: usize, f: impl FnOnce(&[u8]) -> T) -> T {
        let words = &self.0[at..][..count];
        // SAFETY: the bytes are those of `words`, and nobody changes them, as the caller promises.
        f(unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) })
    }

    /// As above. loom's cells notice accesses at the same time, but lend one word only.
    #[cfg(loom)]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn write(&self, at: usize, count: usize, f: impl FnOnce(&mut [u8])) {
        let mut bytes = vec![0; 8 * count];
        f(&mut bytes);
        for (cell, mut word) in self.0[at..][..count].iter().zip(bytes.chunks(8)) {
            // SAFETY: the pointer is used in the closure only, and the caller promises the rest.
            cell.with_mut(|place| unsafe { *place = u64::from_ne_bytes(take(&mut word)) });
        }
    }

    /// As above.
    #[cfg(loom)]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn read<T>(&self, at: usize, count: usize, f: impl FnOnce(&[u8]) -> T) -> T {
        let cells = self.0[at..][..count].iter();
        // SAFETY: as for `write`.
        let bytes: Vec<u8> =
            cells.flat_map(|cell| cell.with(|word| unsafe { *word }.to_ne_bytes())).collect();
        f(&bytes)
    }
}
