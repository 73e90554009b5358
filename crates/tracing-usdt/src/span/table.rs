//! The table of open spans, by the registry's id. A span is *tracked* if it is in this table.
//!
//! The table replaces the registry's extensions, which need a reference count, a lock, a lookup by type and
//! an allocation for each span. This took 40 of the 190 ns of a span.
//!
//! The order of the locks: the mutex of the spans that are far, then the slot, then the ring of the delivery. So no thread
//! may take the mutex while it holds a slot. One that has only claimed a slot may: nobody waits for that.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_core::span::Id;

use super::identity::{Identity, Origin};
use super::open::OpenSpan;
use super::reuse;
use super::slot::{Access, PlainSlot, STATE_BITS, Slot, State};
use super::timing::Timing;
use super::unfinished::UnfinishedSpan;
use crate::callsite::Callsite;
use crate::clock::Monotonic;
use crate::process::{self, PerProcess};
use crate::sync::Backoff;

/// The open spans of one subscriber. A forked child has its own table.
pub(crate) struct OpenSpans {
    tables: Arc<PerProcess<Table>>,
    /// Number of tracked spans, of those that were inserted with `count`.
    count: AtomicUsize,
    /// The origin of every new identity.
    origin: Origin,
    on_child: Option<Box<dyn Fn() + Send + Sync>>,
}

// The function that is called in a child changes nothing here.
impl std::panic::UnwindSafe for OpenSpans {}
impl std::panic::RefUnwindSafe for OpenSpans {}

/// Split into parts, so that threads seldom use the same memory.
pub(super) struct Table(pub(super) Box<[Part; PARTS]>);

const PARTS: usize = 64;

/// Aligned so that no two parts share a cache line, and so that finding one takes a shift instead of a multiplication.
#[repr(align(1024))]
pub(super) struct Part {
    /// Most spans, each in the slot that the lower bits of its id give. A free slot keeps the box of its last span.
    pub(super) near: [Slot<Box<OpenSpan>>; NEAR],
    /// Spans whose slot was taken by another. Under this lock, no code of the application runs, and nothing waits but for
    /// the slot of a span.
    far: Mutex<FarSpans>,
    /// The number of spans in `far`. Written under its lock, read without it. A thread learns an id after the insertion,
    /// so it sees a number that includes the span.
    pub(super) far_count: AtomicUsize,
}

pub(super) type FarSpans = HashMap<u64, Box<OpenSpan>, IdHasher>;

/// Number of slots in [`Part::near`]. Their spans have the same lower bits in the id, for which slots have the state.
const NEAR: usize = 1 << STATE_BITS;

