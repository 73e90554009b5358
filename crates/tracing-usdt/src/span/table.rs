//! The table of open spans, by the registry's id. A span is *tracked* if it is in this table.
//!
//! The table replaces the registry's extensions, which need a reference count, a lock, a lookup by type and
//! an allocation for each span. This took 40 of the 190 ns of a span.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_core::span::Id;

use super::identity::{Identity, Origin};
use super::open::OpenSpan;
use super::unfinished::UnfinishedSpan;
use crate::clock::Monotonic;
use crate::process::{self, PerProcess};

/// The open spans of one subscriber. A forked child has its own table.
pub(crate) struct OpenSpans {
    tables: Arc<PerProcess<Table>>,
    /// Number of tracked spans, of those that were inserted with `count`.
    count: AtomicUsize,
    /// The origin of every new identity.
    origin: Origin,
}

/// Split into parts with a lock each, so that threads seldom wait for each other.
struct Table(Box<[Part; PARTS]>);

const PARTS: usize = 64;

/// Aligned so that no two parts share a cache line, or a pair of lines that the processor fetches together.
#[repr(align(128))]
struct Part {
    /// Two bits for each place `n` of [`Slots::near`]. Bit `n` is set while the part may contain a span of that
    /// place. Bit `n + NEAR` is set while such a span may need its enters and exits.
    /// So the callbacks of an untracked span cost only a load, and so do the enters and exits of a span that
    /// is not sampled.
    ///
    /// Written under the lock, read without it. A thread learns an id after the insertion, so it sees the bits.
    marks: AtomicU64,
    slots: Mutex<Slots>,
}

/// A map from ids to spans, with an array for the common case.
struct Slots {
    /// Most spans, each at the place that the lower bits of its id give.
    near: [Option<(u64, Box<OpenSpan>)>; NEAR],
    /// Spans whose place was taken by another.
    far: HashMap<u64, Box<OpenSpan>, IdHasher>,
}

/// Number of places in [`Slots::near`]: half of the bits of [`Part::marks`].
const NEAR: usize = 32;

impl Part {
    fn new() -> Self {
        Self { marks: AtomicU64::new(0), slots: Mutex::new(Slots::new()) }
    }

    #[inline]
    fn bit(id: u64) -> u64 {
        1 << (id as usize % NEAR)
    }

    #[inline]
    fn may_contain(&self, id: u64) -> bool {
        self.marks.load(Ordering::Relaxed) & Self::bit(id) != 0
    }

    #[inline]
    fn may_need_enter_exit(&self, id: u64) -> bool {
        self.marks.load(Ordering::Relaxed) & Self::bit(id) << NEAR != 0
    }

    /// Under this lock, no code of the application runs, and nothing waits.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the bits of a span that has been inserted or changed.
    #[inline]
    fn mark(&self, id: u64, needs_enter_exit: bool) {
        let marks = Self::bit(id) | if needs_enter_exit { Self::bit(id) << NEAR } else { 0 };
        self.marks.store(self.marks.load(Ordering::Relaxed) | marks, Ordering::Relaxed);
    }

    /// Clears the bits of a span that has been removed. Keeps them while `far` has spans, since one may have
    /// the same place.
    #[inline]
    fn unmark(&self, locked: &Slots, id: u64) {
        if locked.near[id as usize % NEAR].is_none() && locked.far.is_empty() {
            let marks = Self::bit(id) | Self::bit(id) << NEAR;
            self.marks.store(self.marks.load(Ordering::Relaxed) & !marks, Ordering::Relaxed);
        }
    }
}

impl Slots {
    fn new() -> Self {
        Self { near: [const { None }; NEAR], far: HashMap::default() }
    }

    #[inline]
    fn get(&mut self, id: u64) -> Option<&mut OpenSpan> {
        let near = &mut self.near[id as usize % NEAR];
        match near {
            Some((near_id, span)) if *near_id == id => Some(span),
            _ => get_far(&mut self.far, id),
        }
    }

    /// Inserts a span. Returns the previous span of the same id.
    #[inline]
    fn insert(&mut self, id: u64, span: Box<OpenSpan>) -> Option<Box<OpenSpan>> {
        // The previous span of this id may be in `far`, although its place has become free since.
        let old = if self.far.is_empty() { None } else { self.far.remove(&id) };
        let place = &mut self.near[id as usize % NEAR];
        match place {
            Some((near_id, _)) if *near_id != id => self.far.insert(id, span).or(old),
            _ => place.replace((id, span)).map(|(_, near)| near).or(old),
        }
    }

    #[inline]
    fn remove(&mut self, id: u64) -> Option<Box<OpenSpan>> {
        match self.near[id as usize % NEAR].take_if(|(near_id, _)| *near_id == id) {
            Some((_, span)) => Some(span),
            None => self.remove_far(id),
        }
    }

