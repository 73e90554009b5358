//! A slot of the table of open spans: one word says which span is in it and in which state, and is its lock, too. So one
//! atomic step finds a span and locks it.
//!
//! The word is the id of the span, with the state in place of its lowest [`STATE_BITS`] bits. They need not be kept: the
//! spans of a slot all have the same, which are the number of the slot.

use crate::sync::{AtomicU64, Backoff, Ordering, UnsafeCell};

pub(super) struct Slot<T> {
    word: AtomicU64,
    /// Accessed only by the thread whose step has changed the word to the state `CLAIMED` or `HELD`, until it changes the
    /// word again.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the lock, see `value`, passes the value from thread to thread, and no two have it at the same time.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Slot<T> {}

// As for std's mutex. After a panic, the lock is released, and no code that accesses a span leaves half a change.
impl<T> std::panic::UnwindSafe for Slot<T> {}
impl<T> std::panic::RefUnwindSafe for Slot<T> {}

pub(super) const STATE_BITS: u32 = 5;

/// No span is here. There may be a value, for the next.
const FREE: u64 = 0;
/// A thread prepares the slot for a span that it is creating. It may call code of the application meanwhile, so nobody
/// waits for it.
const CLAIMED: u64 = 1;
/// A thread accesses the span for some instructions, and at the close of a plain one until the delivery has it, which may
/// wait for the lock of a ring. The highest state, so that one comparison shows whether a span may be in some state or above
/// it. It does not have the bit of [`PLAIN`].
const HELD: u64 = 8;

/// What is known of a span in a slot without access to it.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
#[repr(u64)]
pub(super) enum State {
    /// It does not need its enters and exits.
    Untimed = 2,
    /// It needs its enters and exits.
    Timed = 3,
    /// It needs its enters and exits, and nothing but the usual was recorded of it: see `OpenSpan::state`.
    Plain = 4,
}

/// One bit, which no other state has.
const PLAIN: u64 = State::Plain as u64;

#[inline]
fn word_of(id: u64, state: u64) -> u64 {
    id >> STATE_BITS << STATE_BITS | state
}

/// Whether the word says that the span is in the slot, and not held.
#[inline]
fn has(word: u64, id: u64) -> bool {
    word.wrapping_sub(word_of(id, State::Untimed as u64)) <= State::Plain as u64 - State::Untimed as u64
}

impl<T> Slot<T> {
    pub(super) fn new() -> Self {
        Self { word: AtomicU64::new(FREE), value: UnsafeCell::new(None) }
    }

    /// Whether the span is here and in a state from `state` on. Also true while another thread accesses the span.
    #[inline]
    pub(super) fn may_have(&self, id: u64, state: State) -> bool {
        self.word.load(Ordering::Relaxed).wrapping_sub(word_of(id, state as u64)) <= HELD - state as u64
    }

    /// Access to the span, if it is here. Waits while another thread accesses it.
    #[inline]
    pub(super) fn hold(&self, id: u64) -> Option<Access<'_, T>> {
        let word = self.word.load(Ordering::Relaxed);
        if has(word, id) {
            let held = self.change(word, word_of(id, HELD), word);
            return if held.is_none() { self.hold_later(id) } else { held };
        }
        if word == word_of(id, HELD) { self.hold_later(id) } else { None }
    }

