//! What is wrong in the latest traces, and the traces that show it.

use std::collections::HashMap;
use std::sync::Arc;

use super::traces::Kept;
use crate::findings::{Findings, Found};
use crate::trace::{Breakdown, EncodedSpan, Trace};

/// After this time it begins anew, in nanoseconds.
const PERIOD_NS: u64 = 600_000_000_000;

/// For so long after that, what was found before is shown.
const WARM_UP_NS: u64 = 60_000_000_000;

/// The most spans that are looked at in a second. More prove nothing more, and take time from counting.
const MAX_SPANS_PER_SECOND: usize = 20_000;

/// The most memory for traces that findings show.
const MAX_BYTES: usize = 32 << 20;

/// From so many traces on, those are looked for that no finding shows any more.
const MANY: usize = 256;

const SECOND_NS: u64 = 1_000_000_000;

/// What was found, and since when.
#[derive(Clone, Default, Debug)]
pub(crate) struct Shown {
    pub(crate) found: Found,
    pub(crate) since_ns: u64,
    /// Traces that were not looked at, because there were too many.
    pub(crate) skipped: u64,
    /// The trace that each finding shows, if there was room for it.
    pub(crate) traces: Vec<Option<Arc<Kept>>>,
}

/// What was seen lately.
#[derive(Debug)]
pub(super) struct Recent {
    findings: Findings,
    since_ns: u64,
    /// Whether it ever begins anew.
    is_forgetful: bool,
    skipped: u64,
    before: Option<Shown>,
    examples: HashMap<u128, Arc<Kept>>,
    /// With so many, those that no finding may show any more are given up.
    look_again_at: usize,
    second: (u64, usize),
}

impl Recent {
    pub(super) fn new(now_ns: u64) -> Self {
        Self {
            findings: Findings::default(),
            since_ns: now_ns,
            is_forgetful: true,
            skipped: 0,
            before: None,
            examples: HashMap::new(),
            look_again_at: MANY,
            second: (0, 0),
        }
    }

    /// Does not begin anew, however long it takes.
    pub(super) fn keep_all(&mut self) {
        self.is_forgetful = false;
    }

    /// Looks at a trace, which `copy` copies if a finding may show it.
    pub(super) fn add(
        &mut self,
        trace: &Trace<EncodedSpan>,
        breakdowns: &[Option<Breakdown>],
        now_ns: u64,
        copy: impl FnOnce() -> Arc<Kept>,
    ) {
        // Most of it was looked at before.
        if trace.late > 0 {
            return;
        }
        if self.is_forgetful && now_ns.saturating_sub(self.since_ns) >= PERIOD_NS {
            self.before = Some(self.found());
            let (before, mut findings) = (self.before.take(), std::mem::take(&mut self.findings));
            findings.begin_anew();
            *self = Self { before, findings, ..Self::new(now_ns) };
        }
        let second = now_ns / SECOND_NS;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        // One trace is always looked at, however large.
        if self.is_forgetful && self.second.1 >= MAX_SPANS_PER_SECOND {
            self.skipped += 1;
            self.findings.skip(trace);
            return;
        }
        self.second.1 += trace.spans.len();
        self.findings.add(trace, breakdowns);
        if self.findings.may_show(trace.id) {
            let kept = copy();
            if kept.bytes() <= MAX_BYTES / 8 {
                self.examples.insert(trace.id, kept);
            }
            self.make_room();
        }
    }

    /// Gives up traces that no finding may show now, and if all take too much memory, those that none shows.
    fn make_room(&mut self) {
        let bytes = |of: &Self| of.examples.values().map(|kept| kept.bytes()).sum::<usize>();
        if self.examples.len() >= self.look_again_at {
            let findings = &self.findings;
            self.examples.retain(|id, _| findings.may_show(*id));
            self.look_again_at = 2 * self.examples.len().max(MANY / 2);
        }
        if bytes(self) > MAX_BYTES {
            // Also those of findings that are not shown yet, the most important first.
            let (mut kept, mut all) = (HashMap::new(), 0);
            for finding in self.findings.all().findings {
                let first = finding.trace_ids.iter().find_map(|id| self.examples.remove_entry(id));
                if let Some((id, trace)) = first.filter(|(_, trace)| all + trace.bytes() <= MAX_BYTES / 2) {
                    all += trace.bytes();
                    kept.insert(id, trace);
                }
            }
            self.examples = kept;
        }
    }

