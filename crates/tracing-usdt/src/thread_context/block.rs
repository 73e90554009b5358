//! The memory in which a thread says which spans it is in. `docs/wire.md` describes it for other readers.
//!
//! Readers look while the thread is stopped, anywhere between two instructions. So the order of the stores matters, for
//! which fences of the compiler are enough, and at each point what a reader sees must be right:
//!
//! * The ids from the depth on are 0. A level whose id is 0 is about to be filled, or was just emptied.
//! * A level has its id last and loses it first.
//!
//! A signal handler may enter and exit spans in the middle of an enter or of an exit of the innermost span.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use crate::clock::Monotonic;
use crate::propagation::Ids;

/// The most levels that are published. Spans that are entered while all are in use only count.
const DEPTH: usize = 64;

/// How many of the last exits are kept. A power of two.
const LAST_EXITS: usize = 16;

/// Where the parts of [`Block::word`] begin.
const HIDDEN_SHIFT: u32 = 8;
const OWNER_SHIFT: u32 = 16;

/// The number of this layout. Readers know it by that: another order or size of members needs another number.
pub(super) const LAYOUT: u64 = 1;

#[repr(C, align(64))]
pub(super) struct Block {
    /// The depth, in 8 bits; how many spans more the thread is in, in 8 bits; and the owner, which differs for each thread
    /// that has had the block.
    word: AtomicU64,
    /// The ids of the spans, the outermost first. The word and the first seven are one cache line.
    ids: [AtomicU64; DEPTH],
    frames: [Frame; DEPTH],
    /// How many spans the thread has exited, and the last of them: each at the place of its number. A reader that has missed
    /// something finds out here which spans it belongs to.
    exits: AtomicU64,
    last_exits: [LastExit; LAST_EXITS],
    /// By which the thread knows the spans: their ids in the registry. A span's own id may change while it is entered. From
    /// here on, readers need not look.
    keys: [AtomicU64; DEPTH],
    /// How many spans more the thread is in.
    hidden: AtomicU64,
    /// When the thread last hit `thread_register`.
    registered_ns: AtomicU64,
    /// The fork generation of the process.
    forks: AtomicU64,
}

/// A span that the thread is in. Begins with a record of OpenTelemetry's OTEP 4947, without attributes.
#[repr(C)]
struct Frame {
    /// In the order of bytes that W3C has, as the span's id.
    trace_id: [AtomicU64; 2],
    span_id: AtomicU64,
    /// Of one byte each: whether the record is valid, and W3C's flags. Then the size of its attributes.
    state: AtomicU64,
    /// When the thread entered the span, in nanoseconds of the monotonic clock.
    since_ns: AtomicU64,
    /// When the span was created.
    began_ns: AtomicU64,
    /// The address of the span's name, which ends with a NUL; or 0.
    name: AtomicU64,
    unused: AtomicU64,
}

/// A span that a thread enters.
pub(crate) struct Entered {
    pub(crate) ids: Ids,
    /// When it was created.
    pub(crate) began: Monotonic,
    /// `None` if it is not recorded.
    pub(crate) name: Option<&'static CStr>,
}

/// A span that the thread has exited.
#[repr(C)]
struct LastExit {
    span_id: AtomicU64,
    since_ns: AtomicU64,
    /// 0 while the thread is about to read the clock.
    until_ns: AtomicU64,
}

/// An exit whose time is not told yet.
pub(crate) struct Exited<'a> {
    /// When the span was entered.
    pub(crate) since: Monotonic,
    place: &'a LastExit,
}

impl Exited<'_> {
    /// The clock says `now`.
    #[inline]
    pub(crate) fn finish(&self, now: Monotonic) {
        set(&self.place.until_ns, now.as_ns());
    }
}

impl Frame {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        let (trace_id, span_id, state) = ([zero(), zero()], zero(), zero());
        Self { trace_id, span_id, state, since_ns: zero(), began_ns: zero(), name: zero(), unused: zero() }
    }

    #[inline]
    fn set_ids(&self, ids: Ids) {
        set(&self.trace_id[0], ids.trace_id.high().to_be());
        set(&self.trace_id[1], ids.trace_id.low().to_be());
        set(&self.span_id, ids.span_id.get().to_be());
        set(&self.state, (1 | u64::from(ids.flags()) << 8).to_le());
    }

    fn copy_from(&self, other: &Self) {
        self.numbers().into_iter().zip(other.numbers()).for_each(|(to, from)| set(to, get(from)));
    }

    fn numbers(&self) -> [&AtomicU64; 7] {
        let Self { trace_id: [high, low], span_id, state, since_ns, began_ns, name, unused: _ } = self;
        [high, low, span_id, state, since_ns, began_ns, name]
    }
}

