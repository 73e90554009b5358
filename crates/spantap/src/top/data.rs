//! What one screen shows: a copy of what the model knows, in the order in which it is shown. While the screen is paused,
//! the copy stays.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::model::{Call, Figures, Findings, Kept, Model, Row, SeriesName, Window};
use super::sort::{SeriesColumn, Sort, TraceColumn};
use crate::query::Query;
use crate::search::is_chosen;
use crate::stats::shortened;

/// The copy.
#[derive(Default, Debug)]
pub(super) struct Data {
    pub(super) now_ns: u64,
    pub(super) spans: u64,
    /// Spans a second: since the copy before, or since the start.
    pub(super) rate: f64,
    /// Since when the table counts only what the query chooses.
    pub(super) chosen_since_ns: Option<u64>,
    pub(super) rows: Vec<Row>,
    pub(super) traces: Vec<Arc<Kept>>,
    pub(super) calls: Vec<Call>,
    pub(super) other_calls: u64,
    pub(super) findings: Findings,
    /// The 95th and the 99th percentile of each series, whatever the query chooses.
    percentiles: HashMap<SeriesName, (u64, u64)>,
}

/// How a duration compares with those of other spans of the same service and name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rank {
    /// Longer than 99 % of them.
    Highest,
    /// Longer than 95 % of them.
    High,
    /// As most of them, or nothing is known of others.
    Usual,
}

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub(super) window: Window,
    pub(super) query: Option<&'a Query>,
    /// Only traces with a span of this series.
    pub(super) series: Option<&'a SeriesName>,
}

impl Data {
    /// Copies what is known. `before` is the copy before, for the rate.
    pub(super) fn copy(model: &Model, wanted: &Wanted<'_>, before: &Self) -> Self {
        let (rows, now_ns, spans) = (model.rows(wanted.window), model.now_ns(), model.spans());
        let seconds = now_ns.saturating_sub(before.now_ns) as f64 / 1e9;
        let rate = match wanted.window {
            Window::All => spans as f64 / (now_ns.saturating_sub(model.started_ns()) as f64 / 1e9).max(1.0),
            Window::Recent if before.now_ns == 0 => 0.0,
            Window::Recent if seconds < 0.001 => before.rate,
            Window::Recent => spans.saturating_sub(before.spans) as f64 / seconds,
        };
        let (calls, other_calls) = model.calls(wanted.window);
        let percentile = |row: &Row| (row.of.clone(), (row.figures.p95_ns, row.figures.p99_ns));
        let percentiles = match model.chosen_since_ns() {
            Some(_) => model.all_rows(wanted.window).iter().map(percentile).collect(),
            None => rows.iter().map(percentile).collect(),
        };
        Self {
            now_ns,
            spans,
            rate,
            chosen_since_ns: model.chosen_since_ns(),
            percentiles,
            rows,
            traces: wanted.series.map_or_else(|| model.traces(), |of| model.traces_and_slowest_of(of)),
            calls,
            other_calls,
            findings: model.findings(),
        }
    }

    /// Leaves only rows whose service and name the query chooses.
    pub(super) fn keep_rows(&mut self, query: &Query) {
        self.rows.retain(|row| match &row.of {
            SeriesName::Of(service, name) => query.matches_name(service, name),
            // Some of them may be chosen.
            SeriesName::Others => true,
        });
    }

    /// Leaves only the traces that are wanted. It decodes them, so it is not part of the copy, for which spans wait.
    pub(super) fn keep_traces(&mut self, wanted: &Wanted<'_>) {
        self.traces.retain(|kept| {
            wanted.series.is_none_or(|series| has_span_of(kept, series))
                && wanted.query.is_none_or(|query| is_chosen(&kept.trace, query))
        });
    }

    pub(super) fn sort(&mut self, series: Sort<SeriesColumn>, traces: Sort<TraceColumn>) {
        let order = |column: SeriesColumn, one: &Row, other: &Row| {
            let (a, b) = (&one.figures, &other.figures);
            let errors = |of: &Figures| of.errors as f64 / of.calls.max(1) as f64;
            match column {
                SeriesColumn::Service => one.of.cmp(&other.of),
                SeriesColumn::Name => one.of.name().cmp(other.of.name()),
                SeriesColumn::Rate => a.rate.total_cmp(&b.rate),
                SeriesColumn::Errors => errors(a).total_cmp(&errors(b)),
                SeriesColumn::P50 => a.p50_ns.cmp(&b.p50_ns),
                SeriesColumn::P95 => a.p95_ns.cmp(&b.p95_ns),
                SeriesColumn::P99 => a.p99_ns.cmp(&b.p99_ns),
                SeriesColumn::Max => a.max_ns.cmp(&b.max_ns),
                SeriesColumn::Own => a.breakdown.self_ns().cmp(&b.breakdown.self_ns()),
                SeriesColumn::Total => one.total_ns().cmp(&other.total_ns()),
            }
        };
        self.rows.sort_by(|one, other| {
            series.direct(order(series.column, one, other)).then_with(|| one.of.cmp(&other.of))
        });
        let order = |column: TraceColumn, one: &Kept, other: &Kept| match column {
            TraceColumn::Began => one.times.0.cmp(&other.times.0),
            TraceColumn::Service => service(one).cmp(service(other)),
            TraceColumn::Name => name(one).cmp(name(other)),
            TraceColumn::Duration => one.duration_ns().cmp(&other.duration_ns()),
            TraceColumn::Spans => one.trace.spans.len().cmp(&other.trace.spans.len()),
            TraceColumn::Errors => one.errors.cmp(&other.errors),
        };
        self.traces.sort_by(|one, other| {
            let by_column: Ordering = traces.direct(order(traces.column, one, other));
            by_column.then_with(|| one.trace.id.cmp(&other.trace.id))
        });
    }

    /// How a span of this duration compares with others of its service and name.
    pub(super) fn rank(&self, service: &str, name: &str, duration_ns: u64) -> Rank {
        match self.percentiles.get(&SeriesName::Of(shortened(service).into(), shortened(name).into())) {
            Some((_, p99)) if is_longer(duration_ns, *p99) => Rank::Highest,
            Some((p95, _)) if is_longer(duration_ns, *p95) => Rank::High,
            _ => Rank::Usual,
        }
    }
}

/// Whether a duration is longer than a percentile, which may be 1 % less than what it stands for.
fn is_longer(duration_ns: u64, percentile_ns: u64) -> bool {
    u128::from(duration_ns) * 100 > u128::from(percentile_ns) * 102
}

pub(super) fn service(kept: &Kept) -> &str {
    kept.root().map_or("", |span| &span.process.service)
}

pub(super) fn name(kept: &Kept) -> &str {
    kept.root().map_or("", |span| span.name())
}

fn has_span_of(kept: &Kept, series: &SeriesName) -> bool {
    let SeriesName::Of(service, name) = series else { return true };
    let mut spans = kept.trace.spans.iter();
    spans.any(|span| shortened(&span.process.service) == &**service && shortened(span.name()) == &**name)
}
