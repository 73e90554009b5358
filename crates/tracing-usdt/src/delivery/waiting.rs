//! The closing threads that wait for room, in the order in which they came.
//!
//! If each thread just tried again, those that came first could starve: a sent datagram makes room for about
//! sixty spans, and a running thread closes that many before a sleeping thread is awake. So a thread that
//! must wait leaves its span here, and the thread that makes room delivers the spans of all waiting threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::sync::unpoisoned;

/// How long a thread competes for room before it queues. Queueing costs a context switch for each span.
pub(super) const UNORDERED_WAIT: Duration = Duration::from_millis(20);

/// A queue of threads, each with an item `T` to deliver. Delivery has an outcome `O`.
pub(super) struct Waiting<T, O> {
    entries: Mutex<Entries<T, O>>,
    /// The length of `entries`, so that `is_empty` takes no lock.
    count: AtomicUsize,
}

type Entries<T, O> = VecDeque<(T, Arc<Waiter<O>>)>;

/// A waiting thread. It waits on a condition variable, not with `park`: the program may park and unpark the
/// same thread.
pub(super) struct Waiter<O> {
    state: Mutex<State<O>>,
    changed: Condvar,
}

struct State<O> {
    /// The waiter is at the head of the queue.
    is_first: bool,
    outcome: Option<O>,
}

impl<T, O: Copy> Waiting<T, O> {
    pub(super) fn new() -> Self {
        Self { entries: Mutex::new(VecDeque::new()), count: AtomicUsize::new(0) }
    }

    /// Whether no thread waits. Approximate: a thread may be about to enter.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Queues the calling thread behind those that came before.
    pub(super) fn enter(&self, item: T) -> Arc<Waiter<O>> {
        let mut entries = unpoisoned(self.entries.lock());
        let state = State { is_first: entries.is_empty(), outcome: None };
        let waiter = Arc::new(Waiter { state: Mutex::new(state), changed: Condvar::new() });
        entries.push_back((item, Arc::clone(&waiter)));
        self.count.store(entries.len(), Ordering::Relaxed);
        waiter
    }

    /// Delivers the items of the waiting threads in order, until `deliver` finds no room and returns `None`.
    /// `deliver` must not block: it runs under the lock, which a thread needs to leave. Does nothing while
    /// another thread holds the lock.
    pub(super) fn serve(&self, mut deliver: impl FnMut(&T) -> Option<O>) {
        if self.is_empty() {
            return;
        }
        let Ok(mut entries) = self.entries.try_lock() else { return };
        while let Some(outcome) = entries.front().and_then(|(item, _)| deliver(item)) {
            if let Some((_, waiter)) = entries.pop_front() {
                waiter.change(|state| state.outcome = Some(outcome));
            }
        }
        self.appoint_first(&entries);
    }

    /// Takes the thread out of the queue. Returns the outcome if its item has been delivered.
    pub(super) fn leave(&self, waiter: &Arc<Waiter<O>>) -> Option<O> {
        let mut entries = unpoisoned(self.entries.lock());
        entries.retain(|(_, other)| !Arc::ptr_eq(other, waiter));
        self.appoint_first(&entries);
        unpoisoned(waiter.state.lock()).outcome
    }

    fn appoint_first(&self, entries: &Entries<T, O>) {
        self.count.store(entries.len(), Ordering::Relaxed);
        if let Some((_, first)) = entries.front() {
            first.change(|state| state.is_first = true);
        }
    }
}

impl<O: Copy> Waiter<O> {
    fn change(&self, change: impl FnOnce(&mut State<O>)) {
        let mut state = unpoisoned(self.state.lock());
        change(&mut state);
        drop(state);
        self.changed.notify_one();
    }

    /// Waits until the item has been delivered, and returns the outcome.
    pub(super) fn outcome(&self, at_most: Duration) -> Option<O> {
        self.wait(at_most, |state| state.outcome.is_none()).outcome
    }

    /// Waits until the thread is the first or its item has been delivered. Returns whether it is the first.
    pub(super) fn is_first(&self, at_most: Duration) -> bool {
        let state = self.wait(at_most, |state| !state.is_first && state.outcome.is_none());
        state.is_first && state.outcome.is_none()
    }

    fn wait(&self, at_most: Duration, keeps_waiting: impl Fn(&State<O>) -> bool) -> MutexGuard<'_, State<O>> {
        let waited = self
            .changed
            .wait_timeout_while(unpoisoned(self.state.lock()), at_most, |state| keeps_waiting(state));
        unpoisoned(waited).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn waiting_threads_are_served_in_order_while_there_is_room() {
        let waiting = Waiting::new();
        let waiters = [10, 20, 30].map(|item| waiting.enter(item));
        assert!(waiters[0].is_first(NOW) && !waiters[1].is_first(NOW));
        let mut room = 2;
        waiting.serve(|item| {
            let has_room = room > 0;
            room -= i32::from(has_room);
            has_room.then_some(item + 1)
        });
        assert_eq!(waiters.each_ref().map(|waiter| waiter.outcome(NOW)), [Some(11), Some(21), None]);
        assert!(waiters[2].is_first(NOW) && !waiting.is_empty());
    }

    #[test]
    fn leaving_returns_the_outcome_if_it_was_served_before() {
        let waiting = Waiting::new();
        let waiters = [1, 2].map(|item| waiting.enter(item));
        assert_eq!(waiting.leave(&waiters[0]), None);
        assert!(waiters[1].is_first(NOW));
        waiting.serve(|item| Some(*item));
        assert_eq!(waiters[0].outcome(NOW), None);
        assert!(waiting.is_empty() && waiting.leave(&waiters[1]) == Some(2));
    }

    #[test]
    fn waiters_wake_up_when_they_are_first_and_when_they_are_served() {
        const LONG: Duration = Duration::from_secs(60);
        let waiting = Waiting::new();
        let waiters = [1, 2].map(|item| waiting.enter(item));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| (waiters[1].is_first(LONG), waiters[1].outcome(LONG)));
            waiting.leave(&waiters[0]);
            while waiters[1].outcome(NOW).is_none() {
                waiting.serve(|item| unpoisoned(waiters[1].state.lock()).is_first.then_some(*item));
            }
            let (is_first, outcome) = second.join().expect("no panic");
            // It may have been served before it looked.
            assert!(is_first || outcome.is_some());
            assert_eq!(outcome, Some(2));
        });
    }
}
