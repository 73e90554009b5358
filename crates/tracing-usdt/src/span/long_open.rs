//! Finds the spans that have been open for long, while the program runs.
//!
//! A thread of the layer looks at all open spans, and threads of the program may wait for it meanwhile. So it looks at one
//! slot at a time. Of the spans that are far, it first takes all ids of a part under the part's lock, and then looks at
//! [`AT_ONCE`] at a time. It first finds the oldest spans, and then copies only these.

use std::collections::BinaryHeap;

use super::closed::{ClosedSpan, RecordView};
use super::identity::Origin;
use super::open::OpenSpan;
use super::slot::{Slot, State};
use super::table::{OpenSpansView, Part};
use crate::clock::Monotonic;
use crate::sync::Backoff;

/// How many spans that are far are looked at under their lock: some microseconds.
const AT_ONCE: usize = 64;

/// Spans that began before some time, and were open a moment ago.
pub(crate) struct LongOpen {
    /// When each began, and its id in the registry. The oldest first.
    oldest: Vec<(Monotonic, u64)>,
    /// How many there are, with those that are not among the oldest.
    pub(crate) count: usize,
}

impl LongOpen {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The search for the oldest spans.
struct Search {
    before: Monotonic,
    with_unsampled: bool,
    most: usize,
    /// The youngest on top.
    oldest: BinaryHeap<(Monotonic, u64)>,
    count: usize,
}

impl Search {
    /// Considers the span in a slot. Returns false if another thread holds it for longer than a moment.
    fn look(&mut self, slot: &Slot<Box<OpenSpan>>, id: u64) -> bool {
        let Some(mut access) = slot.hold_within(id, Backoff::MOMENT) else {
            return !slot.may_have(id, State::Timed);
        };
        access.with(|span| span.as_deref().map(|span| self.consider(id, span)));
        true
    }

    fn consider(&mut self, id: u64, span: &OpenSpan) {
        let Some(began) = began(span, self.with_unsampled).filter(|began| *began <= self.before) else {
            return;
        };
        self.count += 1;
        if !has_its_ids(span) {
            return;
        }
        if self.oldest.len() == self.most {
            match self.oldest.peek() {
                Some((youngest, _)) if began < *youngest => _ = self.oldest.pop(),
                _ => return,
            }
        }
        self.oldest.push((began, id));
    }
}

/// When the span began, if it is recorded, and sent when it closes.
fn began(span: &OpenSpan, with_unsampled: bool) -> Option<Monotonic> {
    span.callsite.filter(|_| with_unsampled || span.identity.ids.sampled)?;
    Some(span.timing.as_ref()?.began())
}

/// Whether the span keeps its ids: tracing-opentelemetry may still give it others.
fn has_its_ids(span: &OpenSpan) -> bool {
    span.origin != Origin::Undecided
}

impl OpenSpansView {
    /// Finds the spans of this process that began `before`: how many there are, and the oldest of them, at `most` so many.
    /// Leaves out those of traces that are not sampled, unless `with_unsampled`.
    pub(crate) fn find_long_open(&self, before: Monotonic, most: usize, with_unsampled: bool) -> LongOpen {
        let mut search = Search { before, with_unsampled, most, oldest: BinaryHeap::new(), count: 0 };
        let mut busy = Vec::new();
        for part in self.tables.known().into_iter().flat_map(|table| table.0.iter()) {
            for (number, slot) in part.near.iter().enumerate() {
                let Some(id) = slot.id(number as u64).filter(|id| slot.may_have(*id, State::Timed)) else {
                    continue;
                };
                if !search.look(slot, id) {
                    busy.push((slot, id));
                }
            }
            for ids in far_ids(part).chunks(AT_ONCE) {
                part.with_far(|far| {
                    ids.iter()
                        .filter_map(|id| Some((id, far.get(id)?)))
                        .for_each(|(id, span)| search.consider(*id, span));
                });
            }
        }
        // Other threads held these. One that is still held is left to the next look: its age is not known.
        for (slot, id) in busy {
            search.look(slot, id);
        }
        LongOpen { oldest: search.oldest.into_sorted_vec(), count: search.count }
    }