impl Part {
    fn new() -> Self {
        Self {
            near: std::array::from_fn(|_| Slot::new()),
            far: Mutex::new(FarSpans::default()),
            far_count: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(super) fn slot(&self, id: u64) -> &Slot<Box<OpenSpan>> {
        &self.near[id as usize % NEAR]
    }

    #[inline]
    fn has_far(&self) -> bool {
        self.far_count.load(Ordering::Relaxed) != 0
    }

    /// Whether the span is tracked, in a state from `state` on. May return a false positive.
    #[inline]
    fn may_have(&self, id: u64, state: State) -> bool {
        self.slot(id).may_have(id, state) || self.has_far()
    }

    /// Finds the span, in a state from `state` on, without access to it.
    #[inline]
    fn find(&self, id: u64, state: State) -> Found<'_> {
        match self.slot(id).find(id, state) {
            Ok(_) => Found::Plain(PlainSpan { part: self, id }),
            Err(may_be_near) if may_be_near || self.has_far() => Found::Perhaps,
            Err(_) => Found::Nowhere,
        }
    }

    /// Runs `f` with the spans that are far.
    #[cold]
    pub(super) fn with_far<T>(&self, f: impl FnOnce(&mut FarSpans) -> T) -> T {
        let mut far = self.far.lock().unwrap_or_else(PoisonError::into_inner);
        let result = f(&mut far);
        self.far_count.store(far.len(), Ordering::Relaxed);
        result
    }

    /// Runs `f` with the span, which it must not change.
    #[inline]
    fn look<T>(&self, id: u64, f: impl FnOnce(&OpenSpan) -> T) -> Option<T> {
        match self.slot(id).hold(id) {
            Some(mut access) => access.with(|span| span.as_deref().map(f)),
            None if self.has_far() => self.with_far(|far| far.get(&id).map(|span| f(span))),
            None => None,
        }
    }

    #[inline]
    fn with<T>(&self, id: u64, f: impl FnOnce(&mut OpenSpan) -> T) -> Option<T> {
        let Some(mut access) = self.slot(id).hold(id) else {
            return self
                .has_far()
                .then(|| self.with_far(|far| far.get_mut(&id).map(|span| f(span))))
                .flatten();
        };
        let (result, state) = access.with(|span| {
            let span = span.as_deref_mut()?;
            Some((f(span), span.state()))
        })?;
        access.set(id, state);
        Some(result)
    }

    /// Inserts a span. Returns the previous span of the same id.
    fn insert(&self, id: u64, span: Box<OpenSpan>) -> Option<Box<OpenSpan>> {
        self.with_far(|far| {
            let old = far.remove(&id);
            let slot = self.slot(id);
            let Some(mut access) = slot.hold(id).or_else(|| slot.claim(id)) else {
                return far.insert(id, span).or(old);
            };
            let is_claimed = access.is_free();
            access.set(id, span.state());
            // The box in a free slot is that of an earlier span.
            let near = access.with(|near| near.replace(span));
            drop(access);
            near.filter(|_| !is_claimed).or(old)
        })
    }

    #[inline]
    fn remove_near(&self, id: u64) -> Option<Box<OpenSpan>> {
        let mut access = self.slot(id).hold(id)?;
        access.set_free();
        access.with(Option::take)
    }

    /// To be called for each span that closes, when its slot is no longer held: it has an entry here, too, if another thread
    /// gave it an identity when its creation was about to end, see [`OpenSpans::identity_or_insert`].
    #[inline]
    fn remove_far(&self, id: u64) -> Option<Box<OpenSpan>> {
        self.has_far().then(|| self.with_far(|far| far.remove(&id))).flatten()
    }
}

impl Table {
    fn new() -> Self {
        // Collects into a vector, because an array would be built on the stack, and threads may have small
        // stacks.
        let parts: Box<[Part]> = (0..PARTS).map(|_| Part::new()).collect();
        Self(parts.try_into().unwrap_or_else(|_| unreachable!("exactly PARTS were collected")))
    }

    /// The part for an id. The registry's ids hold the number of the creating thread from bit 38 on, and
    /// below it an index among that thread's spans. So each thread's spans have a part that other threads
    /// seldom use, and places of their own. Ids of any other form work too, but slower.
    #[inline]
    pub(super) fn part(&self, id: u64) -> &Part {
        &self.0[(id >> 38) as usize % PARTS]
    }
}

impl OpenSpans {
    pub(crate) fn new(origin: Origin) -> Self {
        Self {
            tables: Arc::new(PerProcess::new(Table::new())),
            count: AtomicUsize::new(0),
            origin,
            on_child: None,
        }
    }

    /// Access to these spans for other threads than those of the program.
    pub(crate) fn view(&self) -> OpenSpansView {
        OpenSpansView { tables: Arc::clone(&self.tables) }
    }

    /// Calls `begin` in each forked child, when it first has to do with a span.
    pub(crate) fn on_child(&mut self, begin: impl Fn() + Send + Sync + 'static) {
        self.on_child = Some(Box::new(begin));
    }

    #[inline]
    fn table(&self) -> &Table {
        self.tables.get(|| {
            self.count.store(0, Ordering::Relaxed);
            if let Some(begin) = &self.on_child {
                begin();
            }
            Table::new()
        })
    }

    #[inline]
    fn part(&self, id: u64) -> &Part {
        self.table().part(id)
    }

    /// Whether the layer has to handle the enters and exits of this span. May return a false positive:
    /// rarely, and always in a forked child.
    #[inline]
    pub(crate) fn may_need_enter_exit(&self, id: &Id) -> bool {
        let id = id.into_u64();
        self.tables.own().is_none_or(|table| table.part(id).may_have(id, State::Timed))
    }

