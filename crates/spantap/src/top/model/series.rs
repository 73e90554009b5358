//! The spans of one service and name.

use std::sync::Arc;

use super::halves::Halves;
use super::traces::Kept;
use crate::graph::Measure;
use crate::trace::Breakdown;

/// The seconds that are known one by one.
pub(crate) const SECONDS: usize = 60;

/// The seconds that a rate is the average of.
const RATE_SECONDS: u64 = 10;

const SECOND_NS: u64 = 1_000_000_000;

/// The spans of one service and name, or all that there is no room to keep apart.
#[derive(Debug)]
pub(super) struct Series {
    all: Counted,
    recent: Halves<Counted>,
    seconds: Box<[Second; SECONDS]>,
    pub(super) last_ns: u64,
}

/// Spans that were counted.
#[derive(Default, Debug)]
struct Counted {
    measure: Measure,
    breakdown: Breakdown,
    /// The trace with the longest span.
    slowest: Option<(u64, Arc<Kept>)>,
}

/// One second, by its number.
#[derive(Clone, Copy, Default, Debug)]
struct Second {
    number: u64,
    calls: u64,
    total_ns: u64,
}

/// Which time is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Window {
    /// The last 30 to 60 seconds.
    Recent,
    /// Since the start.
    All,
}

/// The figures of a series.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    /// Calls a second.
    pub(crate) rate: f64,
    pub(crate) average_ns: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p95_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
    pub(crate) breakdown: Breakdown,
    /// The average duration in each of the last [`SECONDS`], the latest last; `None` if no span ended in it.
    pub(crate) latency_ns: Vec<Option<u64>>,
}

impl Series {
    pub(super) fn new(now_ns: u64) -> Self {
        Self {
            all: Counted::default(),
            recent: Halves::new(now_ns),
            seconds: Box::new([Second::default(); SECONDS]),
            last_ns: now_ns,
        }
    }

    pub(super) fn count(&mut self, duration_ns: u64, is_error: bool, now_ns: u64) {
        self.all.measure.add(duration_ns, is_error);
        self.recent.at(now_ns).measure.add(duration_ns, is_error);
        let number = now_ns / SECOND_NS;
        let second = &mut self.seconds[(number % SECONDS as u64) as usize];
        if second.number != number {
            *second = Second { number, calls: 0, total_ns: 0 };
        }
        second.calls += 1;
        second.total_ns = second.total_ns.saturating_add(duration_ns);
        self.last_ns = now_ns;
    }

    pub(super) fn add_breakdown(&mut self, breakdown: &Breakdown, now_ns: u64) {
        self.all.breakdown.add(breakdown);
        self.recent.at(now_ns).breakdown.add(breakdown);
    }

    /// Whether a trace with a span of this duration is the slowest lately.
    pub(super) fn is_slowest(&mut self, duration_ns: u64, now_ns: u64) -> bool {
        let slowest = &self.recent.at(now_ns).slowest;
        slowest.as_ref().is_none_or(|(longest, _)| *longest < duration_ns)
    }

    pub(super) fn keep_slowest(&mut self, duration_ns: u64, trace: Arc<Kept>, now_ns: u64) {
        self.recent.at(now_ns).slowest = Some((duration_ns, trace));
    }

    pub(super) fn slowest(&self) -> impl Iterator<Item = &Arc<Kept>> {
        // However old they are: an old trace says more than none.
        self.recent.kept().filter_map(|counted| Some(&counted.slowest.as_ref()?.1))
    }

    /// Adds what was counted of another series. Its seconds and its traces are not taken.
    pub(super) fn absorb(&mut self, other: &Self, now_ns: u64) {
        self.all.add(&other.all);
        let recent = self.recent.at(now_ns);
        other.recent.recent(now_ns).for_each(|counted| recent.add(counted));
    }

