//! Time: CLOCK_MONOTONIC for durations, which is also bpftrace's `nsecs` and `bpf_ktime_get_ns`,
//! and the offset that turns it into wall-clock time.

#[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
mod tsc;

use std::sync::atomic::{AtomicI64, Ordering};

/// Nanoseconds of the monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Monotonic(u64);

impl Monotonic {
    /// The clock to within some tens of nanoseconds.
    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
    #[inline]
    pub(crate) fn now() -> Self {
        Self(tsc::now())
    }

    #[cfg(not(all(target_os = "linux", target_arch = "x86_64", not(miri))))]
    pub(crate) fn now() -> Self {
        Self::of_kernel()
    }

    /// The clock itself.
    #[cfg(unix)]
    pub(crate) fn of_kernel() -> Self {
        // The clock exists on every unix; the call can't fail for it.
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        Self(now.map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64))
    }

    /// Nobody can listen here, so nobody ever asks.
    #[cfg(not(unix))]
    pub(crate) fn of_kernel() -> Self {
        Self(0)
    }

    #[cfg(test)]
    pub(crate) fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    pub(crate) fn as_ns(self) -> u64 {
        self.0
    }

    pub(crate) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What to add to the monotonic clock to get nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct WallOffset(i64);

impl WallOffset {
    /// Nanoseconds since 1970.
    pub(crate) fn nanos(self, at: Monotonic) -> u64 {
        at.0.saturating_add_signed(self.0)
    }
}

/// To be called when a layer is built: finds out what the clock is best read with, and what time it is.
pub(crate) fn prepare() {
    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
    tsc::prepare();
    wall_offset(Monotonic::now());
}

/// How long an offset is trusted. The wall clock is stepped, by hand, by NTP and by a suspend, during which the
/// monotonic clock stands still. Measuring for every span would cost two more clock calls each.
const TRUST_NS: i64 = 100_000_000;

/// A difference of less is no step. An offset that followed every error of measurement would let a child begin before
/// its parent.
const STEP_NS: u64 = 1_000_000;

/// The offset as of `now`, measured at most a tenth of a second before.
#[inline]
pub(crate) fn wall_offset(now: Monotonic) -> WallOffset {
    static WALL: Wall = Wall::new();
    WALL.offset(now)
}

/// What is known of the wall clock.
struct Wall {
    /// Stays exactly the same until the wall clock is stepped, or has drifted for as much.
    offset: AtomicI64,
    /// When it was last measured, in monotonic nanoseconds.
    measured: AtomicI64,
}

const UNKNOWN: i64 = i64::MIN;

impl Wall {
    const fn new() -> Self {
        Self { offset: AtomicI64::new(UNKNOWN), measured: AtomicI64::new(0) }
    }

    #[inline]
    fn offset(&self, now: Monotonic) -> WallOffset {
        let measured = self.measured.load(Ordering::Relaxed);
        let offset = self.offset.load(Ordering::Relaxed);
        if offset == UNKNOWN || (now.0 as i64).saturating_sub(measured) > TRUST_NS {
            return WallOffset(self.measure_again(now, measured));
        }
        WallOffset(offset)
    }

    #[cold]
    fn measure_again(&self, now: Monotonic, measured: i64) -> i64 {
        let known = self.offset.load(Ordering::Relaxed);
        if known == UNKNOWN {
            // Each thread needs one at once, and all take the first.
            let (offset, _) = measure();
            self.measured.fetch_max(now.0 as i64, Ordering::Relaxed);
            let first = self.offset.compare_exchange(UNKNOWN, offset, Ordering::Relaxed, Ordering::Relaxed);
            return first.err().unwrap_or(offset);
        }
        // One thread does it for all.
        let is_ours = self
            .measured
            .compare_exchange(measured, now.0 as i64, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if is_ours {
            let (offset, width) = measure();
            if offset.abs_diff(known) > STEP_NS + width {
                self.offset.store(offset, Ordering::Relaxed);
            }
        }
        self.offset.load(Ordering::Relaxed)
    }
}

/// Reads the wall clock between two readings of the other. Where they are far apart the thread was
/// put aside in between, and the next try is likely to be better. The offset, and how far apart they were.
fn measure() -> (i64, u64) {
    let mut best = (u64::MAX, 0);
    for _ in 0..4 {
        let before = Monotonic::of_kernel();
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let width = Monotonic::of_kernel().since(before);
        let wall_ns = wall.map_or(0, |since| since.as_nanos() as i64);
        best = best.min((width, wall_ns - (before.0 + width / 2) as i64));
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
    fn converts_to_wall_clock() {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
        let now = Monotonic::now();
        let converted = u128::from(wall_offset(now).nanos(now) / 1000);
        assert!(converted.abs_diff(wall) < 1_000_000, "{converted} against {wall}");
    }

    /// However often it is measured: spans of one trace must keep their order.
    #[test]
    fn the_offset_stays_the_same_while_nobody_steps_the_clock() {
        let (wall, now) = (Wall::new(), Monotonic::now());
        let first = wall.offset(now);
        for n in 1..200 {
            let later = Monotonic::from_ns(now.as_ns() + n * (TRUST_NS as u64 + 1));
            assert_eq!(wall.offset(later), first, "after {n} measurements");
        }
    }

    /// Whoever is the first may be put aside while it measures.
    #[test]
    fn threads_that_ask_first_at_the_same_time_all_get_the_same_offset() {
        let now = Monotonic::now();
        let wall = Wall::new();
        wall.measured.store(now.as_ns() as i64, Ordering::Relaxed);
        assert_ne!(wall.offset(now), WallOffset(UNKNOWN), "another thread is measuring");
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