#[inline]
fn get(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

#[inline]
fn set(number: &AtomicU64, value: u64) {
    number.store(value, Ordering::Relaxed);
}

/// Keeps the compiler from moving stores across. The processor shows a thread's stores in their order to whoever stops
/// it.
#[inline]
pub(super) fn in_order() {
    compiler_fence(Ordering::SeqCst);
}

impl Block {
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            ids: [const { AtomicU64::new(0) }; DEPTH],
            frames: std::array::from_fn(|_| Frame::new()),
            exits: AtomicU64::new(0),
            last_exits: std::array::from_fn(|_| LastExit {
                span_id: AtomicU64::new(0),
                since_ns: AtomicU64::new(0),
                until_ns: AtomicU64::new(0),
            }),
            keys: [const { AtomicU64::new(0) }; DEPTH],
            hidden: AtomicU64::new(0),
            registered_ns: AtomicU64::new(0),
            forks: AtomicU64::new(0),
        }
    }

    /// Begins anew, in no span and not registered.
    pub(super) fn begin(&self, owner: u64, forks: u32) {
        self.end();
        set(&self.forks, forks.into());
        set(&self.registered_ns, 0);
        set(&self.word, owner << OWNER_SHIFT);
    }

    /// From now on it has no owner.
    pub(super) fn end(&self) {
        set(&self.word, 0);
        in_order();
        self.ids.iter().for_each(|id| set(id, 0));
        set(&self.hidden, 0);
    }

    pub(super) fn forks(&self) -> u32 {
        get(&self.forks) as u32
    }

    pub(super) fn registered_ns(&self) -> u64 {
        get(&self.registered_ns)
    }

    pub(super) fn set_registered_ns(&self, ns: u64) {
        set(&self.registered_ns, ns);
    }

    #[cfg(test)]
    pub(super) fn owner(&self) -> u64 {
        get(&self.word) >> OWNER_SHIFT
    }

    #[inline]
    fn depth(&self) -> usize {
        (get(&self.word) & 0xff) as usize
    }

    #[inline]
    fn set_depth(&self, depth: usize) {
        set(&self.word, get(&self.word) & !0xff | depth as u64);
        in_order();
    }

    #[cold]
    fn set_hidden(&self, hidden: u64) {
        set(&self.hidden, hidden);
        let shown = hidden.min(0xff) << HIDDEN_SHIFT;
        set(&self.word, get(&self.word) & !(0xff << HIDDEN_SHIFT) | shown);
    }

    /// The thread enters the span `key`. Only the thread itself calls this.
    #[inline]
    pub(super) fn enter(&self, key: u64, span: &Entered, now: Monotonic) {
        let depth = self.depth();
        let (Some(frame), Some(id)) = (self.frames.get(depth), self.ids.get(depth)) else {
            self.set_hidden(get(&self.hidden) + 1);
            return;
        };
        self.set_depth(depth + 1);
        set(&self.keys[depth], key);
        frame.set_ids(span.ids);
        set(&frame.since_ns, now.as_ns());
        set(&frame.began_ns, span.began.as_ns());
        set(&frame.name, span.name.map_or(0, |name| name.as_ptr() as u64));
        in_order();
        set(id, span.ids.span_id.get());
        in_order();
    }

    /// The thread exits the span `key`. `None` if it has entered it more often than exited, or it is not published. Only the
    /// thread itself calls this.
    #[inline]
    pub(super) fn exit(&self, key: u64) -> Option<Exited<'_>> {
        let depth = self.depth();
        let Some(top) = depth.checked_sub(1).filter(|top| get(&self.keys[*top]) == key) else {
            return self.exit_outer(key, depth);
        };
        let (span_id, since_ns) = (get(&self.ids[top]), get(&self.frames[top].since_ns));
        set(&self.ids[top], 0);
        in_order();
        self.set_depth(top);
        self.is_outermost(top, key).then(|| self.keep_exit(span_id, since_ns))
    }

    #[inline]
    fn keep_exit(&self, span_id: u64, since_ns: u64) -> Exited<'_> {
        let number = get(&self.exits);
        let place = &self.last_exits[number as usize % LAST_EXITS];
        set(&place.span_id, span_id);
        set(&place.since_ns, since_ns);
        set(&place.until_ns, 0);
        in_order();
        set(&self.exits, number + 1);
        in_order();
        Exited { since: Monotonic::from_ns(since_ns), place }
    }

    /// Whether no level below `level` has the span.
    #[inline]
    fn is_outermost(&self, level: usize, key: u64) -> bool {
        self.keys[..level].iter().all(|known| get(known) != key)
    }

    /// Exits a span that is not the innermost: guards may be dropped in any order. The levels above it are hidden while
    /// they move.
    #[cold]
    fn exit_outer(&self, key: u64, depth: usize) -> Option<Exited<'_>> {
        let Some(at) = self.keys[..depth].iter().rposition(|known| get(known) == key) else {
            // Beyond the levels; or it was entered before anyone asked, and then the number may be too small.
            self.set_hidden(get(&self.hidden).saturating_sub(1));
            return None;
        };
        let (span_id, since_ns) = (get(&self.ids[at]), get(&self.frames[at].since_ns));
        let mut ids = [0; DEPTH];
        for level in (at..depth).rev() {
            ids[level] = get(&self.ids[level]);
            set(&self.ids[level], 0);
            in_order();
        }
        self.set_depth(at);
        for level in at..depth - 1 {
            self.set_depth(level + 1);
            set(&self.keys[level], get(&self.keys[level + 1]));
            self.frames[level].copy_from(&self.frames[level + 1]);
            in_order();
            set(&self.ids[level], ids[level + 1]);
            in_order();
        }
        self.is_outermost(at, key).then(|| self.keep_exit(span_id, since_ns))
    }

    /// The record of the innermost span; null if there is none. A signal handler may find levels without an id above it.
    pub(super) fn innermost(&self) -> *mut u8 {
        let level = (0..self.depth()).rev().find(|level| get(&self.ids[*level]) != 0);
        level.map_or(ptr::null_mut(), |level| ptr::from_ref(&self.frames[level]).cast_mut().cast())
    }

    /// The span `key` has other ids now.
    #[cold]
    pub(super) fn change(&self, key: u64, ids: Ids) {
        for level in (0..self.depth()).filter(|level| get(&self.keys[*level]) == key) {
            let frame = &self.frames[level];
            set(&self.ids[level], 0);
            in_order();
            frame.set_ids(ids);
            in_order();
            set(&self.ids[level], ids.span_id.get());
            in_order();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::propagation::{SpanId, TraceId};
    use proptest::prelude::*;

    fn ids(span_id: u64) -> Ids {
        let trace_id = TraceId::new(u128::from(span_id) << 64 | 7).expect("not 0");
        Ids { trace_id, span_id: SpanId::new(span_id).expect("not 0"), sampled: true, random: true }
    }

    fn name(id: u64) -> Option<&'static CStr> {
        [None, Some(c"one"), Some(c"two")][id as usize % 3]
    }

    fn enter(block: &Block, id: u64) {
        block.enter(id, &Entered { ids: ids(id), began: at(id), name: name(id) }, at(id * 10));
    }

    fn exit(block: &Block, key: u64) -> Option<Monotonic> {
        block.exit(key).map(|exited| exited.since)
    }

    fn at(ns: u64) -> Monotonic {
        Monotonic::from_ns(ns)
    }

    /// The spans as a reader finds them: ids with their frames.
    fn read(block: &Block) -> Vec<u64> {
        let depth = block.depth().min(DEPTH);
        assert!(block.ids[depth..].iter().all(|id| get(id) == 0), "ids beyond the depth");
        let levels = block.ids[..depth].iter().zip(&block.frames);
        let read = levels.map(|(id, frame)| {
            assert_eq!(u64::from_be(get(&frame.span_id)), get(id));
            assert_eq!(u64::from_be(get(&frame.trace_id[0])), get(id), "the span's own trace");
            assert_eq!(
                (get(&frame.began_ns), get(&frame.since_ns)),
                (get(id), get(id) * 10),
                "its own times"
            );
            assert_eq!(
                get(&frame.name),
                name(get(id)).map_or(0, |name| name.as_ptr() as u64),
                "its own name"
            );
            get(id)
        });
        read.collect()
    }

    #[test]
    fn readers_find_the_members_where_the_contract_has_them() {
        let block = Box::new(Block::new());
        let offset = |member: *const AtomicU64| member as usize - std::ptr::from_ref(&*block) as usize;
        assert_eq!(offset(&raw const block.word), 0);
        assert_eq!(offset(&raw const block.ids[0]), 8);
        assert_eq!(offset(&raw const block.frames[0].trace_id[0]), 520);
        assert_eq!(offset(&raw const block.frames[1].trace_id[0]), 520 + 64);
        assert_eq!(offset(&raw const block.frames[0].since_ns), 520 + 32);
        assert_eq!(offset(&raw const block.frames[0].began_ns), 520 + 40);
        assert_eq!(offset(&raw const block.frames[0].name), 520 + 48);
        assert_eq!(offset(&raw const block.exits), 4616);
        assert_eq!(offset(&raw const block.last_exits[1].span_id), 4624 + 24);
        block.begin(5, 0);
        enter(&block, 1);
        let state = get(&block.frames[0].state).to_le_bytes();
        assert_eq!(state, [1, 3, 0, 0, 0, 0, 0, 0], "valid, sampled and random, no attributes");
        assert_eq!(get(&block.word), 5 << 16 | 1);
    }

    #[test]
    fn levels_beyond_the_last_only_count() {
        let block = Box::new(Block::new());
        block.begin(1, 0);
        (1..=100).for_each(|id| enter(&block, id));
        assert_eq!((get(&block.word) & 0xffff, block.depth()), (36 << 8 | 64, 64));
        assert_eq!(read(&block), (1..=64).collect::<Vec<_>>());
        // In any order.
        for id in (1..=64).chain((65..=100).rev()) {
            assert_eq!(exit(&block, id), (id <= 64).then(|| at(id * 10)));
        }
        assert_eq!(get(&block.word) & 0xffff, 0);
    }

    #[test]
    fn a_span_whose_ids_change_is_still_exited() {
        let block = Box::new(Block::new());
        block.begin(1, 0);
        (1..=3).for_each(|id| enter(&block, id));
        block.change(2, ids(9));
        assert_eq!(u64::from_be(get(&block.frames[1].trace_id[0])), 9);
        assert_eq!(get(&block.ids[1]), 9);
        assert_eq!(
            (exit(&block, 2), exit(&block, 3), exit(&block, 1)),
            (Some(at(20)), Some(at(30)), Some(at(10)))
        );
    }

    #[test]
    fn the_enter_of_a_span_entered_twice_counts_once() {
        let block = Box::new(Block::new());
        block.begin(1, 0);
        enter(&block, 3);
        enter(&block, 3);
        assert_eq!((exit(&block, 3), exit(&block, 3), exit(&block, 3)), (None, Some(at(30)), None));
    }

    #[test]
    fn the_last_exits_are_kept() {
        let block = Box::new(Block::new());
        block.begin(1, 0);
        for id in 1..=40 {
            enter(&block, id);
            let exited = block.exit(id).expect("it was entered");
            assert_eq!(get(&block.last_exits[(id as usize - 1) % 16].until_ns), 0);
            exited.finish(at(id * 10 + 5));
        }
        let mut kept: Vec<[u64; 3]> = block
            .last_exits
            .iter()
            .map(|exit| [&exit.span_id, &exit.since_ns, &exit.until_ns].map(get))
            .collect();
        kept.sort_unstable();
        assert_eq!(kept, (25..=40).map(|id| [id, id * 10, id * 10 + 5]).collect::<Vec<_>>());
        assert_eq!(get(&block.exits), 40);
    }

    proptest! {
        /// Enters, and exits in any order, also of spans that were never entered.
        #[test]
        fn the_levels_are_those_of_a_list(steps in prop::collection::vec((prop::bool::weighted(0.6), 1..90_u64), 0..400)) {
            let block = Box::new(Block::new());
            block.begin(1, 0);
            let mut expected: Vec<u64> = Vec::new();
            for (enters, id) in steps {
                if enters {
                    enter(&block, id);
                    if expected.len() < DEPTH {
                        expected.push(id);
                    }
                } else {
                    let since = exit(&block, id);
                    let found = expected.iter().rposition(|known| *known == id);
                    if let Some(found) = found {
                        expected.remove(found);
                    }
                    let is_last = found.is_some() && !expected.contains(&id);
                    // Of those entered twice, an inner one may have been exited first.
                    prop_assert!(since.is_none() || is_last);
                    prop_assert!(since.is_some() || found.is_none() || expected.contains(&id));
                }
                prop_assert_eq!(read(&block), expected.clone());
            }
        }
    }
}
