//! A lock for a few instructions, without data: who holds it may change values that are atomics anyway.
//!
//! It takes 10 instructions where std's takes 25: it has no poison, and its release wakes nobody. A thread that finds it
//! held waits for a moment, then leaves the processor to others.

use super::{AtomicBool, Ordering};

/// See the module. Nothing that waits may run while it is held, and no code of the application.
pub(crate) struct Lock {
    is_held: AtomicBool,
}

/// Releases the lock when it is dropped.
pub(crate) struct Held<'a>(&'a Lock);

impl Lock {
    pub(crate) fn new() -> Self {
        Self { is_held: AtomicBool::new(false) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Held<'_> {
        if !self.try_take() {
            self.wait();
        }
        Held(self)
    }

    /// Writes only if the lock is free, so that in loom's model, too, nobody reads for ever what a waiting thread wrote.
    #[inline]
    fn try_take(&self) -> bool {
        self.is_held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn wait(&self) {
        let mut backoff = Backoff::default();
        // Waits by loads, which leave the cache line to the thread that will write it.
        while self.is_held.load(Ordering::Relaxed) || !self.try_take() {
            backoff.pause();
        }
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.is_held.store(false, Ordering::Release);
    }
}

/// The waits between attempts to take a lock that another thread holds: short ones at first, as the other thread needs it
/// for some instructions only; longer ones if that thread has been interrupted.
#[derive(Default)]
pub(crate) struct Backoff {
    pauses: u32,
}

impl Backoff {
    /// So many pauses take some 10 ms.
    pub(crate) const MOMENT: u32 = 200;

    #[cfg(not(loom))]
    pub(crate) fn pause(&mut self) {
        self.pauses = self.pauses.saturating_add(1);
        match self.pauses {
            0..50 => std::hint::spin_loop(),
            50..100 => std::thread::yield_now(),
            _ => std::thread::sleep(std::time::Duration::from_micros(50)),
        }
    }

    #[cfg(loom)]
    pub(crate) fn pause(&mut self) {
        self.pauses += 1;
        loom::thread::yield_now();
    }
}

/// See `delivery::ring` for a model of how it is used.
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::sync::AtomicU64;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn only_one_thread_holds_a_lock() {
        loom::model(|| {
            let shared = Arc::new((Lock::new(), AtomicU64::new(0)));
            let add = |(lock, count): &(Lock, AtomicU64)| {
                let _held = lock.lock();
                count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            };
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || add(&other));
            add(&shared);
            thread.join().unwrap();
            assert_eq!(shared.1.load(Ordering::Relaxed), 2);
        });
    }
}