    /// The span if it is here and plain; else whether it may be here in a state from `state` on.
    #[inline]
    pub(super) fn find(&self, id: u64, state: State) -> Result<PlainSlot<'_, T>, bool> {
        let word = self.word.load(Ordering::Relaxed);
        if word ^ id >= 1 << STATE_BITS {
            return Err(false);
        }
        if word & PLAIN != 0 {
            return Ok(PlainSlot { slot: self, word });
        }
        Err(word % (1 << STATE_BITS) >= state as u64)
    }

    /// A slot in which [`find`](Self::find) has found the span plain a moment ago.
    #[inline]
    pub(super) fn plain(&self, id: u64) -> PlainSlot<'_, T> {
        PlainSlot { slot: self, word: word_of(id, PLAIN) }
    }

    #[cold]
    fn hold_later(&self, id: u64) -> Option<Access<'_, T>> {
        self.hold_within(id, u32::MAX)
    }

    /// Like [`hold`](Self::hold), with a limit to the attempts: at the end of the program, and in a forked child, the
    /// thread that accesses the span may never end that.
    pub(super) fn hold_within(&self, id: u64, attempts: u32) -> Option<Access<'_, T>> {
        let mut backoff = Backoff::default();
        for _ in 0..attempts {
            let word = self.word.load(Ordering::Relaxed);
            if has(word, id) {
                let held = self.change(word, word_of(id, HELD), word);
                if held.is_some() {
                    return held;
                }
            } else if word != word_of(id, HELD) {
                return None;
            }
            backoff.pause();
        }
        None
    }

    /// The slot for a new span, if it is free. The slot is free again if the access ends without [`Access::set`].
    #[inline]
    pub(super) fn claim(&self, id: u64) -> Option<Access<'_, T>> {
        let word = self.word.load(Ordering::Relaxed);
        let is_free = word == FREE;
        is_free.then(|| self.change(FREE, word_of(id, CLAIMED), FREE)).flatten()
    }

    /// An id of the span that is here, if there is one, whose lowest bits are `number`.
    pub(super) fn id(&self, number: u64) -> Option<u64> {
        let word = self.word.load(Ordering::Relaxed);
        let id = word_of(word, number);
        (word % (1 << STATE_BITS) >= State::Untimed as u64).then_some(id)
    }

    /// Takes the slot if its word is `from`.
    #[inline]
    fn change(&self, from: u64, to: u64, after: u64) -> Option<Access<'_, T>> {
        let changed = self.word.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed);
        // Made only if it was taken, because its end changes the word.
        changed.is_ok().then(|| Access { slot: self, after })
    }
}

/// A slot with a plain span, or with one that was plain a moment ago.
pub(super) struct PlainSlot<'a, T> {
    slot: &'a Slot<T>,
    word: u64,
}

impl<'a, T> PlainSlot<'a, T> {
    /// Access to the span if it is still plain, and no other thread accesses it.
    #[inline]
    pub(super) fn try_hold(self) -> Option<Access<'a, T>> {
        self.slot.change(self.word, self.word - PLAIN + HELD, self.word)
    }

    /// Calls `f` with the value if the span is still plain, and no other thread accesses it. It is plain afterwards, too.
    ///
    /// Unlike [`Access`], this does not keep the word while `f` runs. So in an enter and an exit, where it is inlined, the
    /// compiler saves no more registers than an idle layer needs. A call took 24 instructions more for a span.
    #[inline(always)]
    pub(super) fn try_with<R>(self, f: impl FnOnce(&mut Option<T>) -> R) -> Option<R> {
        struct Held<'a, T>(&'a Slot<T>);

        impl<T> Drop for Held<'_, T> {
            #[inline(always)]
            fn drop(&mut self) {
                self.0.word.store(self.0.word.load(Ordering::Relaxed) - HELD + PLAIN, Ordering::Release);
            }
        }

        let held = self.word - PLAIN + HELD;
        self.slot.word.compare_exchange(self.word, held, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let held = Held(self.slot);
        // SAFETY: as in `Access::with`: the word is in the state `HELD` until `held` is dropped.
        #[allow(unsafe_code)]
        held.0.value.with_mut(|value| Some(f(unsafe { &mut *value })))
    }
}

/// Access to what is in a slot, for one thread.
pub(super) struct Access<'a, T> {
    slot: &'a Slot<T>,
    /// The word when the access ends.
    after: u64,
}

