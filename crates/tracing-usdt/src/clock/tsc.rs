//! The monotonic clock through the processor's time stamp counter, in a third of the time that
//! `clock_gettime` takes; a span that somebody looks at reads the clock three or four times.
//!
//! Only where the kernel itself keeps time with the counter, which it does after it has found it to
//! run steadily and alike on all cores. The counter is only ever extrapolated for `WINDOW_NS` from
//! the last reading of both clocks, so the result follows the kernel's adjustments.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::Monotonic;

/// The rate is known to some 10 parts per million from readings this far apart, and so the error at
/// the end of the window is some 100 ns.
const WINDOW_NS: u64 = 10_000_000;

/// The first rate is taken from readings at least this far apart.
const FIRST_NS: u64 = 1_000_000;

/// Readings of the two clocks belong together if no more ticks than these passed between them, some 150 ns.
const CLOSE_TICKS: u64 = 400;

/// A rate that is this far from the last, in parts of it, is not believed: a virtual machine was
/// moved, or the counter was set.
const MAX_CHANGE: u64 = 1000;

/// Odd while a thread writes the anchor; 0 while the counter is not to be used.
static VERSION: AtomicU64 = AtomicU64::new(0);

// The last reading of both clocks, nanoseconds a tick times 2^32 (0: not known yet), and for how many
// ticks they are good.
static TICKS: AtomicU64 = AtomicU64::new(0);
static NANOS: AtomicU64 = AtomicU64::new(0);
static RATE: AtomicU64 = AtomicU64::new(0);
static GOOD_FOR: AtomicU64 = AtomicU64::new(0);

pub(super) fn prepare() {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    if source.is_ok_and(|source| source.trim() == "tsc") {
        let _ = VERSION.compare_exchange(0, 2, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[inline]
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and the kernel's own `clock_gettime` runs
    // it in this process too.
    #[allow(unsafe_code)]
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
}

#[inline]
pub(super) fn now() -> u64 {
    let version = VERSION.load(Ordering::Acquire);
    let (anchor, nanos) = (TICKS.load(Ordering::Relaxed), NANOS.load(Ordering::Relaxed));
    let (rate, good_for) = (RATE.load(Ordering::Relaxed), GOOD_FOR.load(Ordering::Relaxed));
    fence(Ordering::Acquire);
    let since = ticks().wrapping_sub(anchor);
    if since < good_for && VERSION.load(Ordering::Relaxed) == version && version % 2 == 0 {
        return nanos + ((since * rate) >> 32);
    }
    read_both(version)
}

/// The kernel's clock; and, unless another thread is at it, a new anchor.
#[cold]
fn read_both(version: u64) -> u64 {
    let taken = version != 0
        && version % 2 == 0
        && VERSION.compare_exchange(version, version + 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if !taken {
        return Monotonic::of_kernel().as_ns();
    }
    fence(Ordering::Release);
    let (mut before, mut now, mut after) = (0, 0, u64::MAX);
    for _ in 0..4 {
        before = ticks();
        now = Monotonic::of_kernel().as_ns();
        after = ticks();
        if after.wrapping_sub(before) < CLOSE_TICKS {
            break;
        }
    }
    // Put aside in between, the thread would have related the wrong ones.
    if after.wrapping_sub(before) < CLOSE_TICKS {
        let tick = before + (after - before) / 2;
        let anchor = (TICKS.load(Ordering::Relaxed), NANOS.load(Ordering::Relaxed));
        let old = RATE.load(Ordering::Relaxed);
        let measured = rate(anchor, (tick, now));
        let believed = measured.filter(|new| old == 0 || new.abs_diff(old) <= old / MAX_CHANGE);
        // Readings too close together have no rate yet: the first anchor stays.
        if anchor == (0, 0) || measured.is_some() {
            // Readings should not go back where the last rate was a little too high.
            let recent = believed.is_some() && now.saturating_sub(anchor.1) < 2 * WINDOW_NS;
            let ahead = || anchor.1 + ((tick.wrapping_sub(anchor.0) * old) >> 32);
            let nanos = if recent { now.max(ahead()) } else { now };
            let rate = believed.unwrap_or(0);
            TICKS.store(tick, Ordering::Relaxed);
            NANOS.store(nanos, Ordering::Relaxed);
            RATE.store(rate, Ordering::Relaxed);
            GOOD_FOR.store((WINDOW_NS << 32).checked_div(rate).unwrap_or(0), Ordering::Relaxed);
        }
    }
    VERSION.store(version + 2, Ordering::Release);
    now
}

/// Nanoseconds a tick times 2^32, between two readings.
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

    #[test]
    fn agrees_with_the_kernels_clock() {
        prepare();
        let mut worst = 0;
        let begin = Monotonic::of_kernel();
        let mut last = 0;
        while Monotonic::of_kernel().since(begin) < 60_000_000 {
            let before = Monotonic::of_kernel().as_ns();
            let now = now();
            let after = Monotonic::of_kernel().as_ns();
            assert!(now + 5000 >= last, "{now} after {last}");
            last = now;
            worst = worst.max(before.saturating_sub(now)).max(now.saturating_sub(after));
        }
        assert!(worst < 5_000, "{worst} ns off");
    }

    #[test]
    fn a_rate_takes_two_readings_some_time_apart() {
        assert_eq!(rate((0, 0), (5_000_000, 5_000_000)), None);
        assert_eq!(rate((1, 1), (2, 2)), None);
        assert_eq!(rate((1000, 7), (999, 5_000_000)), None, "the counter was set back");
        assert_eq!(rate((1000, 7), (2_001_000, 1_000_007)), Some(1 << 31));
    }
}
