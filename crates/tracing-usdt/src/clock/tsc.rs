//! Reads the monotonic clock with the processor's time stamp counter (TSC). This takes a third of the time of
//! `clock_gettime`, and a recorded span reads the clock three or four times.
//!
//! The TSC is used only if the kernel uses it as its clock source, which the kernel does only if the counter
//! runs at a constant rate and in step on all cores. An *anchor* is a reading of both clocks. A time is
//! extrapolated from the last anchor, for at most `WINDOW_NS`, so that it follows the kernel's adjustments of
//! its clock.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::kernel::monotonic_ns;

/// How long an anchor is used. Two anchors this far apart give the rate to about 10 parts per million, which
/// is an error of about 100 ns at the end of the window.
const WINDOW_NS: u64 = 10_000_000;

/// Minimum distance of two anchors from which a rate is computed.
const FIRST_NS: u64 = 1_000_000;

/// The two clocks count as read at the same time if fewer than these ticks passed in between, some 150 ns.
const CLOSE_TICKS: u64 = 400;

/// A new rate is rejected if it differs from the last by more than 1/`MAX_CHANGE`: a virtual machine was
/// moved, or the counter was set.
const MAX_CHANGE: u64 = 1000;

/// The state of the clock, in one cache line: a reading of both clocks is the anchor.
#[repr(align(64))]
struct Clock {
    /// Version of the anchor (a sequence lock): odd while a thread writes the anchor, 0 if the TSC must not be
    /// used.
    version: AtomicU64,
    ticks: AtomicU64,
    nanos: AtomicU64,
    /// Nanoseconds per tick times 2^32; 0 if not known yet.
    rate: AtomicU64,
    /// For how many ticks after the anchor the rate is used.
    good_for: AtomicU64,
}

static CLOCK: Clock = Clock {
    version: AtomicU64::new(0),
    ticks: AtomicU64::new(0),
    nanos: AtomicU64::new(0),
    rate: AtomicU64::new(0),
    good_for: AtomicU64::new(0),
};

pub(super) fn prepare() {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    if source.is_ok_and(|source| source.trim() == "tsc") {
        let _ = CLOCK.version.compare_exchange(0, 2, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[inline]
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and `clock_gettime` executes it in this process
    // too, in the vDSO.
    #[allow(unsafe_code)]
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
}

#[inline]
pub(super) fn now() -> u64 {
    let version = CLOCK.version.load(Ordering::Acquire);
    let (anchor, nanos) = (CLOCK.ticks.load(Ordering::Relaxed), CLOCK.nanos.load(Ordering::Relaxed));
    let (rate, good_for) = (CLOCK.rate.load(Ordering::Relaxed), CLOCK.good_for.load(Ordering::Relaxed));
    fence(Ordering::Acquire);
    let since = ticks().wrapping_sub(anchor);
    if since < good_for && CLOCK.version.load(Ordering::Relaxed) == version && version % 2 == 0 {
        return nanos + ((since * rate) >> 32);
    }
    read_both(version)
}

/// Reads the kernel's clock, and sets a new anchor unless another thread is doing so.
#[cold]
fn read_both(version: u64) -> u64 {
    let is_locked = version != 0
        && version % 2 == 0
        && CLOCK.version.compare_exchange(version, version + 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if !is_locked {
        return monotonic_ns();
    }
    fence(Ordering::Release);
    let (mut before, mut now, mut after) = (0, 0, u64::MAX);
    for _ in 0..4 {
        before = ticks();
        now = monotonic_ns();
        after = ticks();
        if after.wrapping_sub(before) < CLOSE_TICKS {
            break;
        }
    }
    // If the readings are further apart, the thread was interrupted in between: they don't belong together.
    if after.wrapping_sub(before) < CLOSE_TICKS {
        let tick = before + (after - before) / 2;
        let anchor = (CLOCK.ticks.load(Ordering::Relaxed), CLOCK.nanos.load(Ordering::Relaxed));
        let old = CLOCK.rate.load(Ordering::Relaxed);
        let measured = rate(anchor, (tick, now));
        let accepted = measured.filter(|new| old == 0 || new.abs_diff(old) <= old / MAX_CHANGE);
        // Readings too close together give no rate: keeps the first anchor until a later reading gives one.
        if anchor == (0, 0) || measured.is_some() {
            // If the last rate was slightly too high, the times extrapolated with it are ahead of the
            // kernel's clock. The new anchor continues from them, so that the time does not go back.
            let recent = accepted.is_some() && now.saturating_sub(anchor.1) < 2 * WINDOW_NS;
            let ahead = || anchor.1 + ((tick.wrapping_sub(anchor.0) * old) >> 32);
            let nanos = if recent { now.max(ahead()) } else { now };
            let rate = accepted.unwrap_or(0);
            CLOCK.ticks.store(tick, Ordering::Relaxed);
            CLOCK.nanos.store(nanos, Ordering::Relaxed);
            CLOCK.rate.store(rate, Ordering::Relaxed);
            CLOCK.good_for.store((WINDOW_NS << 32).checked_div(rate).unwrap_or(0), Ordering::Relaxed);
        }
    }
    CLOCK.version.store(version + 2, Ordering::Release);
    now
}

/// The rate between two readings of (ticks, nanoseconds), as in [`Clock`]. `None` if they are too close
/// together, or the counter was set back.
fn rate(from: (u64, u64), to: (u64, u64)) -> Option<u64> {
    let (ticks, nanos) = (to.0.checked_sub(from.0)?, to.1.checked_sub(from.1)?);
    if from == (0, 0) || nanos < FIRST_NS || ticks == 0 {
        return None;
    }
    u64::try_from((u128::from(nanos) << 32) / u128::from(ticks)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Monotonic;

    #[test]
    fn agrees_with_the_kernel_clock() {
        prepare();
        let mut worst = 0;
        let begin = Monotonic::of_kernel();
        let mut last = 0;
        while Monotonic::of_kernel().since(begin) < 60_000_000 {
            let before = monotonic_ns();
            let now = now();
            let after = monotonic_ns();
            assert!(now + 5000 >= last, "{now} after {last}");
            last = now;
            worst = worst.max(before.saturating_sub(now)).max(now.saturating_sub(after));
        }
        assert!(worst < 5_000, "{worst} ns off");
    }

    #[test]
    fn a_rate_needs_two_readings_at_least_1_ms_apart() {
        assert_eq!(rate((0, 0), (5_000_000, 5_000_000)), None);
        assert_eq!(rate((1, 1), (2, 2)), None);
        assert_eq!(rate((1000, 7), (999, 5_000_000)), None, "the counter was set back");
        assert_eq!(rate((1000, 7), (2_001_000, 1_000_007)), Some(1 << 31));
    }
}
