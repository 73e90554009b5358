//! The report of losses in the stream, which is a span.

use crate::propagation::Ids;

/// A report of spans that did not reach the receiver.
pub(crate) struct Losses<'a> {
    pub(crate) ids: Ids,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    /// The number of lost spans for each reason.
    pub(crate) reasons: &'a [(&'static str, u64)],
}

impl Losses<'_> {
    pub(super) const NAME: &'static str = "tracing_usdt.dropped";

    pub(super) fn attributes(&self) -> impl Iterator<Item = (String, u64)> {
        self.reasons.iter().map(|(reason, spans)| (format!("{}.{reason}", Self::NAME), *spans))
    }
}
