//! The kernel's clock, and its offset from the wall clock.

use nix::time::{ClockId, clock_gettime};

/// The time since 1970 minus the kernel's clock, in nanoseconds.
pub(super) type WallOffset = i64;

/// Measures the offset.
pub(super) fn wall_offset() -> WallOffset {
    let ns = |clock| clock_ns(clock) as i64;
    // The closest pair of readings has the smallest error.
    let pairs = (0..5).map(|_| {
        let (before, wall, after) =
            (ns(ClockId::CLOCK_MONOTONIC), ns(ClockId::CLOCK_REALTIME), ns(ClockId::CLOCK_MONOTONIC));
        (after - before, wall - (before + (after - before) / 2))
    });
    pairs.min().map_or(0, |(_, offset)| offset)
}

/// The time of a clock; 0 for a clock that doesn't exist.
pub(super) fn clock_ns(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
