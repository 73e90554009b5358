//! Spans that come one by one, in any order and from anywhere, put together to traces.
//!
//! A span is sent when it closes, so parents come after their children and roots last. A trace is shown
//! when it has a root and all parents and nothing more has come for [`QUIET`]; else when nothing more has
//! come for [`WAIT`], or after [`LONGEST`].
//! It is kept for [`KEEP`] after that: what still comes shows it again, with what was late. Time is
//! passed in, so that all of this can be tested.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::{EncodedSpan, Shown, Trace};

/// A trace that looks complete may get one more span from another process.
const QUIET: Duration = Duration::from_millis(300);

/// A parent that has not come by then may never come, or its span may be hours long.
const WAIT: Duration = Duration::from_secs(5);

/// A trace that never falls quiet is shown in parts, as often as this.
const LONGEST: Duration = Duration::from_secs(10);

/// For the late ones.
const KEEP: Duration = Duration::from_secs(30);

/// A trace of so many spans is searched from end to end: most traces are small, and a set takes memory.
const FEW: usize = 16;

/// What may be held at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of all traces; and of one, while it is looked at.
    pub bytes: usize,
    /// Of one.
    pub spans_of_a_trace: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // Tens of thousands of spans.
        Self { bytes: 64 << 20, spans_of_a_trace: 10_000 }
    }
}

/// The traces that are not shown yet, and those that just were.
#[derive(Debug)]
pub struct Assembly {
    limits: Limits,
    traces: HashMap<u128, Open>,
    /// When to look at which. Looks that are planned when a span comes are all as far ahead, and so in
    /// order by themselves; those that are put off are not.
    soon: VecDeque<(Instant, u128)>,
    put_off: BinaryHeap<Reverse<(Instant, u128)>>,
    /// Those that were shown, the oldest first, with when to forget them.
    kept: VecDeque<(Instant, u128)>,
    bytes: usize,
}

#[derive(Debug)]
struct Open {
    trace: Trace<EncodedSpan>,
    /// Of its spans, where they are more than a [`FEW`].
    ids: HashSet<u64>,
    bytes: usize,
    bytes_decoded: usize,
    first: Instant,
    last: Instant,
    /// How many spans were shown already, and were said to be left out.
    told: (usize, u64),
    /// Until when it is in `kept`; else it is looked at.
    kept: Option<Instant>,
    /// The time of the one look that counts; what else is planned of it is outdated.
    look: Instant,
}

impl Assembly {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            traces: HashMap::new(),
            soon: VecDeque::new(),
            put_off: BinaryHeap::new(),
            kept: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Takes a span. Traces for which there is no more room come out of `show`.
    pub fn add(&mut self, span: EncodedSpan, now: Instant, show: &mut impl FnMut(&Trace<EncodedSpan>)) {
        let id = span.trace_id;
        let open = self.traces.entry(id).or_insert_with(|| Open::new(id, now));
        if open.kept.take().is_some() {
            open.first = now;
        }
        open.last = now;
        // It may be what a trace that is waited for lacked.
        if open.look > now + QUIET {
            open.look = now + QUIET;
            self.soon.push_back((open.look, id));
        }
        let full = open.trace.spans.len() >= self.limits.spans_of_a_trace
            || open.bytes_decoded + span.weight_decoded > self.limits.bytes;
        if open.has(span.span_id) {
            open.trace.duplicates += 1;
        } else if full {
            open.trace.left_out += 1;
        } else {
            open.bytes += span.weight;
            open.bytes_decoded += span.weight_decoded;
            self.bytes += span.weight;
            open.push(span);
        }
        while self.bytes > self.limits.bytes {
            if !self.evict(show) {
                break;
            }
        }
    }

    /// Gives those that are due at `now` to `show`.
    pub fn due(&mut self, now: Instant, show: &mut impl FnMut(&Trace<EncodedSpan>)) {
        while let Some((at, id)) = self.next_look(Some(now)) {
            let Some(open) = self.traces.get_mut(&id).filter(|open| open.is_due(at)) else { continue };
            let quiet = now.saturating_duration_since(open.last);
            let age = now.saturating_duration_since(open.first);
            let shown = match open.is_whole() {
                true if quiet >= QUIET => Shown::Complete,
                _ if quiet >= WAIT || age >= LONGEST => Shown::Waited,
                is_whole => {
                    let longest = if is_whole { QUIET } else { WAIT };
                    open.look = (open.last + longest).min(open.first + LONGEST);
                    self.put_off.push(Reverse((open.look, id)));
                    continue;
                }
            };
            self.show(id, shown, now, show);
        }
        while self.kept.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    /// When to ask again what is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.peek().map(|(at, _)| at)
    }

