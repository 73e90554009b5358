//! Takes spans in, lets them wait until their trace is decided, and hands out those that are kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::{Counters, Counts, OfRule};
use super::decided::{Decided, Memory};
use super::kept::{Origin, Output};
use super::positions::{Position, Positions};
use super::rules::{Decision, Judge, Kept, Rules};
use super::waiting::{Due, Wait, WaitingSpan, WaitingTraces};
use crate::encode::Chunk;
use crate::process::{Process, Progress};
use crate::query::Subject;
use crate::span::Summary;

/// How soon changed progress is passed on, so that a kill shows few spans as missing that were dropped by a rule.
const PROGRESS_DELAY: Duration = Duration::from_millis(100);

/// Limits of the memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most bytes of spans that wait. If they are more, the traces that wait longest are decided.
    pub bytes: usize,
    /// The most bytes of a trace that waits. If they are more, it is decided.
    pub bytes_of_a_trace: usize,
    /// The least number of decisions that are remembered; the most is twice as many.
    pub decisions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // A decision takes 48 bytes, and some 60 with its share of a table: at most 52 MB.
        Self { bytes: 128 << 20, bytes_of_a_trace: 8 << 20, decisions: 400_000 }
    }
}

/// Decides which traces are kept.
#[derive(Debug)]
pub struct Sampler {
    limits: Limits,
    judge: Judge,
    waiting: WaitingTraces,
    decided: Memory,
    output: Output,
    positions: Positions,
    counters: Arc<Counters>,
    counts: Counts,
    /// Where the next spans come from.
    process: Option<(Arc<Process>, Option<Arc<Position>>)>,
    origin: Option<Arc<Origin>>,
    /// When changed progress is passed on without spans.
    progress_due: Option<Instant>,
}

impl Sampler {
    /// A sampler that lets traces wait.
    pub fn new(rules: &Rules, wait: Wait, limits: Limits, counters: Arc<Counters>) -> Self {
        let of_rule = |label: &str| OfRule { rule: label.to_owned(), ..OfRule::default() };
        let counts =
            Counts { rules: rules.iter().map(|rule| of_rule(rule.label())).collect(), ..Counts::default() };
        counters.set(&counts);
        Self {
            limits,
            judge: Judge::new(rules.clone(), Instant::now()),
            waiting: WaitingTraces::new(wait),
            decided: Memory::new(limits.decisions),
            output: Output::new(rules),
            positions: Positions::default(),
            counters,
            counts,
            process: None,
            origin: None,
            progress_due: None,
        }
    }

    /// The next spans come from this process. `progress` is that of its senders after them. If they are several, such as
    /// two layers in one process, their waiting spans are held back from the progress of the first.
    pub fn begin(&mut self, process: &Arc<Process>, progress: &[Progress]) {
        let position = progress.first().map(|progress| self.positions.of(progress.sender));
        self.process = Some((Arc::clone(process), position));
        self.origin = None;
    }

    /// The next spans are of this scope: the fields of a `ScopeSpans` other than its spans.
    pub fn scope(&mut self, scope: &[u8]) {
        let of = |(process, position): &(Arc<Process>, Option<Arc<Position>>)| {
            Arc::new(Origin::new(process, scope, position.as_ref()))
        };
        self.origin = self.process.as_ref().map(of);
    }

    /// Passes a span on that is no part of a trace, as the field `spans` of a `ScopeSpans`.
    pub fn pass(&mut self, field: &[u8]) {
        if let Some(origin) = &self.origin {
            self.output.pass(origin, field);
            self.counts.passed += 1;
        }
    }

    /// Takes a span of a trace, as the field `spans` of a `ScopeSpans`.
    pub fn take(&mut self, span: &Summary, field: &[u8], now: Instant) {
        let Some(origin) = self.origin.clone() else { return };
        let (id, subject) = (span.trace_id, Subject::encoded(span, field, &origin.process));
        let waits = self.waiting.applying(id);
        if waits.is_none()
            && let Some(decided) = self.decided.get(id)
        {
            return self.take_late(decided, id, &subject, &origin, field);
        }
        let mut applying = waits.unwrap_or_else(|| self.judge.always());
        self.judge.look(&mut applying, &subject);
        if self.judge.is_settled(id, applying) {
            let decision = self.judge.decide(id, applying, now);
            let is_settled = true;
            self.conclude(id, Decided { decision, is_settled }, now);
            return self.release(decision, &origin, field);
        }
        let parent_id = span.parent_id.unwrap_or(0);
        let waiting = WaitingSpan { origin, span_id: span.span_id, parent_id, field: field.into() };
        if self.waiting.add(id, waiting, applying, now) > self.limits.bytes_of_a_trace {
            self.counts.too_large += 1;
            self.decide(id, now);
        }
        while self.waiting.bytes() > self.limits.bytes {
            let Some(oldest) = self.waiting.oldest() else { break };
            self.counts.no_room += 1;
            self.decide(oldest, now);
        }
    }

