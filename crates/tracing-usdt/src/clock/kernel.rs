//! The kernel's monotonic clock, CLOCK_MONOTONIC.

/// The clock's time in nanoseconds.
#[cfg(unix)]
pub(super) fn monotonic_ns() -> u64 {
    // Every Unix has this clock, so the call does not fail.
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
}

/// This platform has neither probes nor sockets, so the time is never used.
#[cfg(not(unix))]
pub(super) fn monotonic_ns() -> u64 {
    0
}
