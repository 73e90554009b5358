//! The far end: where the spans of a variant arrive. It is asked for their number after the run, because a
//! variant that records nothing would look fast.

/// The far end of a variant.
pub(crate) trait FarEnd: Sync {
    /// The number of spans that surely fit into the queue before the far end, if there is one. The caller's
    /// cost is timed in bursts of that size, because dropping a span would cost less than keeping it.
    fn burst(&self) -> Option<u64> {
        None
    }

    /// Waits until everything queued has arrived.
    fn settle(&self) {}

    /// The number of spans that have arrived since the start, if it is known.
    fn arrived(&self) -> Option<u64> {
        None
    }
}

/// For variants whose spans go nowhere.
pub(crate) struct Nowhere;

impl FarEnd for Nowhere {}

/// A burst that fits into each queue. OpenTelemetry's batch processor has the smallest one, for 2048 spans.
pub(crate) const BURST: u64 = 1500;
