//! What is compared of the spans of a name, and the least change that is reported.

use super::ratio::Kind;

/// What is compared of the spans of a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Measured {
    /// The duration that half of the spans do not exceed, in nanoseconds, to within 1 %.
    P50,
    /// That 95 % do not exceed.
    P95,
    /// That 99 % do not exceed.
    P99,
    /// The average duration, in nanoseconds.
    Mean,
    /// The average time in which no child was open, in nanoseconds.
    Own,
    /// The share of spans with an error, from 0 to 1.
    Errors,
    /// How many spans of another name a span calls, on average.
    Calls,
}

/// The least change of a duration that is reported, relative and in nanoseconds.
const LEAST_RELATIVE: f64 = 0.05;
const LEAST_NS: f64 = 20_000.0;
/// Of a share of errors.
const LEAST_SHARE: f64 = 0.001;
/// Of calls.
const LEAST_CALLS: f64 = 0.05;

impl Measured {
    /// Those of a name by itself.
    pub(super) const OF_A_NAME: [Self; 6] =
        [Self::P50, Self::P95, Self::P99, Self::Mean, Self::Own, Self::Errors];

    /// The percentiles.
    pub(super) const PERCENTS: [u64; 3] = [50, 95, 99];

    /// The word for it, which `--fail-on` takes.
    pub fn word(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::Mean => "mean",
            Self::Own => "self",
            Self::Errors => "errors",
            Self::Calls => "calls",
        }
    }

    /// Whether it is a time.
    pub fn is_duration(self) -> bool {
        !matches!(self, Self::Errors | Self::Calls)
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Mean | Self::Own | Self::Calls => Kind::Average,
            Self::P50 | Self::P95 | Self::P99 | Self::Errors => Kind::Share,
        }
    }

    /// How many spans there have to be on each side, so that some are beyond a percentile.
    pub(super) fn fewest_spans(self) -> f64 {
        match self {
            Self::P95 => 200.0,
            Self::P99 => 1000.0,
            _ => 20.0,
        }
    }

    /// Whether the change is large enough to matter to someone.
    pub(super) fn is_large(self, before: f64, after: f64) -> bool {
        let change = (after - before).abs();
        let least = match self {
            Self::Errors => LEAST_SHARE,
            Self::Calls => LEAST_CALLS,
            _ => LEAST_NS,
        };
        change >= least && change >= LEAST_RELATIVE * before
    }
}
