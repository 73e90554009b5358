//! Forks. A forked child has only the forking thread, and a copy of the parent's memory. It must not send the
//! spans in that copy, because the parent sends them, and a lock that another thread held at the fork stays
//! locked for ever.
//!
//! So a child creates its own instance of each value that processes must not share ([`PerProcess`]), and does
//! not touch the inherited ones.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use once_cell::race::OnceBox;

/// Number of forks between the process that first called [`watch_forks`] and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The fork generation of this process.
#[inline]
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Counts every fork from now on. Called when a layer is built.
#[cfg(unix)]
pub(crate) fn watch_forks() {
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler only increments an atomic, which is async-signal-safe. It is valid for as long
        // as libc may call it: libc removes the handlers of an image that it unloads. `pthread_atfork` fails
        // only if memory is exhausted; then forks go unnoticed.
        #[allow(unsafe_code)]
        unsafe {
            nix::libc::pthread_atfork(None, None, Some(in_child));
        }
    });
}

#[cfg(not(unix))]
pub(crate) fn watch_forks() {}

/// Locks a mutex that threads hold only for moments, or gives up after about 10 ms. In a forked child, a
/// thread that exists only in the parent may hold it for ever.
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

/// A value of which each process has its own instance: a list with one entry per fork generation that used it.
pub(crate) struct PerProcess<T> {
    /// The fork generation that `value` belongs to.
    forks: u32,
    value: T,
    /// The instance of the next generation. Not a `OnceLock`: if a fork interrupts a thread that initializes
    /// one, the child waits for that thread for ever. A `OnceBox` is set in one atomic step.
    in_child: OnceBox<PerProcess<T>>,
}

impl<T> PerProcess<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { forks: forks(), value, in_child: OnceBox::new() }
    }

    /// The first process's instance. `None` in its forked children.
    #[inline]
    pub(crate) fn own(&self) -> Option<&T> {
        (self.forks == forks()).then_some(&self.value)
    }

    /// This process's instance. In a forked child, the first call makes it with `make`.
    #[inline]
    pub(crate) fn get(&self, make: impl Fn() -> T) -> &T {
        let forks = forks();
        if self.forks == forks { &self.value } else { self.in_descendant(forks, &make) }
    }

    #[cold]
    fn in_descendant(&self, forks: u32, make: &dyn Fn() -> T) -> &T {
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

    /// This process's instance, if it exists already.
    pub(crate) fn known(&self) -> Option<&T> {
        let forks = forks();
        let mut known = std::iter::successors(Some(self), |at| at.in_child.get());
        known.find(|at| at.forks == forks).map(|at| &at.value)
    }

    /// The instances that this process inherited, oldest first.
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
    fn a_forked_child_has_its_own_instance_and_sees_the_inherited_ones() {
        let value = PerProcess::new(0);
        pretend_to_be_a_child();
        assert_eq!(*value.get(|| 1), 1);
        assert!(value.inherited().eq(&[0]));
        pretend_to_be_a_child();
        // Other tests may advance the generation at the same time, hence `take`.
        assert_eq!(*value.get(|| 2), 2);
        assert!(value.inherited().take(2).eq(&[0, 1]));
    }
}
