//! Wakes the sender thread, but only if it needs to be woken: a wake costs the closing thread a system call.

use std::time::Duration;

use crate::sync::{AtomicU32, Mutex, Ordering, Thread, park, park_timeout, this_thread, unpoisoned};

/// The sender thread's state, and the handle to wake it.
pub(super) struct SenderWaker {
    state: AtomicU32,
    thread: Mutex<Option<Thread>>,
}

/// Reads the rings, or will do so soon.
const AWAKE: u32 = 0;
/// Waits for a receiver; no record wakes it.
const PAUSED: u32 = 1;
/// Lets records gather for a while; a ring that fills wakes it.
const GATHERING: u32 = 2;
/// Rests until it looks at the open spans again; a record wakes it.
const RESTING: u32 = 3;
/// Sleeps until the next record wakes it.
const ASLEEP: u32 = 4;
/// The thread has not been started, or has ended.
const ABSENT: u32 = 5;

/// Whether there is a thread to wake.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum WakeResult {
    /// The thread is awake or has been woken.
    Awake,
    /// The caller must start the thread, or call [`SenderWaker::set_absent`] if it can't.
    NeedsThread,
}

impl SenderWaker {
    pub(super) fn new() -> Self {
        Self { state: AtomicU32::new(ABSENT), thread: Mutex::new(None) }
    }

    /// Whether the writer of a record must call [`wake`](Self::wake); `is_filling` if its ring is filling.
    #[inline]
    pub(super) fn needs_wake(&self, is_filling: bool) -> bool {
        self.state.load(Ordering::Relaxed) >= if is_filling { GATHERING } else { RESTING }
    }

    /// Whether the thread does nothing, not even now and then, until it is woken or started.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.state.load(Ordering::Relaxed) >= ASLEEP
    }

    #[cold]
    pub(super) fn wake(&self) -> WakeResult {
        match self.state.swap(AWAKE, Ordering::SeqCst) {
            ABSENT => return WakeResult::NeedsThread,
            AWAKE => {}
            _ => {
                if let Some(thread) = &*unpoisoned(self.thread.lock()) {
                    thread.unpark();
                }
            }
        }
        WakeResult::Awake
    }

    /// The thread could not be started, or is gone.
    pub(super) fn set_absent(&self) {
        self.state.store(ABSENT, Ordering::SeqCst);
    }

    /// Makes the calling thread the one that is woken.
    pub(super) fn register_current_thread(&self) {
        *unpoisoned(self.thread.lock()) = Some(this_thread());
    }

    /// Returns after `at_most` or when a ring fills; at once if `stay_awake` returns true.
    pub(super) fn gather(&self, at_most: Duration, stay_awake: impl Fn() -> bool) {
        self.park_as(GATHERING, at_most, stay_awake);
    }

    /// Returns after `at_most`, even if a ring fills; at once if `stay_awake` returns true.
    pub(super) fn pause(&self, at_most: Duration, stay_awake: impl Fn() -> bool) {
        self.park_as(PAUSED, at_most, stay_awake);
    }

    /// Like [`sleep`](Self::sleep), and returns after `at_most`. Whether it returned before that.
    pub(super) fn rest(&self, at_most: Duration, stay_awake: impl Fn() -> bool) -> bool {
        let is_over = self.park_as(RESTING, at_most, stay_awake);
        !is_over
    }

    /// Whether no other thread has woken this one, and it did not stay awake.
    fn park_as(&self, state: u32, at_most: Duration, stay_awake: impl Fn() -> bool) -> bool {
        self.state.store(state, Ordering::SeqCst);
        let stays_awake = stay_awake();
        if !stays_awake {
            park_timeout(at_most);
        }
        self.state.swap(AWAKE, Ordering::SeqCst) == state && !stays_awake
    }

    /// Returns when another thread calls [`wake`](Self::wake); at once if `stay_awake` returns true.
    ///
    /// `stay_awake` must check the rings with `Ring::is_empty`, which takes the lock of the writers. A record
    /// is then either seen there, or written after the state was set, so that its writer sees that it must
    /// wake the thread.
    pub(super) fn sleep(&self, stay_awake: impl Fn() -> bool) {
        self.state.store(ASLEEP, Ordering::SeqCst);
        if !stay_awake() {
            while self.state.load(Ordering::SeqCst) == ASLEEP {
                park();
            }
        }
        self.state.store(AWAKE, Ordering::SeqCst);
    }
}
