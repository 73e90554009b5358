//! The spans by service and name: how many, how many failed, and how long they took.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use crate::graph::Measure;
use crate::text::{counted, cut, on_one_line};
use crate::trace::{Breakdown, EncodedSpan, Trace};

/// The most rows. A row takes up to 16 KiB.
const MAX_ROWS: usize = if cfg!(test) { 5 } else { 2_000 };
/// Longer names are cut.
const MAX_COLUMNS: usize = 200;

/// The table.
#[derive(Default)]
pub(super) struct Names {
    rows: HashMap<(String, String), Measured>,
    services: BTreeSet<String>,
    /// There are more services than that.
    has_more_services: bool,
    /// Spans that there was no room for.
    left_out: u64,
}

#[derive(Default)]
struct Measured {
    id: usize,
    measure: Measure,
    own_ns: u128,
}

/// A row of the table.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    id: usize,
    service: &'a str,
    name: &'a str,
    spans: u64,
    errors: u64,
    p50_ns: u64,
    p95_ns: u64,
    p99_ns: u64,
    max_ns: u64,
    own_ns: u64,
    total_ns: u64,
}

impl Names {
    /// Adds the spans of a trace. Returns the ids of their rows.
    pub(super) fn add(
        &mut self,
        trace: &Trace<EncodedSpan>,
        breakdowns: &[Option<Breakdown>],
    ) -> BTreeSet<usize> {
        let mut ids = BTreeSet::new();
        for (span, breakdown) in trace.spans.iter().zip(breakdowns) {
            // Kernel activity is none of the program's spans.
            let Some(breakdown) = breakdown else { continue };
            let service = shown(&span.process.service);
            if !self.services.contains(&service) {
                match self.services.len() < MAX_ROWS {
                    true => _ = self.services.insert(service.clone()),
                    false => self.has_more_services = true,
                }
            }
            let key = (service, shown(span.name()));
            if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&key) {
                self.left_out += 1;
                continue;
            }
            let next = self.rows.len();
            let row = self.rows.entry(key).or_insert_with(|| Measured { id: next, ..Measured::default() });
            ids.insert(row.id);
            row.measure.add(span.duration_ns(), span.is_error);
            row.own_ns += u128::from(breakdown.self_ns().unwrap_or(0));
        }
        ids
    }

    pub(super) fn services(&self) -> usize {
        self.services.len()
    }

    /// How many services there are, as far as they are counted.
    pub(super) fn services_counted(&self) -> String {
        let counted = counted(self.services.len() as u64, "service", "services");
        if self.has_more_services { format!("more than {counted}") } else { counted }
    }

    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let number = |ns: u128| u64::try_from(ns).unwrap_or(u64::MAX);
        let mut rows: Vec<Row<'_>> = Vec::new();
        for ((service, name), Measured { id, measure, own_ns }) in &self.rows {
            rows.push(Row {
                id: *id,
                service,
                name,
                spans: measure.calls,
                errors: measure.errors,
                p50_ns: measure.percentile_ns(50),
                p95_ns: measure.percentile_ns(95),
                p99_ns: measure.percentile_ns(99),
                max_ns: measure.max_ns(),
                own_ns: number(*own_ns),
                total_ns: number(measure.total_ns),
            });
        }
        rows.sort_by(|one, other| {
            other.total_ns.cmp(&one.total_ns).then((one.service, one.name).cmp(&(other.service, other.name)))
        });
        rows
    }

    /// A line about spans that are not in the table.
    pub(super) fn left_out(&self) -> Option<String> {
        let spans = counted(self.left_out, "span is", "spans are");
        (self.left_out > 0).then(|| format!("{spans} not in the table: it has {MAX_ROWS} names"))
    }
}

fn shown(text: &str) -> String {
    cut(&on_one_line(text), MAX_COLUMNS)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::Span;

    use super::*;
    use crate::export::made::{of_service, span};
    use crate::trace::{breakdowns, finder};

    #[test]
    fn names_beyond_the_limit_are_counted() {
        let mut names = Names::default();
        // Each comes twice.
        for id in 0..16 {
            let named = Span { name: format!("span {}", id % 8), ..span(1, 0, 0..5) };
            let trace = of_service(&format!("service {}", id % 8), id, vec![named]);
            let rows = names.add(&trace, &breakdowns(&trace.spans, &finder()));
            assert_eq!(rows.len(), usize::from(id % 8 < 5));
        }
        assert!(names.rows().len() == 5 && names.rows().iter().all(|row| row.spans == 2));
        assert_eq!(names.left_out().as_deref(), Some("6 spans are not in the table: it has 5 names"));
        assert_eq!((names.services(), names.services_counted()), (5, "more than 5 services".to_owned()));
    }
}