    #[cold]
    fn remove_far(&mut self, id: u64) -> Option<Box<OpenSpan>> {
        self.far.remove(&id)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut OpenSpan> {
        let near = self.near.iter_mut().flatten().map(|(_, span)| &mut **span);
        near.chain(self.far.values_mut().map(|span| &mut **span))
    }
}

#[cold]
fn get_far(far: &mut HashMap<u64, Box<OpenSpan>, IdHasher>, id: u64) -> Option<&mut OpenSpan> {
    far.get_mut(&id).map(|span| &mut **span)
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
    fn part(&self, id: u64) -> &Part {
        &self.0[(id >> 38) as usize % PARTS]
    }
}

impl OpenSpans {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { tables: Arc::new(PerProcess::new(Table::new())), count: AtomicUsize::new(0), origin }
    }

    /// Access to these spans for the end of the program.
    pub(crate) fn unfinished(&self) -> OpenSpansAtExit {
        OpenSpansAtExit { tables: Arc::clone(&self.tables) }
    }

    #[inline]
    fn table(&self) -> &Table {
        self.tables.get(|| {
            self.count.store(0, Ordering::Relaxed);
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
        self.tables.own().is_none_or(|table| table.part(id).may_need_enter_exit(id))
    }

    /// Whether the span is tracked. May return a false positive: rarely, and always in a forked child.
    #[inline]
    pub(crate) fn may_contain(&self, id: &Id) -> bool {
        let id = id.into_u64();
        self.tables.own().is_none_or(|table| table.part(id).may_contain(id))
    }

    /// Whether there are no spans, of those inserted with `count`. Callers that don't need this pass
    /// `count: false`, because a counter shared by all threads slows them down.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Inserts a span at its creation, and returns its identity. Keeps an identity that an event has already
    /// assigned: a layer below may log while it handles the creation. Replaces an older span of this id that
    /// was never closed.
    #[inline]
    pub(crate) fn insert(&self, id: &Id, mut span: Box<OpenSpan>, count: bool) -> Identity {
        let (id, drawn) = (id.into_u64(), span.identity);
        span.origin = self.origin;
        let part = self.part(id);
        let mut slots = part.lock();
        part.mark(id, span.needs_enter_exit());
        let Some(old) = slots.insert(id, span) else {
            drop(slots);
            self.increment(count);
            return drawn;
        };
        if old.had_listener {
            return drawn;
        }
        let mut identity = old.identity;
        // The layer's own sampling decision has already decided what is recorded of the span, so the new one
        // stays. If OpenTelemetry decides, everything is recorded.
        if old.origin != Origin::OpenTelemetry {
            identity.ids.sampled = drawn.ids.sampled;
        }
        if let Some(span) = slots.get(id) {
            span.identity = identity;
            span.origin = old.origin;
            span.record.set_trace_state(old.record.trace_state());
            if let Some(baggage) = old.record.baggage() {
                span.record.set_baggage(baggage);
            }
        }
        identity
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
        self.part(id).lock().get(id).map(f)
    }

    /// Like [`with`](Self::with), where `f` may change whether the span needs its enters and exits.
    pub(crate) fn update(&self, id: &Id, f: impl FnOnce(&mut OpenSpan)) {
        let id = id.into_u64();
        let part = self.part(id);
        let mut slots = part.lock();
        if let Some(span) = slots.get(id) {
            f(span);
            part.mark(id, span.needs_enter_exit());
        }
    }

    /// Removes the span. `count` must be the same as when it was inserted.
    #[inline]
    pub(crate) fn remove(&self, id: &Id, count: bool) -> Option<Box<OpenSpan>> {
        let id = id.into_u64();
        let part = self.part(id);
        let mut slots = part.lock();
        let span = slots.remove(id);
        part.unmark(&slots, id);
        drop(slots);
        if count && span.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        span
    }

    /// The identity of the span, if this process or one that it was forked from tracks the span.
    #[inline]
    pub(crate) fn identity(&self, id: &Id) -> Option<Identity> {
        self.with(id, |span| span.identity).or_else(|| self.inherited(id.into_u64()))
    }

    /// The identity of the span in the tables of the processes that this one was forked from.
    #[cold]
    fn inherited(&self, id: u64) -> Option<Identity> {
        // Not `lock`: if a thread of the parent held the lock at the fork, it stays locked for ever. To this
        // process, the spans behind it are then like spans created while nobody listened.
        let known = |table: &Table| Some(table.part(id).slots.try_lock().ok()?.get(id)?.identity);
        self.tables.inherited().filter_map(known).last()
    }

    /// The identity of a tracked span. Otherwise starts to track the span, with the identity `drawn`.
    pub(crate) fn identity_or_insert(&self, id: &Id, drawn: Identity, count: bool) -> Identity {
        let id = id.into_u64();
        let part = self.part(id);
        let mut slots = part.lock();
        if let Some(known) = slots.get(id) {
            return known.identity;
        }
        slots.insert(id, Box::new(OpenSpan { origin: self.origin, ..OpenSpan::new(drawn) }));
        part.mark(id, self.origin == Origin::Undecided);
        drop(slots);
        self.increment(count);
        drawn
    }
}

/// Access to the open spans of one subscriber at the end of the program.
pub(crate) struct OpenSpansAtExit {
    tables: Arc<PerProcess<Table>>,
}

impl OpenSpansAtExit {
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
            if let Some(mut slots) = process::lock_for_a_moment(&part.slots) {
                taken.extend(slots.all_mut().filter_map(|open| UnfinishedSpan::take(open, now)));
            }
        }
        taken
    }
}

