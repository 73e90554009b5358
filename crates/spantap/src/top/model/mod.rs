//! What `top` knows: figures of all spans, and some traces. It takes bounded memory, whatever is sent for however long.
//!
//! `table` has the `series` of each service and name, and `halves` what happened lately. `calls` has which service
//! calls which. `traces` are kept to be looked at, and `findings` says what is wrong in them.

mod calls;
mod findings;
mod halves;
mod series;
mod table;
#[cfg(test)]
mod tests;
mod traces;

use std::sync::Arc;

use memchr::memmem::Finder;

pub(crate) use calls::Call;
pub(crate) use findings::Shown as Findings;
pub(crate) use series::{Figures, SECONDS, Window};
pub(crate) use table::{Row, SeriesName};
pub(crate) use traces::Kept;

use crate::query::{Query, Subject};
pub(crate) use crate::trace::{Breakdown, Part};
use crate::trace::{EncodedSpan, Trace, breakdowns, finder};
use calls::Calls;
use findings::Recent;
use table::Table;
use traces::Traces;

/// All that `top` knows.
#[derive(Debug)]
pub(crate) struct Model {
    /// The time, in nanoseconds since 1970: now, or how far a file was read.
    now_ns: u64,
    started_ns: u64,
    spans: u64,
    all: Table,
    /// The spans that a query chooses, since it was asked.
    chosen: Option<(Query, u64, Table)>,
    calls: Calls,
    traces: Traces,
    findings: Recent,
    accounts: Finder<'static>,
}

impl Model {
    pub(crate) fn new(now_ns: u64) -> Self {
        Self {
            now_ns,
            started_ns: now_ns,
            spans: 0,
            all: Table::new(now_ns),
            chosen: None,
            calls: Calls::default(),
            traces: Traces::new(now_ns),
            findings: Recent::new(now_ns),
            accounts: finder(),
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The time of the first span of a file, or when the program began.
    pub(crate) fn started_ns(&self) -> u64 {
        self.started_ns
    }

    /// The spans that were counted so far.
    pub(crate) fn spans(&self) -> u64 {
        self.spans
    }

    /// Sets the time. It does not go back.
    pub(crate) fn set_time(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    /// Counts only spans that `query` chooses, from now on, in a table of their own.
    pub(crate) fn choose(&mut self, query: Option<Query>) {
        self.chosen = query.map(|query| (query, self.now_ns, Table::new(self.now_ns)));
    }

    /// Since when the spans of the query are counted.
    pub(crate) fn chosen_since_ns(&self) -> Option<u64> {
        self.chosen.as_ref().map(|(_, since_ns, _)| *since_ns)
    }

    /// Counts a span.
    pub(crate) fn span(&mut self, span: &EncodedSpan) {
        if span.is_kernel {
            return;
        }
        self.spans += 1;
        let (service, name, duration_ns) = (&span.process.service, span.name(), span.duration_ns());
        self.all.count(service, name, duration_ns, span.is_error, self.now_ns);
        if let Some((query, _, table)) = &mut self.chosen
            && matches(query, span)
        {
            table.count(service, name, duration_ns, span.is_error, self.now_ns);
        }
    }

    /// Takes what only a whole trace tells, and keeps the trace if it is worth it.
    pub(crate) fn trace(&mut self, trace: &Trace<EncodedSpan>) {
        let (spans, now_ns) = (&trace.spans, self.now_ns);
        // The others were there when it was first shown.
        let first = if trace.late > 0 { spans.len() - trace.late } else { 0 };
        let times = trace.times();
        let (mut kept, fits): (Option<Arc<Kept>>, bool) = (None, traces::fits_a_row(trace));
        let breakdowns = breakdowns(spans, &self.accounts);
        let each = spans.iter().zip(&breakdowns).skip(first);
        for (span, breakdown) in each.filter_map(|(span, breakdown)| Some((span, breakdown.as_ref()?))) {
            let (service, name) = (&span.process.service, span.name());
            self.all.add_breakdown(service, name, breakdown, now_ns);
            if let Some(series) = self.all.known(service, name).filter(|_| fits)
                && series.is_slowest(span.duration_ns(), now_ns)
            {
                let kept = kept.get_or_insert_with(|| Kept::new(trace, times));
                series.keep_slowest(span.duration_ns(), Arc::clone(kept), now_ns);
            }
            if let Some((query, _, table)) = &mut self.chosen
                && matches(query, span)
            {
                table.add_breakdown(service, name, breakdown, now_ns);
            }
        }
        self.calls.add(spans, first, now_ns);
        let mut copy = || Arc::clone(kept.get_or_insert_with(|| Kept::new(trace, times)));
        self.findings.add(trace, &breakdowns, now_ns, &mut copy);
        self.traces.offer(trace, times, now_ns, copy);
    }

    /// The rows of the table: of the spans that the query chooses, if there is one.
    pub(crate) fn rows(&self, window: Window) -> Vec<Row> {
        let table = self.chosen.as_ref().map_or(&self.all, |(_, _, table)| table);
        table.rows(window, self.now_ns)
    }

    /// The rows of all spans.
    pub(crate) fn all_rows(&self, window: Window) -> Vec<Row> {
        self.all.rows(window, self.now_ns)
    }

    /// The traces that are kept, each once.
    pub(crate) fn traces(&self) -> Vec<Arc<Kept>> {
        self.traces.all()
    }

    /// The same, with the slowest ones that have a span of a series.
    pub(crate) fn traces_and_slowest_of(&self, series: &SeriesName) -> Vec<Arc<Kept>> {
        traces::once([self.traces.all(), self.all.slowest(series)].concat())
    }

    /// Looks for what is wrong in all traces, and not only in the latest.
    pub(crate) fn keep_all_findings(&mut self) {
        self.findings.keep_all();
    }

    /// What is wrong.
    pub(crate) fn findings(&self) -> Findings {
        self.findings.shown(self.now_ns)
    }

    /// The calls between services, and the number of those that are not listed.
    pub(crate) fn calls(&self, window: Window) -> (Vec<Call>, u64) {
        self.calls.list(window, self.now_ns)
    }
}

fn matches(query: &Query, span: &EncodedSpan) -> bool {
    span.decode().is_some_and(|of| query.matches(&Subject::new(&of.span, &of.process)))
}