    /// Whether the span is tracked. May return a false positive: rarely, and always in a forked child.
    #[inline]
    pub(crate) fn may_contain(&self, id: &Id) -> bool {
        let id = id.into_u64();
        self.tables.own().is_none_or(|table| table.part(id).may_have(id, State::Untimed))
    }

    /// Whether there are no spans, of those inserted with `count`. Callers that don't need this pass
    /// `count: false`, because a counter shared by all threads slows them down.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// The place and the memory for a span that is being created. It is not tracked before it is inserted.
    #[inline(always)]
    pub(crate) fn begin(&self, id: &Id, identity: Identity) -> NewSpan<Option<Place<'_>>> {
        let mut new = self.begin_near(id).map_or_else(
            || NewSpan { span: reuse::open_span_of_thread(), place: None },
            |NewSpan { span, place }| NewSpan { span, place: Some(place) },
        );
        new.span.identity = identity;
        new.span.origin = self.origin;
        new
    }

    /// Like [`begin`](Self::begin) for a span with the layer's own ids, which the caller sets. `None` if another span has its
    /// slot.
    #[inline(always)]
    pub(crate) fn begin_near(&self, id: &Id) -> Option<NewSpan<Place<'_>>> {
        let id = id.into_u64();
        let part = self.part(id);
        let mut slot = part.slot(id).claim(id)?;
        let mut span = slot.with(Option::take).unwrap_or_else(reuse::open_span);
        reuse::set_thread(&mut span.record);
        Some(NewSpan { span, place: Place { id, slot, part } })
    }

    /// Inserts a span at its creation. Keeps an identity that an event has already
    /// assigned: a layer below may log while it handles the creation. Replaces an older span of this id that
    /// was never closed.
    #[inline(always)]
    pub(crate) fn insert(&self, id: &Id, new: NewSpan<Option<Place<'_>>>, count: bool) {
        let NewSpan { span, place } = new;
        match place {
            Some(place) => self.insert_near(NewSpan { span, place }, false, count),
            None => self.insert_late(id.into_u64(), span, count),
        }
    }

    /// Like [`insert`](Self::insert). `is_plain` if the span is known to be in the state [`Plain`](State::Plain).
    #[inline(always)]
    pub(crate) fn insert_near(&self, new: NewSpan<Place<'_>>, is_plain: bool, count: bool) {
        let NewSpan { span, place: Place { id, mut slot, part } } = new;
        if part.has_far() {
            drop(slot);
            return self.insert_late(id, span, count);
        }
        #[cfg(test)]
        assert!(!is_plain || span.state() == State::Plain);
        // A debug build does not rely on it.
        let is_plain = is_plain && !cfg!(debug_assertions);
        slot.set(id, if is_plain { State::Plain } else { span.state() });
        slot.with(|value| *value = Some(span));
        drop(slot);
        self.increment(count);
    }

    #[cold]
    fn insert_late(&self, id: u64, span: Box<OpenSpan>, count: bool) {
        let part = self.part(id);
        let drawn = span.identity;
        let Some(old) = part.insert(id, span) else {
            return self.increment(count);
        };
        if old.had_listener {
            return;
        }
        let mut identity = old.identity;
        // The layer's own sampling decision has already decided what is recorded of the span, so the new one
        // stays. If OpenTelemetry decides, everything is recorded.
        if old.origin != Origin::OpenTelemetry {
            identity.ids.sampled = drawn.ids.sampled;
        }
        part.with(id, |span| {
            span.identity = identity;
            span.origin = old.origin;
            span.record.set_trace_state(old.record.trace_state());
            if let Some(baggage) = old.record.baggage() {
                span.record.set_baggage(baggage);
            }
        });
    }

    #[inline]
    fn increment(&self, count: bool) {
        if count {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs `f` with the span, if it is tracked.
    #[inline]
    pub(crate) fn with<T>(&self, id: &Id, f: impl FnOnce(&mut OpenSpan) -> T) -> Option<T> {
        let id = id.into_u64();
        self.part(id).with(id, f)
    }

    /// Like [`with`](Self::with), where `f` changes nothing.
    #[inline]
    pub(crate) fn look<T>(&self, id: &Id, f: impl FnOnce(&OpenSpan) -> T) -> Option<T> {
        let id = id.into_u64();
        self.part(id).look(id, f)
    }

    /// Finds the span without access to it.
    #[inline]
    pub(crate) fn find(&self, id: &Id) -> Found<'_> {
        let id = id.into_u64();
        self.part(id).find(id, State::Untimed)
    }

    /// Notes an enter or an exit, which is all that `note` may change.
    #[inline(always)]
    pub(crate) fn time(&self, id: &Id, note: impl Fn(&mut Timing, Monotonic)) {
        let number = id.into_u64();
        // A forked child looks again, so that a call to find its table is not on the path of all others.
        let Some(table) = self.tables.own() else { return self.time_any(id, note) };
        let part = table.part(number);
        let is_done = match part.slot(number).find(number, State::Timed) {
            Ok(slot) => slot.try_with(|span| time_now(span.as_deref_mut(), &note)).is_some(),
            Err(may_be_near) => !may_be_near && !part.has_far(),
        };
        if !is_done {
            self.time_any(id, note);
        }
    }

    #[cold]
    fn time_any(&self, id: &Id, note: impl Fn(&mut Timing, Monotonic)) {
        let id = id.into_u64();
        let part = self.part(id);
        match part.slot(id).hold(id) {
            Some(mut access) => access.with(|span| time_now(span.as_deref_mut(), note)),
            None if part.has_far() => {
                part.with_far(|far| time_now(far.get_mut(&id).map(|span| &mut **span), note))
            }
            None => {}
        }
    }

    /// Removes the span. `count` must be the same as when it was inserted.
    #[inline]
    pub(crate) fn remove(&self, id: &Id, count: bool) -> Option<Box<OpenSpan>> {
        let id = id.into_u64();
        let part = self.part(id);
        let near = part.remove_near(id);
        if part.has_far() {
            return self.remove_far(part, id, near, count);
        }
        if count && near.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        near
    }

    #[cold]
    fn remove_far(
        &self,
        part: &Part,
        id: u64,
        near: Option<Box<OpenSpan>>,
        count: bool,
    ) -> Option<Box<OpenSpan>> {
        let far = part.remove_far(id);
        if count {
            let entries = usize::from(near.is_some()) + usize::from(far.is_some());
            self.count.fetch_sub(entries, Ordering::Relaxed);
        }
        near.or(far)
    }

    /// Keeps the memory of a removed span for another: in its slot, if that is free, else in the thread.
    #[inline]
    pub(crate) fn give_back(&self, id: &Id, mut span: Box<OpenSpan>) {
        let id = id.into_u64();
        span.clear();
        match self.part(id).slot(id).claim(id) {
            Some(mut slot) => slot.with(|kept| *kept = Some(span)),
            None => reuse::give_back(span),
        }
    }

    /// The identity of the span, if this process or one that it was forked from tracks the span.
    #[inline]
    pub(crate) fn identity(&self, id: &Id) -> Option<Identity> {
        self.look(id, |span| span.identity).or_else(|| self.inherited(id.into_u64()))
    }

    /// The identity of the span in the tables of the processes that this one was forked from.
    #[cold]
    fn inherited(&self, id: u64) -> Option<Identity> {
        // A few attempts, for another thread of this process that looks it up, too. If a thread of the parent accessed the
        // span at the fork, it does so for ever. To this process, the span is then like one created while nobody listened.
        const ATTEMPTS: u32 = 50;
        let known = |table: &Table| {
            let part = table.part(id);
            if let Some(mut access) = part.slot(id).hold_within(id, ATTEMPTS) {
                return access.with(|span| Some(span.as_ref()?.identity));
            }
            if !part.has_far() {
                return None;
            }
            let mut backoff = Backoff::default();
            let far = (0..ATTEMPTS).find_map(|_| {
                let far = part.far.try_lock().ok();
                if far.is_none() {
                    backoff.pause();
                }
                far
            })?;
            Some(far.get(&id)?.identity)
        };
        self.tables.inherited().filter_map(known).last()
    }

    /// The identity of a tracked span. Otherwise starts to track the span, with the identity `drawn`.
    pub(crate) fn identity_or_insert(&self, id: &Id, drawn: Identity, count: bool) -> Identity {
        let id = id.into_u64();
        let part = self.part(id);
        let new = || Box::new(OpenSpan { origin: self.origin, ..OpenSpan::new(drawn) });
        // Another thread may be about to insert the span, too, so both look for it under the lock.
        let known = part.with_far(|far| {
            if let Some(known) = far.get(&id) {
                return Some(known.identity);
            }
            let slot = part.slot(id);
            if let Some(mut access) = slot.hold(id) {
                return access.with(|span| Some(span.as_ref()?.identity));
            }
            match slot.claim(id) {
                Some(mut access) => {
                    let span = new();
                    access.set(id, span.state());
                    access.with(|near| *near = Some(span));
                }
                None => _ = far.insert(id, new()),
            }
            None
        });
        if known.is_none() {
            self.increment(count);
        }
        known.unwrap_or(drawn)
    }
}

