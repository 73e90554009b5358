//! Spans that wait for a lock which spans of other traces hold, as in a convoy.
//!
//! The kernel says that a thread waited in `futex()`, and in which span the thread was that ended the wait. That is a lock, a
//! condition variable or a channel. To take it for a lock, spans of the same name have to wait for each other; or the span that
//! ended the wait was open when the wait began, and so were nearly all of them, unlike those that hand over new work.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::evidence::{Evidence, Groups};
use super::finding::{Finding, Kind};
use super::looked::Looked;
use super::names::{NameId, Names};
use crate::span::attributes::WAKER_SPAN;
use crate::text::{grouped, readable};
use crate::trace::{EncodedSpan, Part};

/// The kernel's span of a wait in `futex()`.
const LOCK_WAIT: &str = "lock wait";

/// How many waits in how many traces there have to be, and how long they have to be on average, in nanoseconds.
const LEAST_TIMES: u64 = 10;
const LEAST_TRACES: u64 = 5;
const LEAST_AVERAGE_NS: u64 = 300_000;
/// In how many of the waits the holder was open before, in percent: if the same wait for each other, and otherwise.
const LEAST_OPEN_OF_SAME: u64 = 30;
const LEAST_OPEN: u64 = 90;
/// The latest spans whose start is known, and the waits whose holder is not known yet.
const MAX_STARTS: usize = 65_536;
const MAX_WAITS: usize = 16_384;

/// The name of the span that waits, and of the one that holds the lock.
type Key = (NameId, NameId);

/// The waits that were seen.
#[derive(Default, Debug)]
pub(super) struct Blocked {
    pairs: Groups<Key, Pair>,
    /// When the latest spans began, by their id.
    starts: HashMap<u64, (NameId, u64)>,
    by_age: VecDeque<u64>,
    /// Waits for a span that has not come yet, by its id.
    waits: HashMap<u64, Vec<Wait>>,
    holders_by_age: VecDeque<u64>,
    waiting: usize,
    left_out: u64,
}

#[derive(Default, Debug)]
struct Pair {
    evidence: Evidence,
    /// How often the holder was open when the wait began.
    open: u64,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    name: NameId,
    trace_id: u128,
    from_ns: u64,
    ns: u64,
}

impl Blocked {
    pub(super) fn look(&mut self, looked: &Looked<'_>) {
        for (place, name) in looked.named() {
            let span = &looked.spans[place];
            // Without an account, nothing is known of waits.
            if looked.breakdowns[place].is_some_and(|breakdown| breakdown.ns(Part::Cpu) > 0) {
                self.began(span, name);
            }
        }
        let waits =
            looked.spans.iter().enumerate().filter(|(_, span)| span.is_kernel && span.name() == LOCK_WAIT);
        for (place, wait) in waits {
            let Some(name) = looked.parent(place).and_then(|parent| looked.names[parent]) else { continue };
            // Only of those that others ended. To decode it takes longer than to look.
            if wait.undecoded().attribute(WAKER_SPAN).is_none() {
                continue;
            }
            let Some(of) = wait.decode() else { continue };
            let Some(link) = of.span.links.first() else { continue };
            let holder: Option<[u8; 8]> = link.span_id.as_slice().try_into().ok();
            let Some(holder) = holder.map(u64::from_be_bytes) else { continue };
            if link.trace_id == looked.trace_id.to_be_bytes() {
                continue;
            }
            let (from_ns, ns) = (wait.times.0, wait.duration_ns());
            self.wait(holder, Wait { name, trace_id: looked.trace_id, from_ns, ns });
        }
    }

