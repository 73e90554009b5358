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
    pub(crate) const UNKNOWN: Self = Self(i64::MIN);

    /// Nanoseconds since 1970.
    pub(crate) fn nanos(self, at: Monotonic) -> u64 {
        at.0.saturating_add_signed(self.0)
    }

    /// For handing it over as a number.
    pub(crate) fn as_ns(self) -> i64 {
        self.0
    }

    pub(crate) fn from_ns(ns: i64) -> Self {
        Self(ns)
    }
}

/// To be called when a layer is built: finds out what the clock is best read with.
pub(crate) fn prepare() {
    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
    tsc::prepare();
}

/// How long an offset is trusted. Wall clocks are stepped and slewed, and the monotonic one stands
/// still while the machine sleeps; measuring again for every trace would cost a clock call each.
const TRUST_NS: i64 = 1_000_000_000;

static OFFSET: AtomicI64 = AtomicI64::new(0);
static MEASURED: AtomicI64 = AtomicI64::new(i64::MIN);

/// The offset as of `now`, at most a second old.
///
/// A trace takes it once, at its first span, so that its spans agree with each other.
pub(crate) fn wall_offset(now: Monotonic) -> WallOffset {
    let now_ns = now.0 as i64;
    if now_ns.saturating_sub(MEASURED.load(Ordering::Acquire)) > TRUST_NS {
        OFFSET.store(measure(), Ordering::Relaxed);
        MEASURED.store(now_ns, Ordering::Release);
    }
    WallOffset(OFFSET.load(Ordering::Relaxed))
}

/// Reads the wall clock between two readings of the other. Where they are far apart the thread was
/// put aside in between, and the next try is likely to be better.
fn measure() -> i64 {
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
    best.1
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
}
