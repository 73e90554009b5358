//! When recorded spans are due in a replay.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// A longer pause between two spans is shortened to this: nobody waits an hour because a program was idle for one.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A replay that is further behind, because the terminal or the disk was slow, goes on from there, instead of hurrying after it.
const MAX_LAG: Duration = Duration::from_secs(1);
/// How soon a stop is noticed.
const SLICE: Duration = Duration::from_millis(50);

/// The pace of a replay: as fast as it was recorded, or faster or slower.
///
/// ```
/// use spantap::capture::Pace;
///
/// let mut pace = Pace::new(10.0);
/// let start_ns = 1_800_000_000_000_000_000;
/// assert!(pace.wait_until(start_ns, &|| false)); // the first one is due at once
/// assert!(pace.wait_until(start_ns + 50_000_000, &|| false)); // 5 ms later
/// ```
#[derive(Debug)]
pub struct Pace {
    speed: f64,
    /// A moment of the replay, and the recorded time, in nanoseconds since 1970, that belongs to it.
    anchor: Option<(Instant, u64)>,
}

impl Pace {
    /// `speed` seconds of the recording take one second. It is above 0.
    pub fn new(speed: f64) -> Self {
        Self { speed, anchor: None }
    }

    /// Sleeps until `at_ns` is due, in nanoseconds since 1970: when a batch arrived, or when the last of its spans ended. The
    /// first time is due at once, and so is one that is before an earlier one. At most 5 s, and checks `stop` at least every 100 ms.
    ///
    /// Returns false if `stop` has ended it.
    pub fn wait_until(&mut self, at_ns: u64, stop: &impl Fn() -> bool) -> bool {
        let now = Instant::now();
        let due = now + self.delay(at_ns, now);
        loop {
            if stop() {
                return false;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            sleep(left.min(SLICE));
        }
    }

    /// How long it is from `now` until `at_ns` is due.
    fn delay(&mut self, at_ns: u64, now: Instant) -> Duration {
        let (moment, moment_ns) = *self.anchor.get_or_insert((now, at_ns));
        let recorded = at_ns.saturating_sub(moment_ns) as f64 / 1e9;
        let due =
            Duration::try_from_secs_f64(recorded / self.speed).ok().and_then(|of| moment.checked_add(of));
        match due {
            Some(due) if due <= now + MAX_PAUSE => {
                if now.saturating_duration_since(due) > MAX_LAG {
                    self.anchor = Some((now, at_ns.max(moment_ns)));
                }
                due.saturating_duration_since(now)
            }
            _ => {
                self.anchor = Some((now + MAX_PAUSE, at_ns));
                MAX_PAUSE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const START: u64 = 1_800_000_000 * SECOND;

    /// The delays, in milliseconds, of spans that were recorded at these times, in milliseconds. Each delay is slept.
    fn delays(speed: f64, recorded_ms: &[u64]) -> Vec<u128> {
        let (mut pace, mut now) = (Pace::new(speed), Instant::now());
        let delay = |at: &u64| {
            let delay = pace.delay(START + at * 1_000_000, now);
            now += delay;
            delay.as_millis()
        };
        recorded_ms.iter().map(delay).collect()
    }

    #[test]
    fn spans_are_due_when_they_came() {
        assert_eq!(delays(1.0, &[0, 100, 1_100, 4_000]), [0, 100, 1_000, 2_900]);
        assert_eq!(delays(10.0, &[0, 100, 1_100, 4_000]), [0, 10, 100, 290]);
        assert_eq!(delays(0.5, &[0, 100, 1_100]), [0, 200, 2_000]);
    }

    #[test]
    fn times_before_others_are_due_at_once() {
        assert_eq!(delays(1.0, &[1_000, 0, 500, 1_500]), [0, 0, 0, 500]);
    }

    #[test]
    fn long_pauses_are_shortened_and_the_pace_is_kept_behind_them() {
        assert_eq!(delays(1.0, &[0, 3_600_000, 3_600_100]), [0, 5_000, 100]);
        assert_eq!(delays(1e-12, &[0, 1, 2]), [0, 5_000, 5_000]);
        assert_eq!(
            Pace { speed: 1.0, anchor: Some((Instant::now(), 0)) }.delay(u64::MAX, Instant::now()),
            MAX_PAUSE
        );
    }

    #[test]
    fn a_replay_that_was_held_up_does_not_hurry_after_it() {
        let (mut pace, start) = (Pace::new(1.0), Instant::now());
        assert_eq!(pace.delay(START, start), Duration::ZERO);
        let late = start + Duration::from_secs(60);
        assert_eq!(pace.delay(START + SECOND, late), Duration::ZERO);
        assert_eq!(pace.delay(START + 2 * SECOND, late), Duration::from_secs(1));
        // A little behind, it catches up.
        let late = late + Duration::from_millis(2_900);
        assert_eq!(pace.delay(START + 3 * SECOND, late), Duration::ZERO);
        assert_eq!(pace.delay(START + 4 * SECOND, late), Duration::from_millis(100));
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let mut pace = Pace::new(1.0);
        assert!(!pace.wait_until(START, &|| true));
        // It is not waited for: this would take 5 s, but the condition holds from the second look on.
        let looks = std::cell::Cell::new(0);
        let stop = || looks.replace(looks.get() + 1) > 0;
        let before = Instant::now();
        assert!(!pace.wait_until(START + 60 * SECOND, &stop));
        assert!(before.elapsed() < MAX_PAUSE);
    }
}
