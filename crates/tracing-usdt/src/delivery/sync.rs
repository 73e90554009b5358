//! What the ring and its bell are built of: std's, or a model checker's that tries all orders in
//! which threads can meet.

#[cfg(not(loom))]
pub(super) use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    sync::{Mutex, MutexGuard},
    thread::{Thread, current as this_thread, park, park_timeout},
};

#[cfg(loom)]
pub(super) use loom::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    sync::{Mutex, MutexGuard},
    thread::{Thread, current as this_thread, park},
};

/// A model has no time: the one who dozes may wake at once.
#[cfg(loom)]
pub(super) fn park_timeout(_: std::time::Duration) {
    loom::thread::yield_now();
}
