//! Forks: a child has one thread, and copies of all else. What its parent was about to send is the
//! parent's to send, and a lock that another thread held is locked for good.
//!
//! So a child begins with new ones of whatever must not be shared, and leaves the old ones alone.
//!
//! And the process's end, and what its threads have in common.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[cfg(unix)]
use nix::sys::signal::{SigSet, SigmaskHow};
use once_cell::race::OnceBox;

/// How many forks lie between this process and the one that first watched.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The fork generation of this process.
#[inline]
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Has every fork from now on noticed; called when a layer is built.
#[cfg(unix)]
pub(crate) fn watch_forks() {
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler only adds to an atomic, which is async-signal-safe, and it lives as
        // long as the image it is in: libc drops the handlers of an image that is unloaded.
        // It fails only for want of memory; a fork would then go unnoticed, as without us.
        #[allow(unsafe_code)]
        unsafe {
            nix::libc::pthread_atfork(None, None, Some(in_child));
        }
    });
}

#[cfg(not(unix))]
pub(crate) fn watch_forks() {}

/// Has `handler` run on return from `main` and on `exit`; and, for an image that is unloaded, before
/// that. It must not unwind, and what it calls must not rely on the other threads.
pub(crate) fn at_exit(handler: extern "C" fn()) {
    #[cfg(unix)]
    {
        // SAFETY: the handler is a function of this image, whose handlers libc runs before it unloads
        // it. It fails only for want of memory; then what is left at the end is lost.
        #[allow(unsafe_code)]
        unsafe {
            nix::libc::atexit(handler);
        }
    }
    #[cfg(not(unix))]
    let _ = handler;
}

/// Starts a thread of ours. The program's signals are for its own, from the first instant on: so they are
/// blocked here while the new one inherits that.
pub(crate) fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    #[cfg(unix)]
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let thread = std::thread::Builder::new().name("tracing-usdt".into()).spawn(run);
    #[cfg(unix)]
    let _ = before.and_then(|before| before.thread_set_mask());
    thread
}

/// Waits for the end of a thread of ours, but not for ever: it may wait for one that will not go on.
pub(crate) fn join(thread: JoinHandle<()>, deadline: Instant) {
    while !thread.is_finished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    if thread.is_finished() {
        let _ = thread.join();
    }
}

/// What is behind a lock that is held for moments only. `None` if it is held for longer: in a forked child,
/// by a thread of the parent, for good.
pub(crate) fn lock_for_a_moment<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    for _ in 0..100 {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_micros(100)),
        }
    }
    None
}

/// One for each process.
pub(crate) struct PerProcess<T> {
    forks: u32,
    value: T,
    /// Put there in one step, unlike what is in a `OnceLock`: a thread that a fork left behind in the midst
    /// of that would be waited for, for good.
    in_child: OnceBox<PerProcess<T>>,
}

impl<T> PerProcess<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { forks: forks(), value, in_child: OnceBox::new() }
    }

    /// The first process's, in that process.
    #[inline]
    pub(crate) fn own(&self) -> Option<&T> {
        (self.forks == forks()).then_some(&self.value)
    }

    /// This process's, made by `make` the first time a child asks.
    #[inline]
    pub(crate) fn get(&self, make: impl Fn() -> T) -> &T {
        let forks = forks();
        if self.forks == forks { &self.value } else { self.later(forks, &make) }
    }

    #[cold]
    fn later(&self, forks: u32, make: &dyn Fn() -> T) -> &T {
        let mut at = self;
        while at.forks != forks {
            at = match at.in_child.get() {
                Some(child) => child,
                None => {
                    let child = Box::new(Self { forks, value: make(), in_child: OnceBox::new() });
                    let _ = at.in_child.set(child);
                    continue;
                }
            };
        }
        &at.value
    }

    /// This process's, if it has one.
    pub(crate) fn known(&self) -> Option<&T> {
        let forks = forks();
        let mut known = std::iter::successors(Some(self), |at| at.in_child.get());
        known.find(|at| at.forks == forks).map(|at| &at.value)
    }

    /// What this process has inherited from those before it, the first process's first.
    pub(crate) fn inherited(&self) -> impl Iterator<Item = &T> {
        let forks = forks();
        std::iter::successors(Some(self), |at| at.in_child.get())
            .take_while(move |at| at.forks != forks)
            .map(|at| &at.value)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn pretend_to_be_a_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn a_child_has_its_own_and_sees_what_it_inherited() {
        let value = PerProcess::new(0);
        pretend_to_be_a_child();
        assert_eq!(*value.get(|| 1), 1);
        assert!(value.inherited().eq(&[0]));
        pretend_to_be_a_child();
        // Other tests pretend too, at the same time.
        assert_eq!(*value.get(|| 2), 2);
        assert!(value.inherited().take(2).eq(&[0, 1]));
    }
}