/// Notes an enter or an exit.
#[inline(always)]
fn time_now(span: Option<&mut OpenSpan>, note: impl Fn(&mut Timing, Monotonic)) {
    if let Some(timing) = span.and_then(|span| span.timing.as_mut()) {
        note(timing, Monotonic::now());
    }
}

/// What is known of a span without access to it.
pub(crate) enum Found<'a> {
    /// It is tracked and plain, or was a moment ago.
    Plain(PlainSpan<'a>),
    /// It may be tracked.
    Perhaps,
    /// It is not tracked.
    Nowhere,
}

/// A span that is in the state [`Plain`](State::Plain), or was a moment ago.
pub(crate) struct PlainSpan<'a> {
    part: &'a Part,
    id: u64,
}

impl<'a> PlainSpan<'a> {
    #[inline]
    fn slot(&self) -> PlainSlot<'a, Box<OpenSpan>> {
        self.part.slot(self.id).plain(self.id)
    }

    /// Runs `send` with the span if it is still plain. Removes it unless `send` returns `None`. Only for spans that were
    /// inserted without `count`.
    #[inline]
    pub(crate) fn close<T>(
        self,
        send: impl FnOnce(&OpenSpan, &Timing, &'static Callsite) -> Option<T>,
    ) -> Option<T> {
        let mut access = self.slot().try_hold()?;
        let sent = access.with(|span| {
            let span = span.as_deref_mut()?;
            let sent = send(span, span.timing.as_ref()?, span.callsite?)?;
            span.clear_plain();
            Some(sent)
        })?;
        access.set_free();
        drop(access);
        self.part.remove_far(self.id);
        Some(sent)
    }
}

