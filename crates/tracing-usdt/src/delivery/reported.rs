//! The losses that were reported in the stream.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::stats::Dropped;
use crate::clock::Monotonic;

/// The losses of one process that were reported to the receiver.
pub(super) struct ReportedLosses {
    pub(super) last: Mutex<LastReport>,
    /// The number of spans in all reports, so that the usual case, no new losses, needs no lock.
    pub(super) total: AtomicU64,
}

/// What the counters were, and when, at the last report. The next report covers what came after.
pub(super) struct LastReport {
    pub(super) dropped: Dropped,
    pub(super) at: Monotonic,
}

impl ReportedLosses {
    /// How many lost spans were reported. The receiver knows them if it got all reports.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    pub(super) fn new() -> Self {
        let last = LastReport { dropped: Dropped::default(), at: Monotonic::of_kernel() };
        Self { last: Mutex::new(last), total: AtomicU64::new(0) }
    }
}