impl<T> Access<'_, T> {
    /// Calls `f` with the value.
    #[inline]
    pub(super) fn with<R>(&mut self, f: impl FnOnce(&mut Option<T>) -> R) -> R {
        // SAFETY: while this access exists, the word is in the state `CLAIMED` or `HELD`, which this thread has set by a
        // compare-exchange from another state; other threads then access neither the word nor the value. The pointer is
        // used in the closure only, and `&mut self` keeps a second reference from being made meanwhile.
        #[allow(unsafe_code)]
        self.slot.value.with_mut(|value| f(unsafe { &mut *value }))
    }

    /// Whether no span is here when the access ends.
    #[inline]
    pub(super) fn is_free(&self) -> bool {
        self.after == FREE
    }

    /// The span `id` is here when the access ends.
    #[inline]
    pub(super) fn set(&mut self, id: u64, state: State) {
        self.after = word_of(id, state as u64);
    }

    /// No span is here when the access ends.
    #[inline]
    pub(super) fn set_free(&mut self) {
        self.after = FREE;
    }
}

impl<T> Drop for Access<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.slot.word.store(self.after, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// For Miri and ThreadSanitizer, which watch the threads as they run.
    #[test]
    fn only_one_thread_accesses_a_span_at_a_time() {
        const EACH: u64 = if cfg!(miri) { 50 } else { 20_000 };
        const ID: u64 = 77;
        let slot = Slot::<Box<u64>>::new();
        let mut access = slot.claim(ID).expect("it is free");
        access.with(|value| *value = Some(Box::new(0)));
        access.set(ID, State::Plain);
        drop(access);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let slot = &slot;
                scope.spawn(move || {
                    for n in 0..EACH {
                        // Other spans of the slot, and attempts that may fail, change nothing.
                        assert!(slot.claim(ID + 32).is_none() && slot.hold(ID + 32).is_none());
                        let add = |value: &mut Option<Box<u64>>| **value.as_mut().expect("a value") += 1;
                        let plain = slot.find(ID, State::Timed).ok().filter(|_| (n + thread) % 2 == 0);
                        if plain.and_then(|plain| plain.try_with(add)).is_some() {
                            continue;
                        }
                        let plain = slot.find(ID, State::Timed).ok().and_then(PlainSlot::try_hold);
                        let mut access = plain.or_else(|| slot.hold(ID)).expect("it is here");
                        access.with(add);
                        access.set(ID, if n % 3 == 0 { State::Timed } else { State::Plain });
                    }
                });
            }
        });
        let mut access = slot.hold(ID).expect("it is here");
        assert_eq!(access.with(Option::take), Some(Box::new(3 * EACH)));
        access.set_free();
        drop(access);
        assert!(slot.id(ID % 32).is_none());
    }

    #[test]
    fn the_state_is_seen_without_access() {
        let slot = Slot::<()>::new();
        for (n, state) in [State::Untimed, State::Timed, State::Plain].into_iter().enumerate() {
            let id = 1 << 40 | 5 << STATE_BITS | n as u64;
            assert!(!slot.may_have(id, State::Untimed) && slot.id(n as u64).is_none());
            let mut access = slot.claim(id).expect("it is free");
            assert!(!slot.may_have(id, State::Untimed) && slot.id(n as u64).is_none());
            access.set(id, state);
            drop(access);
            assert_eq!(slot.id(n as u64), Some(id));
            for asked in [State::Untimed, State::Timed, State::Plain] {
                assert_eq!(slot.may_have(id, asked), asked <= state);
                assert!(!slot.may_have(id + (1 << STATE_BITS), asked));
                assert!(!slot.may_have(id - (1 << STATE_BITS), asked));
            }
            let found = slot.find(id, State::Timed);
            assert_eq!(
                found.as_ref().err(),
                (state != State::Plain).then_some(state == State::Timed).as_ref()
            );
            assert_eq!(found.ok().and_then(|plain| plain.try_with(|_| ())).is_some(), state == State::Plain);
            assert_eq!(slot.find(id, State::Timed).is_ok(), state == State::Plain, "as before");
            let mut access = slot.hold(id).expect("it is here");
            assert!(slot.may_have(id, State::Plain), "it may be in any state");
            assert!(slot.hold_within(id, 3).is_none());
            access.set_free();
        }
    }
}

