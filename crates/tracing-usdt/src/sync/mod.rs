//! The synchronization types of the code that loom checks: those of std, or those of the model checker loom, which tries
//! all interleavings of threads. `lock` has a lock that takes fewer instructions than std's, and `words` memory for a ring.

mod lock;
mod words;

use std::sync::{LockResult, PoisonError, TryLockError};

pub(crate) use lock::{Backoff, Held, Lock};
pub(crate) use words::SharedWords;

#[cfg(not(loom))]
pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    sync::{Mutex, MutexGuard},
    thread::{Thread, current as this_thread, park, park_timeout},
};

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    sync::{Mutex, MutexGuard},
    thread::{Thread, current as this_thread, park},
};

/// A loom model has no time, so any timeout may elapse at once.
#[cfg(loom)]
pub(crate) fn park_timeout(_: std::time::Duration) {
    loom::thread::yield_now();
}

/// std's `UnsafeCell` with the interface of loom's, which notices accesses at the same time.
#[cfg(not(loom))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Calls `f` with a pointer to the value.
    #[inline]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Takes the result of a lock although a thread has panicked under it: no code under these locks can panic and
/// leave half a change. Works with the locks of std and of loom.
pub(crate) fn unpoisoned<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
