//! `rate(100/s)`: keeps up to a number of traces a second.

use std::fmt;
use std::time::Instant;

/// A number of traces in a time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Rate {
    traces: f64,
    unit: &'static str,
    per_second: f64,
}

impl Rate {
    /// Reads `100/s`, `10/min` or `5/h`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let units = [("s", 1.0), ("min", 60.0), ("m", 60.0), ("h", 3600.0)];
        let (number, unit) = text.split_once('/').unwrap_or((text, ""));
        let unit = units.into_iter().find(|(name, _)| *name == unit.trim());
        let traces = number.trim().parse::<f64>().ok().filter(|traces| traces.is_finite());
        let (Some((unit, seconds)), Some(traces)) = (unit, traces) else {
            return Err(format!("rate({text}) is no rate; write rate(100/s), rate(10/min) or rate(5/h)"));
        };
        let per_second = traces / seconds;
        if per_second <= 0.0 {
            return Err(format!("rate({text}) keeps no trace; write more than 0, or leave the rule out"));
        }
        Ok(Self { traces, unit, per_second })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rate({}/{})", self.traces, self.unit)
    }
}

/// What a rate may still keep: a token bucket. It has room for what comes in a second, and for one trace at least.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    tokens: f64,
    filled: Instant,
    /// The traces that were refused since the last one that was kept.
    refused: u64,
}

impl Bucket {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: rate.per_second.max(1.0), filled: now, refused: 0 }
    }

    /// Keeps a trace, if there is room. Returns how many traces it stands for.
    pub(super) fn take(&mut self, now: Instant) -> Option<f64> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + passed * self.rate.per_second).min(self.rate.per_second.max(1.0));
        if self.tokens < 1.0 {
            return None;
        }
        self.tokens -= 1.0;
        Some((1 + std::mem::take(&mut self.refused)) as f64)
    }

    /// Lets the next trace that is kept stand for one more, which no rule has kept.
    pub(super) fn refuse(&mut self) {
        self.refused += 1;
    }

    /// The traces that were refused since the last one that was kept.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_have_a_unit_and_are_above_0() {
        for (text, per_second) in [("100/s", 100.0), (" 30 / min", 0.5), ("3600/h", 1.0), ("0.5/s", 0.5)] {
            assert_eq!(Rate::parse(text).unwrap().per_second.to_string(), per_second.to_string(), "{text}");
        }
        for text in ["", "100", "/s", "0/s", "-1/s", "1/d", "inf/s", "1/s/s"] {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn weights_add_up_to_all_traces_and_no_second_keeps_more_than_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate::parse("10/s").unwrap(), start);
        let (mut sum, mut kept_at) = (0.0, Vec::new());
        // 1,000 traces a second for five seconds, and then one after a pause.
        for ms in (0..5_000).chain([7_000]) {
            let now = start + Duration::from_millis(ms);
            match bucket.take(now) {
                Some(weight) => {
                    sum += weight;
                    kept_at.push(ms);
                }
                None => bucket.refuse(),
            }
        }
        assert_eq!(sum as u64, 5_001);
        assert!((55..=61).contains(&kept_at.len()), "{kept_at:?}");
        for from in 0..4_000 {
            // The bucket holds a second's share, so a second may have twice that.
            let within = kept_at.iter().filter(|at| (from..from + 1_000).contains(*at)).count();
            assert!(within <= 20, "{within} from {from} on");
        }
    }
}