/// A span that is being created. It has no place if another span has its slot.
pub(crate) struct NewSpan<P> {
    pub(crate) span: Box<OpenSpan>,
    place: P,
}

impl NewSpan<Place<'_>> {
    /// Makes the place free again, where the memory stays for another span. Nothing may have been set
    /// but the thread, which stays in a box, and the identity.
    pub(crate) fn cancel(self) {
        let Self { span, place: Place { mut slot, .. } } = self;
        slot.with(|kept| *kept = Some(span));
    }
}

/// The place of a span that is being created.
pub(crate) struct Place<'a> {
    id: u64,
    slot: Access<'a, Box<OpenSpan>>,
    part: &'a Part,
}

/// Access to the open spans of one subscriber for the layer's own threads, and at the end of the program.
#[derive(Clone)]
pub(crate) struct OpenSpansView {
    pub(super) tables: Arc<PerProcess<Table>>,
}

impl OpenSpansView {
    /// Takes the records of this process's open spans. Their identities stay, for the probes of threads that
    /// still run.
    ///
    /// Waits for each lock only briefly: at the end of the program, the thread that holds it may never
    /// release it. Does not ask OpenTelemetry for ids, because that runs code of the application. A span
    /// without ids from there keeps the layer's: OpenTelemetry does not export open spans, so there is
    /// nothing to agree with.
    pub(crate) fn take(&self) -> Vec<UnfinishedSpan> {
        let (now, mut taken) = (Monotonic::now(), Vec::new());
        for part in self.tables.known().into_iter().flat_map(|table| table.0.iter()) {
            for (number, slot) in part.near.iter().enumerate() {
                let access =
                    slot.id(number as u64).and_then(|id| Some((id, slot.hold_within(id, Backoff::MOMENT)?)));
                let Some((id, mut access)) = access else { continue };
                let (unfinished, state) = access.with(|span| {
                    let span = span.as_deref_mut();
                    span.map_or((None, State::Untimed), |span| {
                        (UnfinishedSpan::take(span, now), span.state())
                    })
                });
                access.set(id, state);
                taken.extend(unfinished);
            }
            if let Some(mut far) = process::lock_for_a_moment(&part.far) {
                taken.extend(far.values_mut().filter_map(|open| UnfinishedSpan::take(open, now)));
            }
        }
        taken
    }
}

