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
            let before = self.before.take();
            *self = Self { before, ..Self::new(now_ns) };
        }
        let second = now_ns / SECOND_NS;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        // One trace is always looked at, however large.
        if self.is_forgetful && self.second.1 >= MAX_SPANS_PER_SECOND {
            self.skipped += 1;
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
            let shown = self.findings.found();
            let is_shown =
                |id: &u128| shown.findings.iter().any(|finding| finding.trace_ids.first() == Some(id));
            self.examples.retain(|id, _| is_shown(id));
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