    fn began(&mut self, span: &EncodedSpan, name: NameId) {
        let (id, start_ns) = (span.span_id, span.times.0);
        if let Some(waits) = self.waits.remove(&id) {
            self.waiting -= waits.len();
            waits.into_iter().for_each(|wait| self.known(wait, name, start_ns));
        }
        if self.starts.insert(id, (name, start_ns)).is_none() {
            self.by_age.push_back(id);
        }
        if self.by_age.len() > MAX_STARTS
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.starts.remove(&oldest);
        }
    }

    fn wait(&mut self, holder: u64, wait: Wait) {
        match self.starts.get(&holder).copied() {
            Some((name, start_ns)) => self.known(wait, name, start_ns),
            None => {
                let waits = self.waits.entry(holder).or_default();
                if waits.is_empty() {
                    self.holders_by_age.push_back(holder);
                }
                waits.push(wait);
                self.waiting += 1;
                self.forget_oldest();
            }
        }
    }

    /// Forgets waits for spans that never came, if there are too many.
    fn forget_oldest(&mut self) {
        while self.waiting.max(self.holders_by_age.len()) > MAX_WAITS
            && let Some(holder) = self.holders_by_age.pop_front()
        {
            let waits = self.waits.remove(&holder).map_or(0, |waits| waits.len());
            self.waiting -= waits;
            self.left_out += waits as u64;
        }
    }

    fn known(&mut self, wait: Wait, holder: NameId, start_ns: u64) {
        let Some(pair) = self.pairs.of((wait.name, holder)) else { return };
        pair.evidence.add(wait.trace_id, wait.ns);
        pair.open += u64::from(start_ns <= wait.from_ns);
    }

    pub(super) fn found(&self, names: &Names) -> Vec<Finding> {
        self.pairs.iter().filter_map(|(key, pair)| self.finding(*key, pair, names)).collect()
    }

    fn finding(&self, (waits, holds): Key, pair: &Pair, names: &Names) -> Option<Finding> {
        let Pair { evidence, open } = pair;
        let open_percent = 100 * open / evidence.times.max(1);
        // A holder that waits as often as it is waited for takes the same lock.
        let turned = self.pairs.get(&(holds, waits)).map_or(0, |of| of.evidence.times);
        let is_mutual = turned >= evidence.times / 5;
        let least_open = if is_mutual { LEAST_OPEN_OF_SAME } else { LEAST_OPEN };
        if evidence.times < LEAST_TIMES
            || evidence.traces < LEAST_TRACES
            || evidence.average_ns() < LEAST_AVERAGE_NS
            || open_percent < least_open
        {
            return None;
        }
        let reason = match (waits == holds, is_mutual) {
            (true, _) => "of such spans for each other".to_owned(),
            (false, true) => "and both wait for each other".to_owned(),
            (false, false) => {
                format!("and in {open_percent}% of them the other was open before the wait began")
            }
        };
        let (waits, holds) = (names.of(waits), names.of(holds));
        Some(Finding {
            kind: Kind::Blocked,
            service: Arc::clone(&waits.service),
            name: Arc::clone(&waits.name),
            what: format!(
                "{} waits for a lock until {} of another trace gives it back: {} on average, up to {}",
                waits.name,
                holds.name,
                readable(evidence.average_ns()),
                readable(evidence.most_ns)
            ),
            why: format!("the kernel saw {} waits, {reason}", grouped(evidence.times)),
            cost_ns: evidence.cost_ns,
            times: evidence.times,
            traces: evidence.traces,
            trace_ids: evidence.trace_ids(),
            details: [
                ("blocked_by".to_owned(), (*holds.name).into()),
                ("longest_ns".to_owned(), evidence.most_ns.into()),
            ]
            .into_iter()
            .collect(),
        })
    }

    pub(super) fn examples(&self, each: &mut dyn FnMut(u128)) {
        self.pairs.iter().for_each(|(_, pair)| pair.evidence.example(each));
    }

    pub(super) fn left_out(&self) -> u64 {
        self.pairs.left_out() + self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Found;
    use crate::findings::made::trace;
    use crate::findings::made::{MS, found, sentences, span};

    /// Requests that wait for the one before, of which the wait is a kernel span.
    fn convoy(waker: &str, holder_began_before: bool, in_same_trace: bool) -> Found {
        found(40, 3 * MS, |number, at| {
            let id = |number: u64, of: u64| number << 16 | of;
            let other = if in_same_trace { number } else { number - 1 };
            let began = if holder_began_before { at } else { at + 4 * MS };
            let mut spans = vec![
                span(id(number, 1), 0, "add", (at, at + 5 * MS))
                    .number("kernel.on_cpu_ns", MS)
                    .number("kernel.lock_ns", 4 * MS),
                span(id(number, 3), 0, waker, (began, at + 8 * MS)).number("kernel.on_cpu_ns", MS),
            ];
            if number > 1 {
                let of = if waker == "add" { 1 } else { 3 };
                let wait = span(id(number, 2), id(number, 1), "lock wait", (at + MS / 2, at + 4 * MS));
                spans.push(wait.kernel().text("kernel.waker.span", waker).link(other.into(), id(other, of)));
            }
            spans
        })
    }

    #[test]
    fn spans_that_wait_for_the_lock_of_others_are_found() {
        let found = convoy("add", true, false);
        assert_eq!(
            sentences(&found),
            [
                "blocked: add waits for a lock until add of another trace gives it back: 3.50 ms on average, up to 3.50 ms"
            ]
        );
        assert_eq!((found.findings[0].times, found.findings[0].traces), (39, 39));
        let found = convoy("reindex", true, false);
        assert_eq!(sentences(&found).len(), 1);
        assert_eq!(found.findings[0].details["blocked_by"], "reindex");
    }

    #[test]
    fn waits_for_new_work_or_in_one_trace_are_no_convoy() {
        assert_eq!(sentences(&convoy("reindex", true, true)), [""; 0], "a part of the same trace");
        // The span of the trace before began 4 ms after that trace, 1 ms after this one, and handed over work.
        assert_eq!(sentences(&convoy("producer", false, false)), [""; 0], "began later");
    }

    #[test]
    fn waits_for_spans_that_never_come_make_room_for_others() {
        let mut blocked = Blocked::default();
        let wait = |from_ns: u64| Wait { name: 1, trace_id: 7, from_ns, ns: MS };
        (0..2 * MAX_WAITS as u64).for_each(|holder| blocked.wait(1_000 + holder, wait(0)));
        assert_eq!(
            (blocked.waiting, blocked.waits.len(), blocked.left_out()),
            (MAX_WAITS, MAX_WAITS, MAX_WAITS as u64)
        );
        // The holder comes later than who waits for it.
        blocked.wait(42, wait(u64::MAX));
        blocked.began(&trace(8, vec![span(42, 0, "holder", (0, MS))]).spans[0], 2);
        let pair = blocked.pairs.get(&(1, 2)).expect("the wait");
        assert_eq!((pair.evidence.times, pair.open, blocked.waiting), (1, 1, MAX_WAITS - 1));
    }
}