/// Checks all interleavings of threads: `RUSTFLAGS="--cfg loom" cargo test --release --lib model`.
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    const ID: u64 = 77;

    fn with_span(value: u64) -> Arc<Slot<u64>> {
        let slot = Slot::new();
        let mut access = slot.claim(ID).unwrap();
        access.with(|place| *place = Some(value));
        access.set(ID, State::Plain);
        drop(access);
        Arc::new(slot)
    }

    fn add(slot: &Slot<u64>) -> bool {
        let Some(mut access) = slot.hold(ID) else { return false };
        access.with(|value| *value.as_mut().unwrap() += 1);
        true
    }

    /// An enter on another thread, while one changes the span.
    #[test]
    fn each_access_is_alone() {
        loom::model(|| {
            let slot = with_span(0);
            let other = Arc::clone(&slot);
            let thread = thread::spawn(move || assert!(add(&other)));
            let mut access = slot.hold(ID).unwrap();
            access.with(|value| *value.as_mut().unwrap() += 1);
            access.set(ID, State::Timed);
            drop(access);
            thread.join().unwrap();
            assert_eq!(slot.hold(ID).unwrap().with(|value| *value), Some(2));
        });
    }

    /// An enter on another thread, while one enters the span or changes it so that it is not plain any more.
    #[test]
    fn each_access_to_a_plain_span_is_alone() {
        loom::model(|| {
            let slot = with_span(0);
            let add = |slot: &Slot<u64>| {
                let add = |value: &mut Option<u64>| *value.as_mut().unwrap() += 1;
                let plain = slot.find(ID, State::Timed).ok();
                if plain.and_then(|plain| plain.try_with(add)).is_none() {
                    slot.hold(ID).unwrap().with(add);
                }
            };
            let other = Arc::clone(&slot);
            let thread = thread::spawn(move || add(&other));
            add(&slot);
            slot.hold(ID).unwrap().set(ID, State::Timed);
            thread.join().unwrap();
            assert_eq!(slot.hold(ID).unwrap().with(|value| *value), Some(2));
            assert!(slot.find(ID, State::Timed).is_err_and(|is_timed| is_timed));
        });
    }

    /// A close, an enter on another thread, and the next span of the slot.
    #[test]
    fn a_closed_span_is_not_found_and_its_slot_is_used_again() {
        loom::model(|| {
            let slot = with_span(1);
            let other = Arc::clone(&slot);
            let thread = thread::spawn(move || {
                add(&other);
                if let Some(mut access) = other.claim(ID + 32) {
                    access.with(|value| *value = Some(10));
                    access.set(ID + 32, State::Timed);
                }
            });
            let mut access = slot
                .find(ID, State::Plain)
                .ok()
                .and_then(PlainSlot::try_hold)
                .or_else(|| slot.hold(ID))
                .unwrap();
            access.set_free();
            assert!(matches!(access.with(Option::take), Some(1 | 2)));
            drop(access);
            assert!(slot.hold(ID).is_none());
            thread.join().unwrap();
            let next = slot.hold(ID + 32).map(|mut access| access.with(|value| *value));
            assert!(matches!(next, None | Some(Some(10))));
        });
    }

    /// Two threads that create spans for one slot.
    #[test]
    fn a_slot_is_claimed_once() {
        loom::model(|| {
            let slot = Arc::new(Slot::<u64>::new());
            let claim = |slot: &Slot<u64>, id: u64| {
                let Some(mut access) = slot.claim(id) else { return false };
                access.with(|value| assert!(value.replace(id).is_none()));
                access.set(id, State::Untimed);
                true
            };
            let other = Arc::clone(&slot);
            let thread = thread::spawn(move || claim(&other, ID));
            let ours = claim(&slot, ID + 32);
            assert!(thread.join().unwrap() != ours);
            let id = if ours { ID + 32 } else { ID };
            assert_eq!(slot.hold(id).unwrap().with(|value| *value), Some(id));
        });
    }
}
