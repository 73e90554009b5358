//! Decides which traces are sent as datagrams. Probes ignore this decision: they cost next to nothing until a
//! consumer attaches, and a consumer that attaches should see every span.

use std::fmt;
use std::sync::Arc;

use tracing_core::Metadata;
use tracing_core::field::{Field, Visit};
use tracing_core::span::Attributes;

use crate::propagation::TraceId;

/// Decides for each trace whether its spans are sent as datagrams.
///
/// The decision is made for the first span of a trace in this process, and holds for all spans below it. The
/// samplers of the OpenTelemetry specification use only the trace id and the remote parent, so that
/// processes with the same sampler make the same decision for a trace.
///
/// A field `sampling.priority` overrides the decision for its span and all spans below it: 0 or `false` means
/// not sent, a greater number or `true` means sent.
#[derive(Clone)]
#[non_exhaustive]
pub enum Sampler {
    /// Samples every trace.
    AlwaysOn,
    /// Samples no trace.
    AlwaysOff,
    /// Samples this fraction of all traces: 0.0 is none, 1.0 is all.
    TraceIdRatio(f64),
    /// Follows the decision of the remote parent. For a trace that begins in this process, asks the inner
    /// sampler.
    ParentBased(Box<Sampler>),
    /// Asks a [`ShouldSample`] of the application. See [`Sampler::custom`].
    Custom(Arc<dyn ShouldSample>),
}

/// A sampler that the application implements.
///
/// ```
/// use tracing_usdt::{SamplingRequest, Sampler};
///
/// // Samples everything except health checks.
/// let sampler = Sampler::custom(|trace: &SamplingRequest| trace.metadata.name() != "health");
/// let layer = tracing_usdt::builder().with_sampler(sampler).build();
/// # drop(layer);
/// ```
pub trait ShouldSample: Send + Sync {
    /// Whether to send the spans of this process that belong to `trace`.
    ///
    /// Called while a span is created: it should be fast, and must not create spans.
    fn should_sample(&self, trace: &SamplingRequest) -> bool;
}

impl<F: Fn(&SamplingRequest) -> bool + Send + Sync> ShouldSample for F {
    fn should_sample(&self, trace: &SamplingRequest) -> bool {
        self(trace)
    }
}

/// What a [`ShouldSample`] can base its decision on: a trace that begins or continues in this process.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SamplingRequest {
    /// The trace id: that of the remote parent, or a new random one.
    pub trace_id: TraceId,
    /// Whether the remote parent is sampled. `None` if there is no remote parent.
    pub parent_sampled: Option<bool>,
    /// The metadata of the trace's first span in this process.
    pub metadata: &'static Metadata<'static>,
}

impl PartialEq for Sampler {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::AlwaysOn, Self::AlwaysOn) | (Self::AlwaysOff, Self::AlwaysOff) => true,
            (Self::TraceIdRatio(ratio), Self::TraceIdRatio(other)) => ratio == other,
            (Self::ParentBased(root), Self::ParentBased(other)) => root == other,
            // Functions can't be compared, so only the same instance is equal.
            (Self::Custom(own), Self::Custom(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlwaysOn => f.write_str("AlwaysOn"),
            Self::AlwaysOff => f.write_str("AlwaysOff"),
            Self::TraceIdRatio(ratio) => f.debug_tuple("TraceIdRatio").field(ratio).finish(),
            Self::ParentBased(root) => f.debug_tuple("ParentBased").field(root).finish(),
            Self::Custom(_) => f.debug_tuple("Custom").finish_non_exhaustive(),
        }
    }
}

impl Default for Sampler {
    /// OpenTelemetry's default, `parentbased_always_on`.
    fn default() -> Self {
        Self::ParentBased(Box::new(Self::AlwaysOn))
    }
}

impl Sampler {
    /// The sampler called `name` in `OTEL_TRACES_SAMPLER`. `ratio` is the value of `OTEL_TRACES_SAMPLER_ARG`.
    pub(crate) fn from_name(name: &str, ratio: f64) -> Option<Self> {
        let (root, parent_based) = match name.strip_prefix("parentbased_") {
            Some(root) => (root, true),
            None => (name, false),
        };
        let root = match root {
            "always_on" => Self::AlwaysOn,
            "always_off" => Self::AlwaysOff,
            "traceidratio" => Self::TraceIdRatio(ratio),
            _ => return None,
        };
        Some(if parent_based { Self::ParentBased(Box::new(root)) } else { root })
    }