    /// Calls `copy` with each of the oldest spans that is still open, until it returns false. It has the span's fields, and
    /// neither events nor links. The span waits meanwhile. Returns how many of `found` are no longer open, as far as it looked:
    /// one that another thread holds is open.
    pub(crate) fn copy_long_open(
        &self,
        found: &LongOpen,
        now: Monotonic,
        with_unsampled: bool,
        mut copy: impl FnMut(&ClosedSpan<'_>) -> bool,
    ) -> usize {
        let Some(table) = self.tables.known() else { return 0 };
        let mut gone = 0;
        for (since, id) in &found.oldest {
            let mut look = |span: &OpenSpan| {
                // Another span may have the id by now.
                let is_same = began(span, with_unsampled) == Some(*since) && has_its_ids(span);
                is_same.then(|| with_closed(span, now, &mut copy)).flatten()
            };
            let part = table.part(*id);
            let slot = part.slot(*id);
            let goes_on = match slot.hold_within(*id, Backoff::MOMENT) {
                Some(mut access) => access.with(|span| span.as_deref().and_then(look)),
                None if slot.may_have(*id, State::Timed) => Some(true),
                None => part.with_far(|far| far.get(id).and_then(|span| look(span))),
            };
            match goes_on {
                Some(true) => {}
                Some(false) => break,
                None => gone += 1,
            }
        }
        gone
    }
}

/// The ids of the spans that are far.
fn far_ids(part: &Part) -> Vec<u64> {
    let count = part.far_count.load(std::sync::atomic::Ordering::Relaxed);
    if count == 0 {
        return Vec::new();
    }
    // The memory is taken before the lock.
    let mut ids = Vec::with_capacity(count + AT_ONCE);
    part.with_far(|far| ids.extend(far.keys()));
    ids
}

/// Calls `f` with an open span in the form that an encoder reads.
fn with_closed<T>(span: &OpenSpan, now: Monotonic, f: impl FnOnce(&ClosedSpan<'_>) -> T) -> Option<T> {
    let (timing, callsite) = (span.timing.as_ref()?, span.callsite?);
    let trace_state = span.record.trace_state();
    let record = RecordView {
        trace_state: trace_state.as_str(),
        events: &[],
        links: &[],
        is_unfinished: true,
        ..span.record.view()
    };
    let (identity, start_ns, elapsed) = (&span.identity, timing.start_wall_ns(), timing.so_far(now));
    Some(f(&ClosedSpan { identity, callsite, start_ns, elapsed, record: &record }))
}

#[cfg(test)]
mod tests {
    use tracing_core::span::Id;

    use super::super::identity::Identity;
    use super::super::table::OpenSpans;
    use super::super::timing::Timing;
    use super::*;
    use crate::callsite::{self, tests::metadata};

    fn insert(spans: &OpenSpans, id: u64, began: u64, sampled: bool) {
        let mut identity = Identity::first_of_sampled_trace();
        identity.ids.sampled = sampled;
        let id = Id::from_u64(id);
        let mut new = spans.begin(&id, identity);
        new.span.had_listener = true;
        new.span.callsite = Some(callsite::of(metadata()));
        new.span.timing = Some(Timing::start(Monotonic::from_ns(began)));
        spans.insert(&id, new, false);
    }

    /// The durations of the oldest spans at the time 1000, and how many of them are gone.
    fn copied(spans: &OpenSpans, found: &LongOpen) -> (Vec<u64>, usize) {
        let mut durations = Vec::new();
        let gone = spans.view().copy_long_open(found, Monotonic::from_ns(1000), false, |span| {
            assert!(span.record.is_unfinished);
            durations.push(span.elapsed.duration_ns);
            durations.len() < 3
        });
        (durations, gone)
    }

    #[test]
    fn the_oldest_are_found_and_the_others_counted() {
        let spans = OpenSpans::new(Origin::Own);
        // In slots, and beside them: these have the same lowest bits.
        for n in 0..200_u64 {
            insert(&spans, 7 + n % 3 + 32 * n + ((n % 2) << 38), n, n % 10 != 9);
        }
        let found = spans.view().find_long_open(Monotonic::from_ns(99), 5, false);
        assert_eq!(found.count, 90, "of 100, the sampled ones");
        let began: Vec<u64> = found.oldest.iter().map(|(began, _)| began.as_ns()).collect();
        assert_eq!(began, [0, 1, 2, 3, 4]);
        assert_eq!(copied(&spans, &found), (vec![1000, 999, 998], 0), "until it is told to stop");
        assert_eq!(spans.view().find_long_open(Monotonic::from_ns(99), 5, true).count, 100);
    }

    #[test]
    fn a_span_that_closes_meanwhile_is_not_copied() {
        let spans = OpenSpans::new(Origin::Own);
        insert(&spans, 7, 10, true);
        insert(&spans, 7 + 32, 20, true);
        let found = spans.view().find_long_open(Monotonic::from_ns(50), 5, false);
        assert_eq!(found.count, 2);
        // Another span has its id.
        spans.remove(&Id::from_u64(7), false);
        insert(&spans, 7, 11, true);
        assert_eq!(copied(&spans, &found), (vec![980], 1));
        spans.remove(&Id::from_u64(7 + 32), false);
        assert_eq!(copied(&spans, &found), (vec![], 2));
    }

    #[test]
    fn a_span_that_another_thread_holds_is_open() {
        let spans = OpenSpans::new(Origin::Own);
        insert(&spans, 7, 10, true);
        insert(&spans, 8, 20, true);
        let view = spans.view();
        let found = view.find_long_open(Monotonic::from_ns(50), 5, false);
        let held = view.tables.known().and_then(|table| table.part(7).slot(7).hold(7));
        assert!(held.is_some());
        assert_eq!(copied(&spans, &found), (vec![980], 0));
        // Whether it is open for long is not known.
        assert_eq!(view.find_long_open(Monotonic::from_ns(50), 5, false).count, 1);
    }

    /// tracing-opentelemetry may give it other ids.
    #[test]
    fn a_span_without_its_final_ids_is_counted_only() {
        let spans = OpenSpans::new(Origin::Undecided);
        insert(&spans, 7, 10, true);
        let found = spans.view().find_long_open(Monotonic::from_ns(50), 5, false);
        assert_eq!((found.count, found.oldest.len()), (1, 0));
    }
}