/// Hashes an id with one multiplication. Ids don't come from outside the process, so collisions can't be
/// provoked.
#[derive(Clone, Default)]
struct IdHasher(u64);

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
    use crate::span::Timing;
    use proptest::prelude::*;

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

    #[test]
    fn insert_keeps_an_identity_assigned_by_an_event() {
        let (spans, id) = (OpenSpans::new(Origin::Own), Id::from_u64(7));
        let known = spans.identity_or_insert(&id, identity(), true);
        assert_eq!(spans.insert(&id, open(identity()), true), known);
        assert_eq!(spans.identity(&id), Some(known));
        // A span that was never closed does not affect the next span of the same id.
        let fresh = identity();
        assert_eq!(spans.insert(&id, open(fresh), true), fresh);
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
            spans.update(&id, |span| {
                span.origin = origin;
                span.identity.ids.sampled = false;
            });
            assert_eq!(spans.insert(&id, open(identity()), true).ids.sampled, !keeps, "{origin:?}");
        }
    }

    #[test]
    fn the_marks_of_a_span_are_set_and_cleared() {
        let (spans, id) = (OpenSpans::new(Origin::Own), Id::from_u64(7));
        assert!(!spans.may_contain(&id) && !spans.may_need_enter_exit(&id));
        spans.insert(&id, open(identity()), false);
        assert!(spans.may_contain(&id) && spans.may_need_enter_exit(&id));
        spans.remove(&id, false);
        assert!(!spans.may_contain(&id) && !spans.may_need_enter_exit(&id));
        // A span with only an identity is found, but does not need its enters and exits until it has times.
        spans.identity_or_insert(&id, identity(), false);
        assert!(spans.may_contain(&id) && !spans.may_need_enter_exit(&id));
        spans.update(&id, |span| span.timing = Some(Timing::start(Monotonic::now())));
        assert!(spans.may_need_enter_exit(&id));
    }

    /// At the end of the program, the thread that holds a lock may never run again.
    #[test]
    fn takes_unfinished_spans_despite_a_lock_that_is_never_released() {
        let spans = OpenSpans::new(Origin::Own);
        let ids = [7, 8, 8 + NEAR as u64, 1 << 38].map(Id::from_u64);
        for id in &ids {
            let mut span = open(identity());
            span.callsite = Some(callsite::of(metadata()));
            spans.insert(id, span, false);
        }
        // Not taken: a span of a trace that is not sampled, and one without a record.
        let mut dropped = identity();
        dropped.ids.sampled = false;
        spans.insert(&Id::from_u64(9), open(dropped), false);
        spans.identity_or_insert(&Id::from_u64(10), identity(), false);
        let unfinished = spans.unfinished();
        let held = spans.part(ids[3].into_u64()).lock();
        assert_eq!(unfinished.take().len(), 3);
        drop(held);
        assert_eq!(unfinished.take().len(), 1);
        assert_eq!(unfinished.take().len(), 0, "each is taken once");
        assert!(ids.iter().all(|id| spans.identity(id).is_some()), "probes still have the identities");
    }

    proptest! {
        /// Even while other spans of the same place are inserted and removed.
        #[test]
        fn marks_never_miss_a_tracked_span(
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
                    spans.insert(&Id::from_u64(id), span, false);
                    model.insert(id, timed);
                }
                for (id, timed) in &model {
                    let id = Id::from_u64(*id);
                    prop_assert!(spans.may_contain(&id), "{:?}", id);
                    prop_assert!(spans.may_need_enter_exit(&id) || !timed, "{:?}", id);
                }
            }
        }

        /// `Slots` behaves like a map, whether spans are near or far.
        #[test]
        fn spans_are_found_by_their_ids(
            steps in prop::collection::vec((any::<bool>(), 1..4u64, 0..3u64), 1..200),
        ) {
            let (mut part, mut model) = (Slots::new(), HashMap::new());
            for (insert, low, high) in steps {
                let id = low + high * NEAR as u64;
                if insert {
                    let identity = identity();
                    let old = part.insert(id, open(identity)).map(|span| span.identity);
                    prop_assert_eq!(old, model.insert(id, identity));
                } else {
                    prop_assert_eq!(part.remove(id).map(|span| span.identity), model.remove(&id));
                }
                for (id, identity) in &model {
                    prop_assert_eq!(part.get(*id).map(|span| span.identity), Some(*identity));
                }
                prop_assert_eq!(part.all_mut().count(), model.len());
            }
        }
    }
}
