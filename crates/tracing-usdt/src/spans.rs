//! All open spans that anyone listens to, by the registry's id.
//!
//! Not in the registry's extensions: those take a lock, a lookup by type and an allocation for each
//! span, and before them a reference to be counted. That was 40 ns of 190.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_core::span::Id;

use crate::clock::Monotonic;
use crate::identity::Identity;
use crate::otel;
use crate::process::{self, PerProcess};
use crate::span::{OpenSpan, UnfinishedSpan};

/// The open spans of one subscriber; a forked child has its own.
pub(crate) struct Spans {
    tables: Arc<PerProcess<Table>>,
    /// How many there are, as far as they are counted.
    count: AtomicUsize,
}

/// In parts, so that threads seldom meet.
struct Table(Box<[Part; PARTS]>);

const PARTS: usize = 64;

/// With cache lines of its own.
#[repr(align(128))]
struct Part {
    /// For each place a bit, set while there may be a span of it; and above them, another while something is
    /// to be noted of what happens to that span. So that a span of which there is nothing to note, since its
    /// trace is not sampled, costs at its enter, exit and close no more than this look.
    ///
    /// Written under the lock. Whoever has an id got it from the thread that put its span here, after it did.
    marks: AtomicU64,
    slots: Mutex<Slots>,
}

