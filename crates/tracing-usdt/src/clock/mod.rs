//! Time: CLOCK_MONOTONIC, and the offset that converts it to wall-clock time. bpftrace's `nsecs` and
//! `bpf_ktime_get_ns` read CLOCK_MONOTONIC too.
//!
//! `monotonic` defines points in time. `kernel` reads the clock with `clock_gettime`, and `tsc` with the
//! processor's time stamp counter, which is faster. `wall` measures the offset.

mod kernel;
mod monotonic;
#[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
mod tsc;
mod wall;

pub(crate) use monotonic::Monotonic;
pub(crate) use wall::wall_offset;

/// Chooses how to read the clock, and measures the offset of the wall clock. Called when a layer is built.
pub(crate) fn prepare() {
    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
    tsc::prepare();
    wall_offset(Monotonic::now());
}
