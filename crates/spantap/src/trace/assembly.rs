//! Assembles traces from spans that arrive one by one, in any order and from any process.
//!
//! A span is sent when it closes, so parents arrive after their children and roots last. A trace is shown when it has a
//! root and all parents, and no span has arrived for [`QUIET`]; else when no span has arrived for [`WAIT`], or at
//! [`MAX_AGE`]. A complete trace is kept for [`KEEP`] after that: spans that still arrive show it again, marked as late.
//! The caller passes the time in, so that tests control it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::assembled::{Shown, Trace};
use super::collected::{Collected, Limits};
use super::encoded::EncodedSpan;

/// How long a complete trace waits for the next span: another process may still send one.
const QUIET: Duration = Duration::from_millis(300);

/// How long an incomplete trace waits for the next span. A missing parent may be lost, or may stay open for hours.
const WAIT: Duration = Duration::from_secs(5);

/// A trace to which spans keep arriving is shown in parts, each at this age.
const MAX_AGE: Duration = Duration::from_secs(10);

/// How long a complete trace is kept for late spans.
const KEEP: Duration = Duration::from_secs(30);

/// The traces that are not shown yet, and the complete ones that were shown lately.
#[derive(Debug)]
pub struct Assembly {
    limits: Limits,
    traces: HashMap<u128, Open>,
    /// When to check each trace. Checks scheduled at a span's arrival are all [`QUIET`] ahead, so a queue keeps them in
    /// order. Postponed checks need a heap.
    soon: VecDeque<(Instant, u128)>,
    postponed: BinaryHeap<Reverse<(Instant, u128)>>,
    /// The traces kept for late spans, the oldest first, with the time at which to forget them.
    kept: VecDeque<(Instant, u128)>,
    bytes: usize,
}

#[derive(Debug)]
struct Open {
    collected: Collected,
    first: Instant,
    last: Instant,
    /// The counts of spans and of left-out spans when the trace was last shown.
    last_shown: (usize, u64),
    /// Set while the trace is in `Assembly::kept`: when it will be forgotten.
    kept: Option<Instant>,
    /// The time of the next check. Other scheduled checks of this trace are outdated.
    check_at: Instant,
}

impl Assembly {
    /// An assembly without traces.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            traces: HashMap::new(),
            soon: VecDeque::new(),
            postponed: BinaryHeap::new(),
            kept: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Adds a span. When memory is full, forgets kept traces, and then passes waiting ones to `show` early.
    pub fn add(&mut self, span: EncodedSpan, now: Instant, show: &mut impl FnMut(&Trace<EncodedSpan>)) {
        let id = span.trace_id;
        let open = self.traces.entry(id).or_insert_with(|| Open::new(id, now));
        if open.kept.take().is_some() {
            open.first = now;
        }
        open.last = now;
        // This span may complete a pending trace.
        if open.check_at > now + QUIET {
            open.check_at = now + QUIET;
            self.soon.push_back((open.check_at, id));
        }
        self.bytes += open.collected.add(span, self.limits);
        while self.bytes > self.limits.bytes {
            if !self.evict(show) {
                break;
            }
        }
    }

    /// Passes the traces that are due at `now` to `show`, and forgets the kept traces whose time is over.
    pub fn due(&mut self, now: Instant, show: &mut impl FnMut(&Trace<EncodedSpan>)) {
        while let Some((at, id)) = self.next_check(Some(now)) {
            let Some(open) = self.traces.get_mut(&id).filter(|open| open.is_due(at)) else { continue };
            let quiet = now.saturating_duration_since(open.last);
            let age = now.saturating_duration_since(open.first);
            let shown = match open.collected.is_complete() {
                true if quiet >= QUIET => Shown::Complete,
                _ if quiet >= WAIT || age >= MAX_AGE => Shown::Waited,
                is_complete => {
                    let wait = if is_complete { QUIET } else { WAIT };
                    open.check_at = (open.last + wait).min(open.first + MAX_AGE);
                    self.postponed.push(Reverse((open.check_at, id)));
                    continue;
                }
            };
            self.show(id, shown, now, show);
        }
        while self.kept.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    /// When to call [`due`](Self::due) next.
    pub fn next_due(&self) -> Option<Instant> {
        self.peek().map(|(at, _)| at)
    }

    /// Passes all remaining traces to `show`, at the end.
    pub fn finish(&mut self, now: Instant, show: &mut impl FnMut(&Trace<EncodedSpan>)) {
        self.due(now, show);
        while let Some((at, id)) = self.next_check(None) {
            let Some(open) = self.traces.get(&id).filter(|open| open.is_due(at)) else { continue };
            let shown = if open.collected.is_complete() { Shown::Complete } else { Shown::End };
            self.show(id, shown, now, show);
        }
    }

    /// The memory that counts toward [`Limits::bytes`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn peek(&self) -> Option<(Instant, u128)> {
        let postponed = self.postponed.peek().map(|Reverse(check)| *check);
        self.soon.front().copied().into_iter().chain(postponed).min()
    }

    /// Removes and returns the first scheduled check, unless it is later than `until`.
    fn next_check(&mut self, until: Option<Instant>) -> Option<(Instant, u128)> {
        let next = self.peek().filter(|(at, _)| until.is_none_or(|until| *at <= until))?;
        if self.soon.front() == Some(&next) {
            self.soon.pop_front();
        } else {
            self.postponed.pop();
        }
        Some(next)
    }

    fn show(&mut self, id: u128, shown: Shown, now: Instant, show: &mut impl FnMut(&Trace<EncodedSpan>)) {
        let Some(open) = self.traces.get_mut(&id) else { return };
        let trace = &mut open.collected.trace;
        let (spans, left_out) = (trace.spans.len(), trace.left_out);
        let (shown_before, _) = open.last_shown;
        trace.late = if shown_before > 0 { spans - shown_before } else { 0 };
        trace.shown = shown;
        // A trace is shown again only if that shows something new.
        if open.last_shown != (spans, left_out) {
            show(trace);
        }
        open.last_shown = (spans, left_out);
        if shown == Shown::Complete {
            open.kept = Some(now + KEEP);
            open.check_at = now + KEEP + KEEP;
            self.kept.push_back((now + KEEP, id));
        } else {
            // Spans that arrive later are shown as another part.
            self.remove(id);
        }
    }

    /// Frees memory: forgets a kept trace, or else shows and removes a waiting one. Returns whether there was one.
    fn evict(&mut self, show: &mut impl FnMut(&Trace<EncodedSpan>)) -> bool {
        while !self.kept.is_empty() {
            if self.forget_oldest() {
                return true;
            }
        }
        while let Some((at, id)) = self.next_check(None) {
            if self.traces.get(&id).is_some_and(|open| open.is_due(at)) {
                self.show(id, Shown::NoRoom, at, show);
                return true;
            }
        }
        false
    }

    /// Forgets the oldest kept trace. Returns false if a late span has reopened that trace.
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
            self.bytes -= open.collected.bytes;
        }
    }
}

impl Open {
    fn new(id: u128, now: Instant) -> Self {
        Self {
            collected: Collected::new(id),
            first: now,
            last: now,
            last_shown: (0, 0),
            kept: None,
            check_at: now + KEEP,
        }
    }

    /// Whether the check that was scheduled for `at` is still valid.
    fn is_due(&self, at: Instant) -> bool {
        self.kept.is_none() && self.check_at == at
    }
}
