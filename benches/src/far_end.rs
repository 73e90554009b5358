//! Where the spans of a variant end up, asked after the run: a row of the table that recorded nothing
//! would be a fast one.

/// What stands behind a variant.
pub(crate) trait FarEnd: Sync {
    /// With a queue between the caller and the far end, how many spans it surely holds. The caller's
    /// cost is then timed in bursts that fit, since dropping a span costs less than keeping it.
    fn burst(&self) -> Option<u64> {
        None
    }

    /// Waits until everything queued is through.
    fn settle(&self) {}

    /// How many spans arrived since the start, where that can be told.
    fn arrived(&self) -> Option<u64> {
        None
    }
}

/// Nothing to wait for and nobody to ask.
pub(crate) struct Nowhere;

impl FarEnd for Nowhere {}

/// A burst that fits into every queue here: OpenTelemetry's batch processor has the smallest, 2048.
pub(crate) const BURST: u64 = 1500;