    /// What is found as of now.
    fn found(&self) -> Shown {
        let found = self.findings.found();
        let kept = |ids: &[u128]| ids.iter().find_map(|id| self.examples.get(id)).cloned();
        let traces = found.findings.iter().map(|finding| kept(&finding.trace_ids)).collect();
        Shown { found, since_ns: self.since_ns, skipped: self.skipped, traces }
    }

    /// What is shown: at the beginning of a period that of the one before.
    pub(super) fn shown(&self, now_ns: u64) -> Shown {
        match &self.before {
            Some(before) if now_ns.saturating_sub(self.since_ns) < WARM_UP_NS => before.clone(),
            _ => self.found(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::made::{MS, Made, span, trace};
    use crate::trace::{breakdowns, finder};

    fn add(recent: &mut Recent, id: u64, now_ns: u64, spans: Vec<Made>) {
        let trace = trace(id.into(), spans);
        let breakdowns = breakdowns(&trace.spans, &finder());
        recent.add(&trace, &breakdowns, now_ns, || Kept::new(&trace, trace.times()));
    }

    /// A request that asks for each item.
    fn cart(id: u64, items: u64, text: &str) -> Vec<Made> {
        let mut spans = vec![span(id << 32 | 1, 0, "cart", (0, items * MS))];
        let call = |item: u64| {
            let of = span(id << 32 | (item + 2), id << 32 | 1, "item", (item * MS, (item + 1) * MS));
            of.client().number("item", item).text("text", text)
        };
        spans.extend((0..items).map(call));
        spans
    }

    #[test]
    fn after_a_while_only_later_traces_count() {
        let mut recent = Recent::new(0);
        add(&mut recent, 1, 0, cart(1, 20, ""));
        add(&mut recent, 2, PERIOD_NS - 1, cart(2, 30, ""));
        let shown = recent.shown(PERIOD_NS - 1);
        assert_eq!((shown.found.findings.len(), shown.found.traces), (1, 2));
        assert_eq!(shown.traces[0].as_ref().map(|kept| kept.trace.id), Some(2), "the one that costs most");
        // What was found before is shown until enough is known.
        add(&mut recent, 3, PERIOD_NS, vec![span(3, 0, "other", (0, MS))]);
        let shown = recent.shown(PERIOD_NS);
        assert_eq!((shown.found.traces, shown.since_ns), (2, 0));
        assert!(shown.traces[0].is_some());
        let shown = recent.shown(PERIOD_NS + WARM_UP_NS);
        assert_eq!((shown.found.traces, shown.found.findings.len(), shown.since_ns), (1, 0, PERIOD_NS));
        recent.keep_all();
        add(&mut recent, 4, 5 * PERIOD_NS, vec![span(4, 0, "other", (0, MS))]);
        assert_eq!(recent.shown(5 * PERIOD_NS).found.traces, 2);
    }

    #[test]
    fn only_so_many_spans_are_looked_at_in_a_second() {
        let mut recent = Recent::new(0);
        let spans = |id: u64| (1..=5_000).map(|of| span(id << 32 | of, 0, "a", (0, MS))).collect();
        (1..=10).for_each(|id| add(&mut recent, id, SECOND_NS / 2, spans(id)));
        assert_eq!((recent.shown(SECOND_NS).found.traces, recent.shown(SECOND_NS).skipped), (4, 6));
        add(&mut recent, 11, SECOND_NS, spans(11));
        assert_eq!(recent.shown(SECOND_NS).found.traces, 5);
    }

    #[test]
    fn traces_that_findings_show_take_bounded_memory() {
        let mut recent = Recent::new(0);
        recent.keep_all();
        // Each has a name of its own and some MB, and the last ones cost most.
        for id in 1..=40 {
            let mut spans = cart(id, 20 + id, &"x".repeat(50_000));
            spans[0] = span(id << 32 | 1, 0, &format!("cart {id}"), (0, 100 * MS));
            add(&mut recent, id, id * SECOND_NS, spans);
            let bytes: usize = recent.examples.values().map(|kept| kept.bytes()).sum();
            assert!(bytes <= MAX_BYTES + (8 << 20), "{bytes}");
        }
        let shown = recent.shown(u64::MAX);
        assert!(shown.traces.iter().all(Option::is_some), "the shown ones are there");
    }
}
