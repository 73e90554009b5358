//! Which traces are sent. Probes fire whatever is decided here: they cost nothing unless somebody
//! attaches, and then that somebody wants to see.

use crate::context::TraceId;

/// Decides for each trace whether its spans are sent as datagrams.
///
/// The samplers of the OpenTelemetry specification. They look at nothing but the trace id and the
/// remote parent, so every process of a trace comes to the same decision.
#[derive(Clone, PartialEq, Debug)]
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

    pub(crate) fn sample(&self, trace_id: TraceId, remote_parent: Option<bool>) -> bool {
        match self {
            Self::AlwaysOn => true,
            Self::AlwaysOff => false,
            // The lower 63 bits against the ratio, as the OpenTelemetry SDKs do it.
            Self::TraceIdRatio(ratio) => {
                *ratio >= 1.0 || trace_id.low() >> 1 < (ratio.max(0.0) * (1u64 << 63) as f64) as u64
            }
            Self::ParentBased(root) => remote_parent.unwrap_or_else(|| root.sample(trace_id, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_kept() {
        let sampler = Sampler::TraceIdRatio(0.25);
        let sampled = (0..100_000).filter(|_| sampler.sample(TraceId::random(), None)).count();
        // Six standard deviations of a binomial: sqrt(100000 * 0.25 * 0.75) = 137.
        assert!(sampled.abs_diff(25_000) < 6 * 137, "{sampled} of 100000");
    }

    #[test]
    fn the_parent_decides_where_there_is_one() {
        let id = TraceId::random();
        let off = Sampler::from_name("parentbased_always_off", 1.0).expect("a standard name");
        assert!(off.sample(id, Some(true)));
        assert!(!off.sample(id, None));
        assert!(!Sampler::default().sample(id, Some(false)));
        assert!(Sampler::default().sample(id, None));
        for ratio in [f64::NAN, -1.0, 0.0] {
            assert!(!Sampler::TraceIdRatio(ratio).sample(id, None), "{ratio}");
        }
        assert!(Sampler::TraceIdRatio(1.0).sample(id, None));
    }
}
