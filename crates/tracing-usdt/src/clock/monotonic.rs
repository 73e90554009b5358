//! Points in time on the monotonic clock.

use super::kernel;
#[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
use super::tsc;

/// A point in time, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Monotonic(u64);

impl Monotonic {
    /// The current time, within some tens of nanoseconds of the kernel's clock.
    #[cfg(all(target_os = "linux", target_arch = "x86_64", not(miri)))]
    #[inline]
    pub(crate) fn now() -> Self {
        Self(tsc::now())
    }

    #[cfg(not(all(target_os = "linux", target_arch = "x86_64", not(miri))))]
    pub(crate) fn now() -> Self {
        Self::of_kernel()
    }

    /// The current time by the kernel's clock: exact, but slower to read.
    pub(crate) fn of_kernel() -> Self {
        Self(kernel::monotonic_ns())
    }

    pub(crate) fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    pub(crate) fn as_ns(self) -> u64 {
        self.0
    }

    /// Nanoseconds from `earlier` to this point; 0 if `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