/// Hashes an id with one multiplication. Ids don't come from outside the process, so collisions can't be
/// provoked.
#[derive(Clone, Default)]
pub(super) struct IdHasher(u64);

impl BuildHasher for IdHasher {
    type Hasher = Self;

    #[inline]
    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for IdHasher {
    #[inline]
    fn write_u64(&mut self, id: u64) {
        let product = u128::from(id) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callsite::{self, tests::metadata};
    use crate::propagation::{Ids, SpanId, TraceId};
    use proptest::prelude::*;
    use std::time::Duration;

    fn identity() -> Identity {
        let ids = Ids { trace_id: TraceId::random(), span_id: SpanId::random(), sampled: true, random: true };
        Identity { ids, parent_id: None, remote: false }
    }

    fn open(identity: Identity) -> Box<OpenSpan> {
        let mut span = Box::new(OpenSpan::new(identity));
        span.had_listener = true;
        span.timing = Some(Timing::start(Monotonic::now()));
        span
    }

    fn insert(spans: &OpenSpans, id: &Id, span: Box<OpenSpan>, count: bool) -> Identity {
        let mut new = spans.begin(id, span.identity);
        new.span = Box::new(OpenSpan { origin: new.span.origin, ..*span });
        spans.insert(id, new, count);
        spans.identity(id).expect("it was inserted")
    }

    #[test]
    fn insert_keeps_an_identity_assigned_by_an_event() {
        let (spans, id) = (OpenSpans::new(Origin::Own), Id::from_u64(7));
        let known = spans.identity_or_insert(&id, identity(), true);
        assert_eq!(insert(&spans, &id, open(identity()), true), known);
        assert_eq!(spans.identity(&id), Some(known));
        // A span that was never closed does not affect the next span of the same id.
        let fresh = identity();
        assert_eq!(insert(&spans, &id, open(fresh), true), fresh);
        assert!(!spans.is_empty());
        assert!(spans.remove(&id, true).is_some());
        assert!(spans.is_empty());
    }

    #[test]
    fn insert_keeps_opentelemetrys_sampling_decision() {
        let id = Id::from_u64(7);
        for (origin, keeps) in
            [(Origin::Own, false), (Origin::Undecided, false), (Origin::OpenTelemetry, true)]
        {
            let spans = OpenSpans::new(Origin::Undecided);
            spans.identity_or_insert(&id, identity(), true);
            spans.with(&id, |span| {
                span.origin = origin;
                span.identity.ids.sampled = false;
            });
            assert_eq!(insert(&spans, &id, open(identity()), true).ids.sampled, !keeps, "{origin:?}");
        }
    }

    #[test]
    fn a_span_is_found_by_its_state() {
        let (spans, id) = (OpenSpans::new(Origin::Own), Id::from_u64(7));
        assert!(!spans.may_contain(&id) && !spans.may_need_enter_exit(&id));
        insert(&spans, &id, open(identity()), false);
        assert!(spans.may_contain(&id) && spans.may_need_enter_exit(&id));
        spans.remove(&id, false);
        assert!(!spans.may_contain(&id) && !spans.may_need_enter_exit(&id));
        // A span with only an identity is found, but does not need its enters and exits until it has times.
        spans.identity_or_insert(&id, identity(), false);
        assert!(spans.may_contain(&id) && !spans.may_need_enter_exit(&id));
        spans.with(&id, |span| span.timing = Some(Timing::start(Monotonic::now())));
        assert!(spans.may_need_enter_exit(&id));
    }

    /// The application's `Debug` may panic, and may create spans.
    #[test]
    fn a_slot_is_free_after_a_panic_and_not_waited_for_before() {
        let (spans, id, other) =
            (OpenSpans::new(Origin::Own), Id::from_u64(7), Id::from_u64(7 + NEAR as u64));
        let panicked = std::panic::catch_unwind(|| {
            let mut new = spans.begin(&id, identity());
            new.span.had_listener = true;
            assert!(!spans.may_contain(&id) && spans.look(&id, |_| ()).is_none());
            insert(&spans, &other, open(identity()), false);
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panicked.is_err() && spans.look(&id, |_| ()).is_none());
        assert!(spans.remove(&other, false).is_some());
        assert!(!spans.begin(&id, identity()).span.had_listener, "with new memory");
        insert(&spans, &id, open(identity()), false);
        assert_eq!(spans.part(7).far_count.load(Ordering::Relaxed), 0);
    }

    /// Another thread may add an event to the span at the same time.
    #[test]
    fn an_enter_and_an_exit_count_although_another_thread_has_the_span() {
        let id = Id::from_u64(7);
        for is_plain in [false, true] {
            let spans = OpenSpans::new(Origin::Own);
            let mut span = open(identity());
            span.callsite = is_plain.then(|| callsite::of(metadata()));
            insert(&spans, &id, span, false);
            assert_eq!(matches!(spans.find(&id), Found::Plain(_)), is_plain);
            for note in [Timing::enter, Timing::exit] {
                let begins = std::sync::Barrier::new(2);
                let held = spans.part(7).slot(7).hold(7).expect("it is near");
                std::thread::scope(|scope| {
                    let noting = scope.spawn(|| {
                        begins.wait();
                        spans.time(&id, note);
                    });
                    begins.wait();
                    // Time for the other thread to find the span held. If it comes later, the test sees less.
                    std::thread::sleep(Duration::from_millis(5));
                    assert!(!noting.is_finished(), "it waits");
                    drop(held);
                });
            }
            let finished =
                spans.look(&id, |span| span.timing.as_ref().is_some_and(|t| t.finished().is_some()));
            assert_eq!(finished, Some(true), "plain: {is_plain}");
        }
    }

    /// What a span leaves in its slot, the next one there must not have.
    #[test]
    fn a_plain_span_leaves_nothing_but_memory() {
        let (spans, id) = (OpenSpans::new(Origin::Own), Id::from_u64(7));
        for _ in 0..2 {
            let mut new = spans.begin(&id, identity());
            assert!(new.span.timing.is_none() && new.span.callsite.is_none() && !new.span.had_listener);
            assert!(new.span.record.fields.bytes().is_empty());
            let callsite = callsite::of(metadata());
            new.span.callsite = Some(callsite);
            new.span.had_listener = true;
            new.span.timing = Some(Timing::start(Monotonic::now()));
            new.span.record.fields.set_text(callsite, "k", "v", &crate::fields::Limits::default());
            spans.insert(&id, new, false);
            let Found::Plain(span) = spans.find(&id) else { unreachable!("it is plain") };
            assert!(span.close(|_, _, _| None::<()>).is_none(), "it stays if it is not taken");
            let [first, second] = [(); 2].map(|()| spans.find(&id));
            let (Found::Plain(first), Found::Plain(second)) = (first, second) else {
                unreachable!("it still is")
            };
            assert!(first.close(|_, _, _| Some(())).is_some());
            assert!(second.close(|_, _, _| Some(())).is_none(), "it is taken once");
        }
    }

    /// An event on another thread may ask for the identity when the creation is about to end.
    #[test]
    fn a_span_with_two_entries_leaves_none() {
        let id = Id::from_u64(7);
        for is_plain in [false, true] {
            let spans = OpenSpans::new(Origin::Own);
            let count = !is_plain;
            let mut new = spans.begin_near(&id).expect("its slot is free");
            new.span.identity = identity();
            new.span.had_listener = true;
            new.span.timing = Some(Timing::start(Monotonic::now()));
            new.span.callsite = is_plain.then(|| callsite::of(metadata()));
            let part = new.place.part;
            // The other thread finds the slot claimed, after this one has found that no span is far.
            spans.identity_or_insert(&id, identity(), count);
            part.far_count.store(0, Ordering::Relaxed);
            spans.insert_near(new, is_plain, count);
            part.with_far(|far| assert_eq!(far.len(), 1));
            if is_plain {
                let Found::Plain(span) = spans.find(&id) else { unreachable!("it is plain") };
                assert!(span.close(|_, _, _| Some(())).is_some());
            } else {
                assert!(spans.remove(&id, count).is_some());
            }
            assert!(spans.is_empty() && spans.look(&id, |_| ()).is_none());
            let next = identity();
            assert_eq!(spans.identity_or_insert(&id, next, false), next);
        }
    }

    /// At the end of the program, the thread that holds a lock may never run again.
    #[test]
    fn takes_unfinished_spans_despite_a_lock_that_is_never_released() {
        let spans = OpenSpans::new(Origin::Own);
        let ids = [7, 8, 8 + NEAR as u64, 1 << 38].map(Id::from_u64);
        for id in &ids {
            let mut span = open(identity());
            span.callsite = Some(callsite::of(metadata()));
            insert(&spans, id, span, false);
        }
        // Not taken: a span of a trace that is not sampled, and one without a record.
        let mut dropped = identity();
        dropped.ids.sampled = false;
        insert(&spans, &Id::from_u64(9), open(dropped), false);
        spans.identity_or_insert(&Id::from_u64(10), identity(), false);
        let unfinished = spans.view();
        let part = spans.part(ids[3].into_u64());
        let held = part.slot(ids[3].into_u64()).hold(ids[3].into_u64());
        assert!(held.is_some());
        assert_eq!(unfinished.take().len(), 3);
        drop(held);
        assert_eq!(unfinished.take().len(), 1);
        assert_eq!(unfinished.take().len(), 0, "each is taken once");
        assert!(ids.iter().all(|id| spans.identity(id).is_some()), "probes still have the identities");
    }

    proptest! {
        /// Even while other spans of the same place are inserted and removed.
        #[test]
        fn states_never_miss_a_tracked_span(
            steps in prop::collection::vec((0..3, 1..4u64, 0..3u64), 1..200),
        ) {
            let (spans, mut model) = (OpenSpans::new(Origin::Own), HashMap::new());
            for (step, low, high) in steps {
                let id = low + high * NEAR as u64;
                let mut span = open(identity());
                if step == 0 {
                    span.timing = None;
                }
                let timed = span.timing.is_some();
                if step == 2 {
                    spans.remove(&Id::from_u64(id), false);
                    model.remove(&id);
                } else {
                    insert(&spans, &Id::from_u64(id), span, false);
                    model.insert(id, timed);
                }
                for (id, timed) in &model {
                    let id = Id::from_u64(*id);
                    prop_assert!(spans.may_contain(&id), "{:?}", id);
                    prop_assert!(spans.may_need_enter_exit(&id) || !timed, "{:?}", id);
                }
            }
        }

        /// A part behaves like a map, whether spans are near or far.
        #[test]
        fn spans_are_found_by_their_ids(
            steps in prop::collection::vec((any::<bool>(), 1..4u64, 0..3u64), 1..200),
        ) {
            let (part, mut model) = (Part::new(), HashMap::new());
            for (insert, low, high) in steps {
                let id = low + high * NEAR as u64;
                if insert {
                    let identity = identity();
                    let old = part.insert(id, open(identity)).map(|span| span.identity);
                    prop_assert_eq!(old, model.insert(id, identity));
                } else {
                    prop_assert_eq!(part.remove_near(id).or(part.remove_far(id)).map(|span| span.identity), model.remove(&id));
                }
                for (id, identity) in &model {
                    prop_assert_eq!(part.look(*id, |span| span.identity), Some(*identity));
                }
                let near = part.near.iter().enumerate().filter(|(n, slot)| slot.id(*n as u64).is_some()).count();
                prop_assert_eq!(near + part.far_count.load(Ordering::Relaxed), model.len());
            }
        }
    }
}