    /// The figures, of spans that were counted since `started_ns` at the earliest.
    pub(super) fn figures(&self, window: Window, started_ns: u64, now_ns: u64) -> Option<Figures> {
        let mut recent = Counted::default();
        let Counted { measure, breakdown, .. } = match window {
            Window::All => &self.all,
            Window::Recent => {
                self.recent.recent(now_ns).for_each(|counted| recent.add(counted));
                &recent
            }
        };
        (measure.calls > 0).then(|| Figures {
            calls: measure.calls,
            errors: measure.errors,
            rate: self.rate(window, started_ns, now_ns),
            average_ns: measure.average_ns(),
            p50_ns: measure.percentile_ns(50),
            p95_ns: measure.percentile_ns(95),
            p99_ns: measure.percentile_ns(99),
            max_ns: measure.max_ns(),
            breakdown: *breakdown,
            latency_ns: self.latency_ns(now_ns),
        })
    }

    fn rate(&self, window: Window, started_ns: u64, now_ns: u64) -> f64 {
        let since_start = now_ns.saturating_sub(started_ns) as f64 / SECOND_NS as f64;
        match window {
            Window::All => self.all.measure.calls as f64 / since_start.max(1.0),
            Window::Recent => {
                let now = now_ns / SECOND_NS;
                // Without the second that has not ended, unless there is no other.
                let is_recent =
                    |second: &&Second| (1..=RATE_SECONDS).contains(&now.saturating_sub(second.number));
                let calls: u64 = self.seconds.iter().filter(is_recent).map(|second| second.calls).sum();
                let seconds = (now - (started_ns / SECOND_NS).min(now)).clamp(1, RATE_SECONDS);
                match calls {
                    0 => self.seconds[(now % SECONDS as u64) as usize].calls_in(now) as f64,
                    calls => calls as f64 / seconds as f64,
                }
            }
        }
    }

    fn latency_ns(&self, now_ns: u64) -> Vec<Option<u64>> {
        let now = now_ns / SECOND_NS;
        let numbers = (0..SECONDS as u64).rev().map(|ago| now.saturating_sub(ago));
        let average = |number: u64| {
            let second = self.seconds[(number % SECONDS as u64) as usize];
            second.total_ns.checked_div(second.calls_in(number))
        };
        numbers.map(average).collect()
    }
}

impl Second {
    /// The calls, if this is the second of that number.
    fn calls_in(self, number: u64) -> u64 {
        if self.number == number { self.calls } else { 0 }
    }
}

impl Counted {
    fn add(&mut self, other: &Self) {
        self.measure.merge(&other.measure);
        self.breakdown.add(&other.breakdown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_forgets_and_the_whole_does_not() {
        let mut series = Series::new(0);
        series.count(1_000, true, 0);
        series.count(3_000, false, 100 * SECOND_NS);
        let figures =
            |window| series.figures(window, 0, 100 * SECOND_NS).map(|of| (of.calls, of.errors, of.max_ns));
        assert_eq!(figures(Window::All), Some((2, 1, 3_000)));
        assert_eq!(figures(Window::Recent), Some((1, 0, 3_000)));
        assert!(series.figures(Window::Recent, 0, 300 * SECOND_NS).is_none());
    }

    #[test]
    fn the_rate_is_that_of_the_last_ten_seconds() {
        let mut series = Series::new(0);
        for tenth in 0..1_000 {
            series.count(1, false, tenth * SECOND_NS / 10);
        }
        let rate = |window, now: u64| series.figures(window, 0, now * SECOND_NS).map(|of| of.rate);
        assert_eq!(rate(Window::Recent, 100), Some(10.0));
        assert_eq!(rate(Window::All, 200), Some(5.0));
        // Five of the last ten seconds had spans.
        assert_eq!(rate(Window::Recent, 105), Some(5.0));
    }

    #[test]
    fn the_latency_of_a_second_is_its_average() {
        let mut series = Series::new(0);
        for (second, duration_ns) in [(70, 4), (70, 6), (129, 9)] {
            series.count(duration_ns, false, second * SECOND_NS);
        }
        let latency = series.latency_ns(129 * SECOND_NS);
        assert_eq!((latency[0], latency[59]), (Some(5), Some(9)));
        assert_eq!(latency.iter().flatten().count(), 2);
        assert_eq!(series.latency_ns(130 * SECOND_NS).iter().flatten().count(), 1);
    }
}
