//! `ratio(1%)`: keeps a share of all traces, by their ids, so that several collectors decide alike.

use std::fmt;

/// The trailing bits of a trace id that are random, as W3C's trace context, level 2, defines them, and by which
/// OpenTelemetry's consistent probability sampling decides.
const RANDOM_BITS: u32 = 56;

/// A share of all traces.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Ratio {
    percent: f64,
    /// Traces whose random bits are at least this are kept. OpenTelemetry calls it the rejection threshold.
    threshold: u64,
}

impl Ratio {
    /// Reads `1%` or `0.5%`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let number = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        let percent = number
            .filter(|percent| percent.is_finite())
            .ok_or_else(|| format!("ratio({text}) is no percentage; write ratio(1%) or ratio(0.5%)"))?;
        let all = (1_u64 << RANDOM_BITS) as f64;
        let kept = (percent / 100.0 * all).round();
        if percent > 100.0 {
            Err(format!("ratio({text}) is more than all traces; the largest ratio is 100%"))
        } else if kept < 1.0 {
            Err(format!("ratio({text}) keeps no trace; write more than 0%, or leave the rule out"))
        } else {
            Ok(Self { percent, threshold: (all - kept) as u64 })
        }
    }

    /// Whether the trace is in this share.
    pub(super) fn keeps(self, trace_id: u128) -> bool {
        let random = trace_id as u64 & ((1 << RANDOM_BITS) - 1);
        random >= self.threshold
    }

    /// How many traces a kept one stands for.
    pub(super) fn weight(self) -> f64 {
        100.0 / self.percent
    }

    /// Whether it keeps all that `other` keeps, and more.
    pub(super) fn exceeds(self, other: Self) -> bool {
        self.threshold < other.threshold
    }

    /// Whether it keeps every trace.
    pub(super) fn is_all(self) -> bool {
        self.threshold == 0
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ratio({}%)", self.percent)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;

    #[test]
    fn percentages_are_above_0_and_at_most_100() {
        for text in ["1%", " 0.5 %", "100%", "1e-9%"] {
            assert!(Ratio::parse(text).is_ok(), "{text}");
        }
        for text in ["", "1", "0%", "-1%", "100.1%", "150%", "NaN%", "inf%", "one%", "1e-18%"] {
            assert!(Ratio::parse(text).is_err(), "{text}");
        }
    }

    /// The examples of OpenTelemetry's specification "TraceState: Probability Sampling": a trace is kept if its random value
    /// is not less than the threshold, which for 1% begins with the digits fd70a4 (rounded there), for 25% is c.
    #[test]
    fn decides_as_opentelemetry_defines() {
        let quarter = Ratio::parse("25%").unwrap();
        assert_eq!(quarter.threshold, 0xc0_0000_0000_0000);
        assert!(quarter.keeps(0x1111_1111_1111_1111_11c0_0000_0000_0000));
        assert!(!quarter.keeps(0xffff_ffff_ffff_ffff_ffbf_ffff_ffff_ffff));
        assert_eq!(Ratio::parse("1%").unwrap().threshold >> 32, 0xfd_70a3);
        assert!(Ratio::parse("100%").unwrap().keeps(0xff00_0000_0000_0000));
        assert_eq!(Ratio::parse("1%").unwrap().weight().to_string(), "100");
    }
}