    /// Ends the spans of [`begin`](Self::begin): their senders have come to `progress`.
    pub fn end(&mut self, progress: &[Progress], now: Instant) {
        progress.iter().for_each(|progress| self.positions.take(*progress));
        if !progress.is_empty() {
            self.progress_due.get_or_insert(now + PROGRESS_DELAY);
        }
        if self.positions.is_full() {
            self.progress_due = Some(now);
        }
        (self.process, self.origin) = (None, None);
    }

    /// A span whose trace was decided before.
    fn take_late(
        &mut self,
        decided: Decided,
        id: u128,
        subject: &Subject<'_>,
        origin: &Arc<Origin>,
        field: &[u8],
    ) {
        let Decided { mut decision, is_settled } = decided;
        if !is_settled && let Some(better) = self.judge.improve(decision, id, subject) {
            self.counts.incomplete_traces += u64::from(decision == Decision::Dropped);
            decision = Decision::Kept(better);
            self.decided.put(id, Decided { decision, is_settled });
        }
        match decision {
            _ if is_settled => {}
            Decision::Kept(_) => self.counts.late_kept += 1,
            Decision::Dropped => self.counts.late_dropped += 1,
        }
        self.release(decision, origin, field);
    }

    /// Decides about a trace that waits, with what is there.
    fn decide(&mut self, id: u128, now: Instant) {
        let Some(applying) = self.waiting.applying(id) else { return };
        let decision = self.judge.decide(id, applying, now);
        self.conclude(id, Decided { decision, is_settled: false }, now);
    }

    /// Remembers a decision, and lets the spans of the trace go.
    fn conclude(&mut self, id: u128, decided: Decided, now: Instant) {
        match decided.decision {
            Decision::Kept(Kept { rule, .. }) => {
                self.counts.rules.get_mut(usize::from(rule)).into_iter().for_each(|of| of.traces += 1);
            }
            Decision::Dropped => self.counts.dropped_traces += 1,
        }
        self.decided.put(id, decided);
        let spans = self.waiting.remove(id).map(|trace| trace.spans).unwrap_or_default();
        if !spans.is_empty() {
            self.progress_due.get_or_insert(now + PROGRESS_DELAY);
        }
        for span in spans {
            self.release(decided.decision, &span.origin, &span.field);
        }
    }

    fn release(&mut self, decision: Decision, origin: &Arc<Origin>, field: &[u8]) {
        match decision {
            Decision::Kept(kept) => {
                self.counts.rules.get_mut(usize::from(kept.rule)).into_iter().for_each(|of| of.spans += 1);
                self.output.keep(origin, field, kept);
            }
            Decision::Dropped => self.counts.dropped_spans += 1,
        }
    }

    /// Decides about the traces that are due.
    pub fn due(&mut self, now: Instant) {
        while let Some((id, why)) = self.waiting.due(now) {
            self.counts.waited += u64::from(why == Due::Waited);
            self.decide(id, now);
        }
    }

    /// When to call [`due`](Self::due) and [`kept`](Self::kept) next.
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.next_due().into_iter().chain(self.progress_due).min()
    }

    /// Decides about traces that wait, at the end, each as if at the time when it would have been due: otherwise a rate, which
    /// has room for a second, would keep hardly any of them. To be called until it returns false, because then none waits; and
    /// [`kept`](Self::kept) after each call: all kept spans at once could be too many for the memory.
    pub fn finish(&mut self, now: Instant) -> bool {
        self.due(now);
        while let Some(at) = self.waiting.next_due() {
            while let Some((id, _)) = self.waiting.due(at.max(now)) {
                self.decide(id, at.max(now));
                if self.output.has_chunk() {
                    return true;
                }
            }
        }
        if self.progress_due.is_some() {
            self.progress_due = Some(now);
        }
        false
    }

    /// What was kept since the last call, and the progress of the senders, if it is time to pass it on. If there are chunks, the
    /// last one has it, so that a spool writes it with their spans. If a kill comes between several chunks, the spans of the
    /// first of them are delivered, and counted as missing as well.
    pub fn kept(&mut self, now: Instant) -> (Vec<Chunk>, Vec<Progress>) {
        (self.counts.waiting_traces, self.counts.waiting_spans) = self.waiting.counts();
        self.counts.unrepresented_traces = self.judge.unrepresented();
        self.counters.set(&self.counts);
        let mut chunks = self.output.take();
        if chunks.is_empty() && self.progress_due.is_none_or(|due| due > now) {
            return (chunks, Vec::new());
        }
        self.progress_due = None;
        let progress = self.positions.changed();
        match chunks.last_mut() {
            Some(last) => {
                last.progress = progress;
                (chunks, Vec::new())
            }
            None => (chunks, progress),
        }
    }
}

#[cfg(test)]
impl Sampler {
    pub(super) fn waiting_spans(&self) -> u64 {
        self.waiting.counts().1
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.bytes()
    }

    pub(super) fn checks(&self) -> usize {
        self.waiting.checks()
    }
}