    /// All that was not shown, at the end.
    pub fn finish(&mut self, now: Instant, show: &mut impl FnMut(&Trace<EncodedSpan>)) {
        self.due(now, show);
        while let Some((at, id)) = self.next_look(None) {
            let Some(open) = self.traces.get(&id).filter(|open| open.is_due(at)) else { continue };
            let shown = if open.is_whole() { Shown::Complete } else { Shown::End };
            self.show(id, shown, now, show);
        }
    }

    /// The bytes of the spans that are held, as they weigh against the limit.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn peek(&self) -> Option<(Instant, u128)> {
        let put_off = self.put_off.peek().map(|Reverse(look)| *look);
        self.soon.front().copied().into_iter().chain(put_off).min()
    }

    /// Takes out the first, unless it is later than `until`.
    fn next_look(&mut self, until: Option<Instant>) -> Option<(Instant, u128)> {
        let next = self.peek().filter(|(at, _)| until.is_none_or(|until| *at <= until))?;
        if self.soon.front() == Some(&next) {
            self.soon.pop_front();
        } else {
            self.put_off.pop();
        }
        Some(next)
    }

    fn show(&mut self, id: u128, shown: Shown, now: Instant, show: &mut impl FnMut(&Trace<EncodedSpan>)) {
        let Some(open) = self.traces.get_mut(&id) else { return };
        let (spans, left_out) = (open.trace.spans.len(), open.trace.left_out);
        let (shown_before, _) = open.told;
        open.trace.late = if shown_before > 0 { spans - shown_before } else { 0 };
        open.trace.shown = shown;
        // Again only if there is something new to see.
        if open.told != (spans, left_out) {
            show(&open.trace);
        }
        open.told = (spans, left_out);
        if shown == Shown::Complete {
            open.kept = Some(now + KEEP);
            open.look = now + KEEP + KEEP;
            self.kept.push_back((now + KEEP, id));
        } else {
            // What comes of it later is another part.
            self.remove(id);
        }
    }

    /// Makes room, first among those that were shown. Whether there was anything to remove.
    fn evict(&mut self, show: &mut impl FnMut(&Trace<EncodedSpan>)) -> bool {
        while !self.kept.is_empty() {
            if self.forget_oldest() {
                return true;
            }
        }
        while let Some((at, id)) = self.next_look(None) {
            if self.traces.get(&id).is_some_and(|open| open.is_due(at)) {
                self.show(id, Shown::NoRoom, at, show);
                return true;
            }
        }
        false
    }

    /// Whether it was still kept: what came late has put it among the open ones again.
    fn forget_oldest(&mut self) -> bool {
        let Some((until, id)) = self.kept.pop_front() else { return false };
        let kept = self.traces.get(&id).is_some_and(|open| open.kept == Some(until));
        if kept {
            self.remove(id);
        }
        kept
    }

    fn remove(&mut self, id: u128) {
        if let Some(open) = self.traces.remove(&id) {
            self.bytes -= open.bytes;
        }
    }
}

impl Open {
    fn new(id: u128, now: Instant) -> Self {
        let trace =
            Trace { id, spans: Vec::new(), shown: Shown::Waited, duplicates: 0, left_out: 0, late: 0 };
        Self {
            trace,
            ids: HashSet::new(),
            bytes: 0,
            bytes_decoded: 0,
            first: now,
            last: now,
            told: (0, 0),
            kept: None,
            look: now + KEEP,
        }
    }

    fn has(&self, span_id: u64) -> bool {
        let spans = &self.trace.spans;
        if spans.len() <= FEW {
            spans.iter().any(|span| span.span_id == span_id)
        } else {
            self.ids.contains(&span_id)
        }
    }

    fn push(&mut self, span: EncodedSpan) {
        let spans = &mut self.trace.spans;
        if spans.is_empty() {
            // Most traces of many are of one span, and a Vec begins with room for four.
            spans.reserve_exact(1);
        }
        spans.push(span);
        let new = if spans.len() == FEW + 1 { spans.len() } else { 1 };
        if spans.len() > FEW {
            self.ids.extend(spans.iter().rev().take(new).map(|span| span.span_id));
        }
    }

    /// The look that was planned for `at` is to be taken.
    fn is_due(&self, at: Instant) -> bool {
        self.kept.is_none() && self.look == at
    }

    /// It has a root, and no span lacks its parent.
    fn is_whole(&self) -> bool {
        let mut roots = 0;
        let all_there = self.trace.spans.iter().all(|span| match span.parent_id {
            Some(parent) => self.has(parent),
            None => {
                roots += 1;
                true
            }
        });
        all_there && roots > 0
    }
}
