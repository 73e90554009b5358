//! Which traces are sent. Probes fire whatever is decided here: they cost nothing unless somebody
//! attaches, and then that somebody wants to see.

use std::fmt;
use std::sync::Arc;

use tracing_core::Metadata;
use tracing_core::field::{Field, Visit};
use tracing_core::span::Attributes;

use crate::context::TraceId;

/// Decides for each trace whether its spans are sent as datagrams.
///
/// Those of the OpenTelemetry specification look at nothing but the trace id and the remote parent, so every
/// process of a trace comes to the same decision. It is made where a trace begins in this process, and holds
/// for all spans below; a field `sampling.priority` on a span overrides it for that span and those below it:
/// 0 or `false` for not sent, more or `true` for sent.
#[derive(Clone)]
#[non_exhaustive]
pub enum Sampler {
    /// Every trace.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// This fraction of all traces: 0.0 none, 1.0 all.
    TraceIdRatio(f64),
    /// As the remote parent decided; a trace that begins here is left to the sampler within.
    ParentBased(Box<Sampler>),
    /// One's own.
    Custom(Arc<dyn ShouldSample>),
}

/// A sampler of one's own.
///
/// ```
/// use tracing_usdt::{SamplingRequest, Sampler};
///
/// // All but health checks.
/// let sampler = Sampler::custom(|trace: &SamplingRequest| trace.metadata.name() != "health");
/// let layer = tracing_usdt::builder().sampler(sampler).build();
/// # drop(layer);
/// ```
pub trait ShouldSample: Send + Sync {
    /// Whether the spans of this process in a trace are sent. Called while a span is made, so it should be
    /// quick, and make no spans.
    fn should_sample(&self, trace: &SamplingRequest) -> bool;
}

impl<F: Fn(&SamplingRequest) -> bool + Send + Sync> ShouldSample for F {
    fn should_sample(&self, trace: &SamplingRequest) -> bool {
        self(trace)
    }
}

/// A trace that begins, or goes on, in this process.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SamplingRequest {
    /// Drawn here, or given by the remote parent.
    pub trace_id: TraceId,
    /// Whether the remote parent is sampled, if there is one.
    pub parent_sampled: Option<bool>,
    /// Of its first span here.
    pub metadata: &'static Metadata<'static>,
}

impl PartialEq for Sampler {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::AlwaysOn, Self::AlwaysOn) | (Self::AlwaysOff, Self::AlwaysOff) => true,
            (Self::TraceIdRatio(ratio), Self::TraceIdRatio(other)) => ratio == other,
            (Self::ParentBased(root), Self::ParentBased(other)) => root == other,
            // The same one, not one that does the same.
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
    /// `parentbased_always_on`, OpenTelemetry's default.
    fn default() -> Self {
        Self::ParentBased(Box::new(Self::AlwaysOn))
    }
}

impl Sampler {
    /// The sampler that `OTEL_TRACES_SAMPLER` names, with its `OTEL_TRACES_SAMPLER_ARG`.
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

    /// One's own, such as a closure.
    pub fn custom(sampler: impl ShouldSample + 'static) -> Self {
        Self::Custom(Arc::new(sampler))
    }

    #[inline]
    pub(crate) fn sample(&self, trace: &SamplingRequest) -> bool {
        match self {
            Self::AlwaysOn => true,
            Self::AlwaysOff => false,
            // The lower 63 bits against the ratio, as the OpenTelemetry SDKs do it.
            Self::TraceIdRatio(ratio) => {
                *ratio >= 1.0 || ((trace.trace_id.low() >> 1) as i64) < (ratio * (1u64 << 63) as f64) as i64
            }
            Self::ParentBased(root) => trace.parent_sampled.unwrap_or_else(|| root.sample(trace)),
            Self::Custom(own) => own.should_sample(trace),
        }
    }
}

/// By which a span says itself whether it is sent. The name is OpenTracing's.
pub(crate) const PRIORITY: &str = "sampling.priority";

/// What a span with that field says.
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
    use crate::span::tests::metadata;

    fn request(trace_id: TraceId, parent_sampled: Option<bool>) -> SamplingRequest {
        SamplingRequest { trace_id, parent_sampled, metadata: metadata() }
    }

    #[test]
    fn the_ratio_is_kept() {
        for ratio in [0.001, 0.25, 0.5, 0.9] {
            let sampler = Sampler::TraceIdRatio(ratio);
            let traces = (0..100_000).map(|_| request(TraceId::random(), None));
            let sampled = traces.filter(|trace| sampler.sample(trace)).count() as f64;
            // Six standard deviations of a binomial.
            let deviation = (100_000.0 * ratio * (1.0 - ratio)).sqrt();
            assert!((sampled - 100_000.0 * ratio).abs() < 6.0 * deviation, "{sampled} of 100000 at {ratio}");
        }
    }

    /// Whatever is sent at a ratio is sent at every greater one.
    #[test]
    fn a_greater_ratio_takes_all_of_a_smaller_one() {
        for _ in 0..10_000 {
            let trace = request(TraceId::random(), None);
            let sampled = [0.1, 0.2, 0.5, 1.0].map(|ratio| Sampler::TraceIdRatio(ratio).sample(&trace));
            assert!(sampled.is_sorted(), "{sampled:?}");
        }
    }

    #[test]
    fn the_parent_decides_where_there_is_one() {
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
        let own = Sampler::custom(|trace: &SamplingRequest| trace.parent_sampled.is_none());
        assert!(sample(&own, None) && !sample(&own, Some(true)));
    }
}