struct Slots {
    /// Most spans are found here, at the lower bits of their ids.
    near: [Option<(u64, Box<OpenSpan>)>; NEAR],
    /// Those whose place was taken.
    far: HashMap<u64, Box<OpenSpan>, OfId>,
}

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
    fn may_have(&self, id: u64) -> bool {
        self.marks.load(Ordering::Relaxed) & Self::bit(id) != 0
    }

    #[inline]
    fn watches(&self, id: u64) -> bool {
        self.marks.load(Ordering::Relaxed) & Self::bit(id) << NEAR != 0
    }

    /// Nothing of the user's runs under the lock, and nothing that waits.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A span has been put here, or has changed.
    #[inline]
    fn mark(&self, id: u64, timed: bool) {
        // Beside OpenTelemetry, the first enter decides who it is.
        let watched = otel::IS_ON || timed;
        let marks = Self::bit(id) | if watched { Self::bit(id) << NEAR } else { 0 };
        self.marks.store(self.marks.load(Ordering::Relaxed) | marks, Ordering::Relaxed);
    }

    /// A span has been taken out. While there are far ones the mark stays, since one may be of the same place.
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
            Some((of, span)) if *of == id => Some(span),
            _ => get_far(&mut self.far, id),
        }
    }

    /// What was there before comes back.
    #[inline]
    fn insert(&mut self, id: u64, span: Box<OpenSpan>) -> Option<Box<OpenSpan>> {
        // It may be among the far ones: then its place has become free in the meantime.
        let old = if self.far.is_empty() { None } else { self.far.remove(&id) };
        let place = &mut self.near[id as usize % NEAR];
        match place {
            Some((other, _)) if *other != id => self.far.insert(id, span).or(old),
            _ => place.replace((id, span)).map(|(_, near)| near).or(old),
        }
    }

    #[inline]
    fn remove(&mut self, id: u64) -> Option<Box<OpenSpan>> {
        match self.near[id as usize % NEAR].take_if(|(near, _)| *near == id) {
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
fn get_far(far: &mut HashMap<u64, Box<OpenSpan>, OfId>, id: u64) -> Option<&mut OpenSpan> {
    far.get_mut(&id).map(|span| &mut **span)
}

impl Table {
    fn new() -> Self {
        // Not by way of the stack, of which a thread may have little.
        let parts: Box<[Part]> = (0..PARTS).map(|_| Part::new()).collect();
        Self(parts.try_into().unwrap_or_else(|_| unreachable!("so many were made")))
    }

    /// The registry's ids have the creating thread's number from bit 38 on, and count its spans in the
    /// bits below, so that each thread finds its own in a part, and in places, that others seldom use. For
    /// any other ids this is as right, if slower.
    #[inline]
    fn part(&self, id: u64) -> &Part {
        &self.0[(id >> 38) as usize % PARTS]
    }
}

impl Spans {
    pub(crate) fn new() -> Self {
        Self { tables: Arc::new(PerProcess::new(Table::new())), count: AtomicUsize::new(0) }
    }

    /// For taking them at the end of the program.
    pub(crate) fn unfinished(&self) -> Unfinished {
        Unfinished { tables: Arc::clone(&self.tables) }
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

    /// Whether what happens to the span is to be noted. Seldom so although it is not.
    ///
    /// Not inlined, so that idle callbacks have no registers to save.
    #[inline(never)]
    pub(crate) fn watches(&self, id: &Id) -> bool {
        let id = id.into_u64();
        self.tables.own().is_none_or(|table| table.part(id).watches(id))
    }

    /// Whether it is here. Seldom so although it is not.
    #[inline(never)]
    pub(crate) fn may_have(&self, id: &Id) -> bool {
        let id = id.into_u64();
        self.tables.own().is_none_or(|table| table.part(id).may_have(id))
    }

    /// Whether there are none. Kept by those that `count`, since two threads that count all of their
    /// spans in one place wait for each other.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Puts a span there as it begins, in the place of an old one that was never closed. The identity
    /// that it has: one that an event of a layer below gave it a moment ago stands.
    #[inline]
    pub(crate) fn begin(&self, id: &Id, span: Box<OpenSpan>, count: bool) -> Identity {
        let (id, drawn) = (id.into_u64(), span.identity);
        let part = self.part(id);
        let mut slots = part.lock();
        part.mark(id, span.timing.is_some());
        let Some(old) = slots.insert(id, span) else {
            drop(slots);
            self.add(count);
            return drawn;
        };
        if old.begun {
            return drawn;
        }
        // What of it is recorded was decided by what was drawn now.
        let mut identity = old.identity;
        identity.context.sampled = drawn.context.sampled;
        if let Some(span) = slots.get(id) {
            span.identity = identity;
            span.origin = old.origin;
            span.record.set_trace_state(old.record.trace_state());
        }
        identity
    }

    #[inline]
    fn add(&self, count: bool) {
        if count {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs `f` on the span.
    #[inline]
    pub(crate) fn with<T>(&self, id: &Id, f: impl FnOnce(&mut OpenSpan) -> T) -> Option<T> {
        let id = id.into_u64();
        self.part(id).lock().get(id).map(f)
    }

    /// The same, where `f` may begin to note what happens to the span.
    pub(crate) fn change(&self, id: &Id, f: impl FnOnce(&mut OpenSpan)) {
        let id = id.into_u64();
        let part = self.part(id);
        let mut slots = part.lock();
        if let Some(span) = slots.get(id) {
            f(span);
            part.mark(id, span.timing.is_some());
        }
    }

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

    /// Who the span is, if that is known: to this process, or to those it was forked from.
    #[inline]
    pub(crate) fn identity(&self, id: &Id) -> Option<Identity> {
        self.with(id, |span| span.identity).or_else(|| self.inherited(id.into_u64()))
    }

    #[cold]
    fn inherited(&self, id: u64) -> Option<Identity> {
        // Not `lock`: a thread of the parent that held it at the fork is not here to let go. Then its
        // spans are, to this process, like any that began before anyone listened.
        let known = |table: &Table| Some(table.part(id).slots.try_lock().ok()?.get(id)?.identity);
        self.tables.inherited().filter_map(known).last()
    }

    /// The identity that the span has from now on: `drawn`, unless another thread was faster.
    pub(crate) fn meet(&self, id: &Id, drawn: Identity, count: bool) -> Identity {
        let id = id.into_u64();
        let part = self.part(id);
        let mut slots = part.lock();
        if let Some(known) = slots.get(id) {
            return known.identity;
        }
        slots.insert(id, Box::new(OpenSpan::new(drawn)));
        part.mark(id, false);
        drop(slots);
        self.add(count);
        drawn
    }
}

/// The open spans of one subscriber, for whoever has to say the last word of them.
pub(crate) struct Unfinished {
    tables: Arc<PerProcess<Table>>,
}

impl Unfinished {
    /// Takes what was recorded of this process's spans. Their identities stay, for the probes of a thread that goes on.
    ///
    /// Waits for no lock for long: at the end of the program, its holder may never let go. Nor is OpenTelemetry asked,
    /// which runs user code: a span that it has not started yet keeps ids of ours, since it exports none that is open.
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

/// Hashes an id, which is a number that nobody outside chose, by one multiplication.
#[derive(Clone, Default)]
struct OfId(u64);

impl BuildHasher for OfId {
    type Hasher = Self;

    #[inline]
    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for OfId {
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
    use crate::callsite;
    use crate::context::{Ids, SpanId, TraceId};
    use crate::span::Timing;
    use crate::span::tests::metadata;
    use proptest::prelude::*;

    fn identity() -> Identity {
        let context =
            Ids { trace_id: TraceId::random(), span_id: SpanId::random(), sampled: true, random: true };
        Identity { context, parent_id: None, remote: false }
    }

    fn open(identity: Identity) -> Box<OpenSpan> {
        let mut span = Box::new(OpenSpan::new(identity));
        span.begun = true;
        span.timing = Some(Timing::start(Monotonic::now()));
        span
    }

    #[test]
    fn the_identity_that_a_layer_below_gave_stands() {
        let (spans, id) = (Spans::new(), Id::from_u64(7));
        let known = spans.meet(&id, identity(), true);
        assert_eq!(spans.begin(&id, open(identity()), true), known);
        assert_eq!(spans.identity(&id), Some(known));
        // One that was never closed says nothing of the next of its id.
        let fresh = identity();
        assert_eq!(spans.begin(&id, open(fresh), true), fresh);
        assert!(!spans.is_empty());
        assert!(spans.remove(&id, true).is_some());
        assert!(spans.is_empty());
    }

    #[test]
    fn what_is_gone_is_no_longer_looked_for() {
        let (spans, id) = (Spans::new(), Id::from_u64(7));
        assert!(!spans.may_have(&id) && !spans.watches(&id));
        spans.begin(&id, open(identity()), false);
        assert!(spans.may_have(&id) && spans.watches(&id));
        spans.remove(&id, false);
        assert!(!spans.may_have(&id) && !spans.watches(&id));
        // What is only known by name is found, but nothing is noted of it, until it has times.
        spans.meet(&id, identity(), false);
        assert!(spans.may_have(&id) && spans.watches(&id) == otel::IS_ON);
        spans.change(&id, |span| span.timing = Some(Timing::start(Monotonic::now())));
        assert!(spans.watches(&id));
    }

    /// At the end of the program, the thread that holds a lock may never go on.
    #[test]
    fn open_spans_are_taken_past_a_lock_that_nobody_lets_go() {
        let spans = Spans::new();
        let ids = [7, 8, 8 + NEAR as u64, 1 << 38].map(Id::from_u64);
        for id in &ids {
            let mut span = open(identity());
            span.callsite = Some(callsite::of(metadata()));
            spans.begin(id, span, false);
        }
        // Of no use: one is of a trace that is not sampled, and nothing is known of the other.
        let mut left_out = identity();
        left_out.context.sampled = false;
        spans.begin(&Id::from_u64(9), open(left_out), false);
        spans.meet(&Id::from_u64(10), identity(), false);
        let unfinished = spans.unfinished();
        let held = spans.part(ids[3].into_u64()).lock();
        assert_eq!(unfinished.take().len(), 3);
        drop(held);
        assert_eq!(unfinished.take().len(), 1);
        assert_eq!(unfinished.take().len(), 0, "each is taken once");
        assert!(ids.iter().all(|id| spans.identity(id).is_some()), "probes still know who they are");
    }

    proptest! {
        /// Whatever shares its place comes and goes.
        #[test]
        fn no_span_is_overlooked(
            steps in prop::collection::vec((0..3, 1..4u64, 0..3u64), 1..200),
        ) {
            let (spans, mut model) = (Spans::new(), HashMap::new());
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
                    spans.begin(&Id::from_u64(id), span, false);
                    model.insert(id, timed);
                }
                for (id, timed) in &model {
                    let id = Id::from_u64(*id);
                    prop_assert!(spans.may_have(&id), "{:?}", id);
                    prop_assert!(spans.watches(&id) || !timed, "{:?}", id);
                }
            }
        }

        /// Near or far, it is a map.
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
