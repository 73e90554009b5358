//! Rate, errors and durations of spans, by service and span name.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::registry::Unit;

use crate::stats::shortened;

/// The most pairs of a service and a name. The spans of others are counted together: a name that holds an id must
/// fill neither the memory nor the backend.
const MAX_SERIES: usize = 1000;

/// The upper bounds of the buckets, in nanoseconds: from the fastest cache to the slowest request.
const BUCKETS_NS: [u64; 18] = [
    10_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// A span, as far as the metrics count it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted<'a> {
    pub(crate) name: &'a str,
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
    /// The start and the end, in nanoseconds since 1970.
    pub(crate) times: (u64, u64),
    pub(crate) is_error: bool,
}

/// The metrics of all spans that were received.
#[derive(Default, Debug)]
pub struct SpanMetrics(Mutex<Known>);

#[derive(Default, Debug)]
struct Known {
    series: HashMap<String, Series>,
    /// The spans beyond [`MAX_SERIES`].
    rest: Option<Series>,
    /// The key of the last span, whose memory the next one uses again.
    key: String,
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    durations: HistogramWithExemplars<Exemplar>,
    errors: u64,
    /// When each bucket got its last exemplar, in seconds since 1970. One a second is enough.
    exemplars_at: [u64; BUCKETS_NS.len() + 1],
}

/// The labels of an exemplar: `trace_id` and `span_id`.
type Exemplar = [(&'static str, String); 2];

/// The labels of a series.
type Labels = Vec<(&'static str, String)>;

impl SpanMetrics {
    /// Counts spans of a service.
    pub(crate) fn count<'a>(&self, service: &str, spans: impl Iterator<Item = Counted<'a>>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spans.for_each(|span| known.count(service, span));
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = || known.series.values().chain(&known.rest);
        let help = "Spans by service and name, and how long they took";
        let mut family =
            encoder.encode_descriptor("span_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for series in all() {
            series.durations.encode(family.encode_family(&series.labels)?)?;
        }
        let help = "Failed spans by service and name";
        let mut family = encoder.encode_descriptor("span_errors", help, None, MetricType::Counter)?;
        for series in all() {
            let errors = &series.errors;
            family.encode_family(&series.labels)?.encode_counter::<NoLabelSet, u64, f64>(errors, None)?;
        }
        Ok(())
    }
}

impl Known {
    fn count(&mut self, service: &str, span: Counted<'_>) {
        let [service, name] = [service, span.name].map(shortened);
        self.key.clear();
        // With its length, because either text may contain anything. Writing to a string doesn't fail.
        let _ = write!(self.key, "{}:{service}{name}", service.len());
        if let Some(series) = self.series.get_mut(&self.key) {
            return series.count(span);
        }
        let series = if self.series.len() < MAX_SERIES {
            let labels = || vec![("service", service.to_owned()), ("span", name.to_owned())];
            self.series.entry(self.key.clone()).or_insert_with(|| Series::new(labels()))
        } else {
            self.rest.get_or_insert_with(|| Series::new(vec![("rest", "true".to_owned())]))
        };
        series.count(span);
    }
}

impl Series {
    fn new(labels: Labels) -> Self {
        let seconds = BUCKETS_NS.map(|ns| Duration::from_nanos(ns).as_secs_f64());
        Self {
            labels,
            durations: HistogramWithExemplars::new(seconds.into_iter()),
            errors: 0,
            exemplars_at: [0; BUCKETS_NS.len() + 1],
        }
    }

    fn count(&mut self, span: Counted<'_>) {
        let Counted { trace_id, span_id, times: (start_ns, end_ns), is_error, .. } = span;
        let duration_ns = end_ns.saturating_sub(start_ns);
        let bucket = BUCKETS_NS.partition_point(|bound| *bound < duration_ns);
        let second = end_ns / 1_000_000_000;
        let is_new =
            self.exemplars_at.get_mut(bucket).is_some_and(|at| std::mem::replace(at, second) != second);
        let exemplar = is_new
            .then(|| [("trace_id", format!("{trace_id:032x}")), ("span_id", format!("{span_id:016x}"))]);
        let time: Option<SystemTime> = is_new.then(|| UNIX_EPOCH + Duration::from_nanos(end_ns));
        self.durations.observe(Duration::from_nanos(duration_ns).as_secs_f64(), exemplar, time);
        self.errors += u64::from(is_error);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    #[derive(Debug)]
    struct Page(Arc<SpanMetrics>);

    impl Collector for Page {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            self.0.encode(&mut encoder)
        }
    }

    fn page(metrics: SpanMetrics) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Page(Arc::new(metrics))));
        let mut page = String::new();
        text::encode(&mut page, &registry).expect("a string takes everything");
        page
    }

    fn span(name: &str, duration_ns: u64, is_error: bool) -> Counted<'_> {
        let start = 1_800_000_000_000_000_000;
        Counted { name, trace_id: 7, span_id: duration_ns, times: (start, start + duration_ns), is_error }
    }

    #[test]
    fn spans_are_counted_by_service_and_name() {
        let metrics = SpanMetrics::default();
        metrics.count("shop", [span("GET", 10_000, false), span("GET", 10_001, true)].into_iter());
        metrics.count("shop", [span("GET", 20_000_000_000, true)].into_iter());
        metrics.count("sho", [span("pGET", 1, false)].into_iter());
        let page = page(metrics);
        let ids = |span_id: &str| format!("trace_id=\"{:032x}\",span_id=\"{span_id}\"", 7);
        for line in [
            "span_duration_seconds_count{service=\"shop\",span=\"GET\"} 3",
            "span_duration_seconds_count{service=\"sho\",span=\"pGET\"} 1",
            "span_errors_total{service=\"shop\",span=\"GET\"} 2",
            "span_errors_total{service=\"sho\",span=\"pGET\"} 0",
            &format!(
                "span_duration_seconds_bucket{{le=\"0.00001\",service=\"shop\",span=\"GET\"}} 1 # {{{}}} 0.00001 1800000000.00001",
                ids("0000000000002710")
            ),
            "span_duration_seconds_bucket{le=\"10.0\",service=\"shop\",span=\"GET\"} 2",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
    }

    /// Each series repeats them in some twenty lines.
    #[test]
    fn long_names_are_cut() {
        let metrics = SpanMetrics::default();
        let [one, other] = ["1", "2"].map(|end| "é".repeat(10_000) + end);
        metrics.count(&one, [span(&one, 1, true), span(&other, 1, true)].into_iter());
        let page = page(metrics);
        assert!(page.len() < 20_000, "{}", page.len());
        assert!(page.contains(&format!("span=\"{}\"}} 2\n", "é".repeat(100))), "{page}");
    }

    #[test]
    fn names_beyond_the_limit_are_counted_together() {
        let metrics = SpanMetrics::default();
        let names: Vec<String> = (0..MAX_SERIES + 5).map(|id| format!("GET /orders/{id}")).collect();
        for _ in 0..2 {
            metrics.count("shop", names.iter().map(|name| span(name, 1, true)));
        }
        let page = page(metrics);
        assert_eq!(page.matches("span_errors_total{service").count(), MAX_SERIES);
        assert!(page.contains("span_errors_total{rest=\"true\"} 10\n"));
        assert!(page.contains("span_duration_seconds_count{rest=\"true\"} 10\n"));
    }
}
