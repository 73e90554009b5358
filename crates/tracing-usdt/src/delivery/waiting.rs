//! Closing threads that wait for room, served in the order in which they came.
//!
//! A thread that only tried again and again would compete with those that come later: a datagram that is sent makes
//! room for some sixty spans, and one thread alone closes as many before a sleeping one is awake. So a thread leaves
//! what it has to deliver here, and whoever finds or makes room delivers for all who wait.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long threads compete for room before they take turns, in which each span costs a change of threads.
pub(super) const UNORDERED: Duration = Duration::from_millis(20);

/// What threads wait to deliver: a `T` each, which comes to an outcome `O`.
pub(super) struct Waiting<T, O> {
    entries: Mutex<Entries<T, O>>,
    /// The length of `entries`, for those who only want to know whether there are any.
    count: AtomicUsize,
}

type Entries<T, O> = VecDeque<(T, Arc<Waiter<O>>)>;

/// A thread that waits. Not by `park`: that is for the program, whose `unpark` may come meanwhile.
pub(super) struct Waiter<O> {
    state: Mutex<State<O>>,
    changed: Condvar,
}

struct State<O> {
    /// The waiter is at the head of the queue.
    is_first: bool,
    outcome: Option<O>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T, O: Copy> Waiting<T, O> {
    pub(super) fn new() -> Self {
        Self { entries: Mutex::new(VecDeque::new()), count: AtomicUsize::new(0) }
    }

    /// Whether nobody waits. Approximate: a thread may be about to enter.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// The calling thread waits from now on, behind those who came before.
    pub(super) fn enter(&self, item: T) -> Arc<Waiter<O>> {
        let mut entries = lock(&self.entries);
        let state = State { is_first: entries.is_empty(), outcome: None };
        let waiter = Arc::new(Waiter { state: Mutex::new(state), changed: Condvar::new() });
        entries.push_back((item, Arc::clone(&waiter)));
        self.count.store(entries.len(), Ordering::Relaxed);
        waiter
    }

    /// Delivers for the threads that wait, in the order in which they came, until `deliver` finds no room. `deliver` must
    /// not block: no thread can give up meanwhile. Does nothing while another thread holds the list.
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

    /// Gives up, unless the outcome is known by now.
    pub(super) fn leave(&self, waiter: &Arc<Waiter<O>>) -> Option<O> {
        let mut entries = lock(&self.entries);
        entries.retain(|(_, other)| !Arc::ptr_eq(other, waiter));
        self.appoint_first(&entries);
        lock(&waiter.state).outcome
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
        change(&mut lock(&self.state));
        self.changed.notify_one();
    }

    /// Waits for the outcome.
    pub(super) fn outcome(&self, at_most: Duration) -> Option<O> {
        self.wait(at_most, |state| state.outcome.is_none()).outcome
    }

    /// Waits until it is the first, or has been served. Whether it is the first.
    pub(super) fn is_first(&self, at_most: Duration) -> bool {
        let state = self.wait(at_most, |state| !state.is_first && state.outcome.is_none());
        state.is_first && state.outcome.is_none()
    }

    fn wait(&self, at_most: Duration, goes_on: impl Fn(&State<O>) -> bool) -> MutexGuard<'_, State<O>> {
        let waited = self.changed.wait_timeout_while(lock(&self.state), at_most, |state| goes_on(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn who_waits_is_served_in_order_while_there_is_room() {
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
                waiting.serve(|item| lock(&waiters[1].state).is_first.then_some(*item));
            }
            let (is_first, outcome) = second.join().expect("no panic");
            // It may have been served before it looked.
            assert!(is_first || outcome.is_some());
            assert_eq!(outcome, Some(2));
        });
    }
}
