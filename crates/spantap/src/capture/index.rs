//! What the header of a frame says about its spans, so that a reader can tell without reading them that none matches.

use bytes::Bytes;
use prost::Message;

use super::filter::{Filter, TraceIds, fingerprint};

/// The times and the traces of the spans in a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Index {
    pub(super) earliest_ns: u64,
    pub(super) latest_ns: u64,
    /// Distinct and in ascending order.
    fingerprints: Vec<u32>,
}

impl Index {
    /// Returns `None` if the fingerprints are not distinct and in ascending order.
    pub(super) fn of(fingerprints: Vec<u32>, earliest_ns: u64, latest_ns: u64) -> Option<Self> {
        fingerprints.is_sorted_by(|one, next| one < next).then_some(Self {
            earliest_ns,
            latest_ns,
            fingerprints,
        })
    }

    /// Reads the spans of an encoded request. Also returns how many there are.
    pub(super) fn of_request(request: Bytes) -> Result<(Self, u32), prost::DecodeError> {
        let spans = Request::decode(request)?.resources.into_iter().flat_map(|of| of.scopes);
        let (mut fingerprints, mut count) = (Vec::new(), 0);
        let (mut earliest_ns, mut latest_ns) = (u64::MAX, 0);
        for span in spans.flat_map(|scope| scope.spans) {
            count += 1;
            earliest_ns = earliest_ns.min(span.start);
            // Some spans end before they start.
            latest_ns = latest_ns.max(span.start).max(span.end);
            let id: Result<[u8; 16], _> = (&*span.trace_id).try_into();
            fingerprints.extend(id.ok().map(|id| fingerprint(u128::from_be_bytes(id))));
        }
        fingerprints.sort_unstable();
        fingerprints.dedup();
        Ok((Self { earliest_ns: earliest_ns.min(latest_ns), latest_ns, fingerprints }, count))
    }

    /// The fingerprints of the trace ids.
    pub(super) fn fingerprints(&self) -> &[u32] {
        &self.fingerprints
    }

    /// Whether the frame may have spans that `filter` selects.
    pub(super) fn may_have(&self, filter: &Filter) -> bool {
        let is_among = |traces: &TraceIds| traces.may_be_among(&self.fingerprints);
        filter.overlaps(self.earliest_ns, self.latest_ns) && filter.traces.as_ref().is_none_or(is_among)
    }
}

// The few fields of OTLP's messages that the index needs. The rest is skipped without being decoded.

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OfResource>,
}

#[derive(Clone, PartialEq, Message)]
struct OfResource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<OfScope>,
}

#[derive(Clone, PartialEq, Message)]
struct OfScope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<OfSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct OfSpan {
    #[prost(bytes = "bytes", tag = "1")]
    trace_id: Bytes,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use super::*;
    use crate::capture::tests::{request, span};

    #[test]
    fn has_the_times_and_the_traces_of_all_spans() {
        // The last one ends before it starts.
        let mut spans = [span(7, 1, 100..200), span(9, 2, 50..60), span(7, 3, 300..300)];
        spans[2].end_time_unix_nano = 250;
        let (index, count) = Index::of_request(request(&spans)).unwrap();
        assert_eq!(count, 3);
        assert_eq!((index.earliest_ns, index.latest_ns), (50, 300));
        assert_eq!(index.fingerprints(), [7, 9]);
        let trace = |id| Filter { traces: Some([id].into_iter().collect()), ..Filter::default() };
        let time = |since_ns, until_ns| Filter { since_ns, until_ns, ..Filter::default() };
        let cases = [
            (Filter::default(), true),
            (trace(7), true),
            (trace(8), false),
            // A fingerprint that agrees is no proof.
            (trace(7 << 96), true),
            (time(0, 49), false),
            (time(0, 50), true),
            (time(300, u64::MAX), true),
            (time(301, u64::MAX), false),
            (Filter { traces: trace(9).traces, ..time(301, 400) }, false),
        ];
        for (filter, expected) in cases {
            assert_eq!(index.may_have(&filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn an_empty_request_has_no_spans() {
        let (index, count) = Index::of_request(Bytes::new()).unwrap();
        assert_eq!((count, index.earliest_ns, index.latest_ns), (0, 0, 0));
    }
}
