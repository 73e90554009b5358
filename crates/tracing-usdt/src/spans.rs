//! All open spans that anyone listens to, by the registry's id.
//!
//! Not in the registry's extensions: those take a lock, a lookup by type and an allocation for each
//! span, and before them a reference to be counted. That was 40 ns of 190.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_core::span::Id;

use crate::identity::Identity;
use crate::process::PerProcess;
use crate::span::OpenSpan;

/// The open spans of one subscriber; a forked child has its own.
pub(crate) struct Spans {
    tables: PerProcess<Table>,
    /// How many there are, as far as they are counted.
    count: AtomicUsize,
}

/// In parts, so that threads seldom meet.
struct Table(Box<[Mutex<Part>]>);

const PARTS: usize = 64;

/// With cache lines of its own.
#[repr(align(128))]
struct Part {
    /// Most spans are found here, at the lower bits of their ids.
    near: [Option<(u64, Box<OpenSpan>)>; NEAR],
    /// Those whose place was taken.
    far: HashMap<u64, Box<OpenSpan>, OfId>,
}

const NEAR: usize = 32;

impl Part {
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

    fn all(&self) -> impl Iterator<Item = &OpenSpan> {
        let near = self.near.iter().flatten().map(|(_, span)| &**span);
        near.chain(self.far.values().map(|span| &**span))
    }
}

#[cold]
fn get_far(far: &mut HashMap<u64, Box<OpenSpan>, OfId>, id: u64) -> Option<&mut OpenSpan> {
    far.get_mut(&id).map(|span| &mut **span)
}

impl Table {
    fn new() -> Self {
        Self((0..PARTS).map(|_| Mutex::new(Part::new())).collect())
    }

    /// The registry's ids have the creating thread's number from bit 38 on, and count its spans in the
    /// bits below, so that each thread finds its own in a part, and in places, that others seldom use. For
    /// any other ids this is as right, if slower.
    #[inline]
    fn part(&self, id: u64) -> &Mutex<Part> {
        &self.0[(id >> 38) as usize % PARTS]
    }
}

impl Spans {
    pub(crate) fn new() -> Self {
        Self { tables: PerProcess::new(Table::new()), count: AtomicUsize::new(0) }
    }

    #[inline]
    fn table(&self) -> &Table {
        self.tables.get(|| {
            self.count.store(0, Ordering::Relaxed);
            Table::new()
        })
    }

    /// Nothing of the user's runs under the lock, and nothing that waits.
    #[inline]
    fn lock(&self, id: u64) -> MutexGuard<'_, Part> {
        self.table().part(id).lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut part = self.lock(id);
        let Some(old) = part.insert(id, span) else {
            drop(part);
            self.add(count);
            return drawn;
        };
        if old.begun {
            return drawn;
        }
        // What of it is recorded was decided by what was drawn now.
        let mut identity = old.identity;
        identity.context.sampled = drawn.context.sampled;
        if let Some(span) = part.get(id) {
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
        self.lock(id).get(id).map(f)
    }

    #[inline]
    pub(crate) fn remove(&self, id: &Id, count: bool) -> Option<Box<OpenSpan>> {
        let id = id.into_u64();
        let span = self.lock(id).remove(id);
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
        let known = |table: &Table| Some(table.part(id).try_lock().ok()?.get(id)?.identity);
        self.tables.inherited().filter_map(known).last()
    }

    /// The identity that the span has from now on: `drawn`, unless another thread was faster.
    pub(crate) fn meet(&self, id: &Id, drawn: Identity, count: bool) -> Identity {
        let id = id.into_u64();
        let mut part = self.lock(id);
        if let Some(known) = part.get(id) {
            return known.identity;
        }
        part.insert(id, Box::new(OpenSpan::new(drawn)));
        drop(part);
        self.add(count);
        drawn
    }

    /// How many spans with a record there are, in this process.
    pub(crate) fn recorded(&self) -> u64 {
        let recorded = |part: &Mutex<Part>| {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.all().filter(|span| span.callsite.is_some() && span.identity.context.sampled).count()
        };
        self.table().0.iter().map(recorded).sum::<usize>() as u64
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
    use crate::clock::Monotonic;
    use crate::clock::wall_offset;
    use crate::context::{Ids, SpanId, TraceId};
    use crate::span::Timing;
    use proptest::prelude::*;

    fn identity() -> Identity {
        let context =
            Ids { trace_id: TraceId::random(), span_id: SpanId::random(), sampled: true, random: true };
        Identity { context, parent_id: None, remote: false, wall: wall_offset(Monotonic::now()) }
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

    proptest! {
        /// Near or far, it is a map.
        #[test]
        fn spans_are_found_by_their_ids(
            steps in prop::collection::vec((any::<bool>(), 1..4u64, 0..3u64), 1..200),
        ) {
            let (mut part, mut model) = (Part::new(), HashMap::new());
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
                prop_assert_eq!(part.all().count(), model.len());
            }
        }
    }
}
