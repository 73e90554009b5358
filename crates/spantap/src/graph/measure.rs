//! What is measured of calls: how many, how many of them failed, and how long they took.

use std::fmt;

use sketches_ddsketch::{Config, DDSketch};

/// The largest relative error of a percentile.
const ERROR: f64 = 0.01;
/// The most bins of a sketch, of 8 bytes each. With this error, they cover 17 orders of magnitude, so that none is merged.
const BINS: u32 = 2048;

/// Calls of the same kind, such as those of an edge. A sketch grows with the range of the durations: 1 KiB for calls that differ by a factor of ten,
/// at most 16 KiB.
#[derive(Clone)]
pub(crate) struct Measure {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) total_ns: u128,
    durations: DDSketch,
}

impl Default for Measure {
    fn default() -> Self {
        let durations = DDSketch::new(Config::new(ERROR, BINS, 1.0));
        Self { calls: 0, errors: 0, total_ns: 0, durations }
    }
}

impl fmt::Debug for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measure").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Measure {
    pub(crate) fn add(&mut self, duration_ns: u64, is_error: bool) {
        self.calls += 1;
        self.errors += u64::from(is_error);
        self.total_ns += u128::from(duration_ns);
        self.durations.add(duration_ns as f64);
    }

    /// Adds the calls of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.total_ns += other.total_ns;
        // It fails if the sketches are of different kinds, and all are of one.
        let _ = self.durations.merge(&other.durations);
    }

    pub(crate) fn average_ns(&self) -> u64 {
        let average = self.total_ns / u128::from(self.calls.max(1));
        u64::try_from(average).unwrap_or(u64::MAX)
    }

    /// The duration that 95 % of the calls do not exceed.
    pub(super) fn p95_ns(&self) -> u64 {
        self.percentile_ns(95)
    }

    /// The duration that this share of the calls do not exceed, to within 1 %: the smallest of the durations for which
    /// that is true. 0 without a call.
    pub(crate) fn percentile_ns(&self, percent: u64) -> u64 {
        let rank = (u128::from(self.calls) * u128::from(percent)).div_ceil(100).saturating_sub(1);
        // The sketch rounds the rank down. The half keeps it from being rounded to the rank before.
        let quantile = (rank as f64 + 0.5) / (self.calls.saturating_sub(1)) as f64;
        let found = self.durations.quantile(quantile.min(1.0)).ok().flatten().unwrap_or(0.0);
        let at_least = self.durations.min().unwrap_or(0.0);
        let at_most = self.durations.max().unwrap_or(f64::MAX);
        found.max(at_least).min(at_most).round() as u64
    }

    /// The longest call.
    pub(crate) fn max_ns(&self) -> u64 {
        self.durations.max().unwrap_or(0.0).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_call_is_its_own_percentile() {
        let mut measure = Measure::default();
        measure.add(123_456_789, true);
        assert_eq!((measure.calls, measure.errors), (1, 1));
        assert_eq!((measure.average_ns(), measure.p95_ns()), (123_456_789, 123_456_789));
        measure.add(0, false);
        assert_eq!((measure.average_ns(), measure.p95_ns()), (61_728_394, 123_456_789));
    }

    proptest! {
        #[test]
        fn the_percentile_is_within_one_percent(durations in prop::collection::vec(prop_oneof![0..10_u64, 0..10_000_000_u64, 0..1_u64 << 50], 1..200)) {
            let mut measure = Measure::default();
            for ns in &durations {
                measure.add(*ns, false);
            }
            let mut sorted = durations;
            sorted.sort_unstable();
            let exact = sorted[(sorted.len() * 19).div_ceil(20) - 1] as f64;
            let found = measure.p95_ns() as f64;
            // One nanosecond for rounding.
            prop_assert!((found - exact).abs() <= exact * ERROR + 1.0, "{found} is not {exact}");
        }
    }
}
