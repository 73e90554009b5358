//! Which spans of a capture are wanted.

use std::collections::HashSet;
use std::sync::Arc;

use crate::span::Summary;

/// Selects spans. The default selects all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Only spans of these traces.
    pub traces: Option<TraceIds>,
    /// Only spans that have not ended before this time, in nanoseconds since 1970.
    pub since_ns: u64,
    /// Only spans that have started by this time, in nanoseconds since 1970.
    pub until_ns: u64,
}

impl Default for Filter {
    fn default() -> Self {
        Self { traces: None, since_ns: 0, until_ns: u64::MAX }
    }
}

impl Filter {
    /// Whether this time has a part in common with the wanted time.
    pub(super) fn overlaps(&self, start_ns: u64, end_ns: u64) -> bool {
        start_ns <= self.until_ns && end_ns.max(start_ns) >= self.since_ns
    }

    pub(super) fn selects(&self, span: &Summary) -> bool {
        let (start, end) = span.times;
        self.overlaps(start, end) && self.traces.as_ref().is_none_or(|of| of.ids.contains(&span.trace_id))
    }
}

/// The ids of traces. A clone is cheap: each thread that reads has one, and there may be millions.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TraceIds {
    ids: Arc<HashSet<u128>>,
    fingerprints: Arc<HashSet<u32>>,
}

impl FromIterator<u128> for TraceIds {
    fn from_iter<I: IntoIterator<Item = u128>>(ids: I) -> Self {
        let ids: HashSet<u128> = ids.into_iter().collect();
        let fingerprints: HashSet<u32> = ids.iter().copied().map(fingerprint).collect();
        Self { ids: Arc::new(ids), fingerprints: Arc::new(fingerprints) }
    }
}

impl TraceIds {
    /// Whether one of these traces may be in a frame with these fingerprints.
    pub(super) fn may_be_among(&self, fingerprints: &[u32]) -> bool {
        fingerprints.iter().any(|fingerprint| self.fingerprints.contains(fingerprint))
    }
}

/// The number by which the header of a frame names a trace. All words of the id count: the ids of some tracers are random
/// in only one half, or count up.
pub(super) fn fingerprint(id: u128) -> u32 {
    let folded = (id >> 64) as u64 ^ id as u64;
    (folded >> 32) as u32 ^ folded as u32
}