    /// A sampler that the application implements, such as a closure.
    pub fn custom(sampler: impl ShouldSample + 'static) -> Self {
        Self::Custom(Arc::new(sampler))
    }

    /// Whether it samples every trace that begins in this process.
    pub(crate) fn takes_all_new(&self) -> bool {
        match self {
            Self::AlwaysOn => true,
            Self::TraceIdRatio(ratio) => *ratio >= 1.0,
            Self::ParentBased(root) => root.takes_all_new(),
            Self::AlwaysOff | Self::Custom(_) => false,
        }
    }

    #[inline]
    pub(crate) fn sample(&self, trace: &SamplingRequest) -> bool {
        match self {
            Self::AlwaysOn => true,
            Self::AlwaysOff => false,
            // Compares the lower 63 bits of the trace id with the ratio, as the OpenTelemetry SDKs do.
            Self::TraceIdRatio(ratio) => {
                *ratio >= 1.0 || ((trace.trace_id.low() >> 1) as i64) < (ratio * (1u64 << 63) as f64) as i64
            }
            Self::ParentBased(root) => trace.parent_sampled.unwrap_or_else(|| root.sample(trace)),
            Self::Custom(own) => own.should_sample(trace),
        }
    }
}

/// The field by which a span overrides the sampler. The name comes from OpenTracing.
pub(crate) const PRIORITY: &str = "sampling.priority";

/// The value of the field [`PRIORITY`]: whether to send the span. `None` if the field has no value, or
/// is neither a boolean nor an integer.
#[cold]
pub(crate) fn priority(attributes: &Attributes<'_>) -> Option<bool> {
    struct Priority(Option<bool>);
    impl Visit for Priority {
        fn record_bool(&mut self, field: &Field, value: bool) {
            if field.name() == PRIORITY {
                self.0 = Some(value);
            }
        }

        fn record_i64(&mut self, field: &Field, value: i64) {
            self.record_bool(field, value > 0);
        }

        fn record_u64(&mut self, field: &Field, value: u64) {
            self.record_bool(field, value > 0);
        }

        fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
    }
    let mut priority = Priority(None);
    attributes.record(&mut priority);
    priority.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callsite::tests::metadata;

    fn request(trace_id: TraceId, parent_sampled: Option<bool>) -> SamplingRequest {
        SamplingRequest { trace_id, parent_sampled, metadata: metadata() }
    }

    #[test]
    fn samples_the_given_fraction_of_traces() {
        for ratio in [0.001, 0.25, 0.5, 0.9] {
            let sampler = Sampler::TraceIdRatio(ratio);
            let traces = (0..100_000).map(|_| request(TraceId::random(), None));
            let sampled = traces.filter(|trace| sampler.sample(trace)).count() as f64;
            // The standard deviation of the binomial distribution; six of them fail about once in 500 million
            // runs.
            let deviation = (100_000.0 * ratio * (1.0 - ratio)).sqrt();
            assert!((sampled - 100_000.0 * ratio).abs() < 6.0 * deviation, "{sampled} of 100000 at {ratio}");
        }
    }

    #[test]
    fn a_greater_ratio_includes_every_trace_of_a_smaller_one() {
        for _ in 0..10_000 {
            let trace = request(TraceId::random(), None);
            let sampled = [0.1, 0.2, 0.5, 1.0].map(|ratio| Sampler::TraceIdRatio(ratio).sample(&trace));
            assert!(sampled.is_sorted(), "{sampled:?}");
        }
    }

    #[test]
    fn parent_based_samplers_follow_the_remote_parent() {
        let id = TraceId::random();
        let sample = |sampler: &Sampler, parent| sampler.sample(&request(id, parent));
        let off = Sampler::from_name("parentbased_always_off", 1.0).expect("a standard name");
        assert!(sample(&off, Some(true)));
        assert!(!sample(&off, None));
        assert!(!sample(&Sampler::default(), Some(false)));
        assert!(sample(&Sampler::default(), None));
        for ratio in [f64::NAN, -1.0, 0.0] {
            assert!(!sample(&Sampler::TraceIdRatio(ratio), None), "{ratio}");
        }
        assert!(sample(&Sampler::TraceIdRatio(1.0), None));
        for sampler in [Sampler::AlwaysOn, Sampler::default(), Sampler::TraceIdRatio(1.0), off] {
            assert_eq!(sampler.takes_all_new(), sample(&sampler, None), "{sampler:?}");
        }
        let own = Sampler::custom(|trace: &SamplingRequest| trace.parent_sampled.is_none());
        assert!(sample(&own, None) && !sample(&own, Some(true)));
    }
}
