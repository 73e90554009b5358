//! The wall clock, as an offset from the monotonic one.

use std::sync::atomic::{AtomicI64, Ordering};

use super::monotonic::Monotonic;

/// What to add to the monotonic clock to get nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct WallOffset(i64);

impl WallOffset {
    /// Nanoseconds since 1970; 0 for a time before. The wall clock may have been set to shortly after 1970 since `at`.
    #[inline]
    pub(crate) fn nanos(self, at: Monotonic) -> u64 {
        at.as_ns().saturating_add_signed(self.0)
    }
}

/// How long a measured offset is used. A user or NTP can step the wall clock, and the monotonic clock stops
/// during a suspend. Measuring for each span would cost two more clock calls per span.
const TRUST_NS: i64 = 100_000_000;

/// A smaller difference counts as measurement error. If the offset followed every such error, a child span
/// could begin before its parent.
const STEP_NS: u64 = 1_000_000;

/// The offset at `now`, measured at most a tenth of a second earlier.
#[inline]
pub(crate) fn wall_offset(now: Monotonic) -> WallOffset {
    static WALL: Wall = Wall::new();
    WALL.offset(now)
}

/// The last measured offset.
struct Wall {
    /// Constant until the wall clock is stepped, or has drifted as far as a step.
    offset: AtomicI64,
    /// Time of the last measurement, in monotonic nanoseconds. The offset is known as soon as this is set.
    measured: AtomicI64,
}

const UNKNOWN: i64 = i64::MIN;
/// Longer ago than any time, and near enough to all of them that a difference does not overflow.
const NEVER: i64 = i64::MIN / 2;

impl Wall {
    const fn new() -> Self {
        Self { offset: AtomicI64::new(UNKNOWN), measured: AtomicI64::new(NEVER) }
    }

    #[inline]
    fn offset(&self, now: Monotonic) -> WallOffset {
        let measured = self.measured.load(Ordering::Acquire);
        if (now.as_ns() as i64).wrapping_sub(measured) > TRUST_NS {
            return WallOffset(self.measure_again(now, measured));
        }
        WallOffset(self.offset.load(Ordering::Relaxed))
    }

    #[cold]
    fn measure_again(&self, now: Monotonic, measured: i64) -> i64 {
        let known = self.offset.load(Ordering::Relaxed);
        if known == UNKNOWN {
            // Threads that arrive at the same time all measure, and all use the offset that was stored first.
            let (offset, _) = measure();
            let first = self.offset.compare_exchange(UNKNOWN, offset, Ordering::Relaxed, Ordering::Relaxed);
            self.measured.fetch_max(now.as_ns() as i64, Ordering::Release);
            return first.err().unwrap_or(offset);
        }
        // Only the thread that updates `measured` measures again.
        let is_first = self
            .measured
            .compare_exchange(measured, now.as_ns() as i64, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if is_first {
            let (offset, width) = measure();
            if offset.abs_diff(known) > STEP_NS + width {
                self.offset.store(offset, Ordering::Relaxed);
            }
        }
        self.offset.load(Ordering::Relaxed)
    }
}

/// Reads the wall clock between two readings of the monotonic clock. Returns the offset and the time between
/// those two readings, in nanoseconds. If that time is long, the scheduler interrupted the thread, so it
/// tries again.
fn measure() -> (i64, u64) {
    let mut best = (u64::MAX, 0);
    for _ in 0..4 {
        let before = Monotonic::of_kernel();
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let width = Monotonic::of_kernel().since(before);
        let wall_ns = wall.map_or(0, |since| since.as_nanos() as i64);
        best = best.min((width, wall_ns - (before.as_ns() + width / 2) as i64));
        if best.0 < 2_000 {
            break;
        }
    }
    (best.1, best.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn converts_monotonic_to_wall_clock_time() {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
        let now = Monotonic::now();
        let converted = u128::from(wall_offset(now).nanos(now) / 1000);
        assert!(converted.abs_diff(wall) < 1_000_000, "{converted} against {wall}");
    }

    /// A device without a battery for its clock starts in 1970.
    #[test]
    fn no_time_is_before_1970() {
        let offset = WallOffset(-3_595_000_000_000);
        for (seconds, expected) in [(0, 0), (3594, 0), (3595, 0), (3600, 5_000_000_000)] {
            assert_eq!(offset.nanos(Monotonic::from_ns(seconds * 1_000_000_000)), expected, "{seconds} s");
        }
    }

    /// Spans of one trace must keep their order, however often the offset is measured.
    #[test]
    fn the_offset_is_constant_until_the_clock_is_stepped() {
        let (wall, now) = (Wall::new(), Monotonic::now());
        let first = wall.offset(now);
        for n in 1..200 {
            let later = Monotonic::from_ns(now.as_ns() + n * (TRUST_NS as u64 + 1));
            assert_eq!(wall.offset(later), first, "after {n} measurements");
        }
    }

    #[test]
    fn threads_that_measure_first_at_the_same_time_get_the_same_offset() {
        let now = Monotonic::now();
        for _ in 0..50 {
            let (wall, all) = (Wall::new(), std::sync::Barrier::new(4));
            let ask = || {
                all.wait();
                wall.offset(now)
            };
            let offsets = std::thread::scope(|scope| {
                [(); 4].map(|()| scope.spawn(ask)).map(|thread| thread.join().expect("no panic"))
            });
            assert!(offsets.iter().all(|offset| *offset == offsets[0] && *offset != WallOffset(UNKNOWN)));
        }
    }
}
