//! Gathers chosen traces from spans that are all there already, such as those of a file.

use std::collections::{BTreeMap, HashMap};

use super::assembled::{Shown, Trace};
use super::collected::{Collected, Limits};
use super::encoded::EncodedSpan;

/// The chosen traces. If they don't all fit into the memory, the first of them are gathered whole, and the rest is left for
/// another pass over the spans.
#[derive(Debug)]
pub struct Gathering {
    limits: Limits,
    places: HashMap<u128, usize>,
    by_place: BTreeMap<usize, Collected>,
    bytes: usize,
    /// Traces from this place on are left for another pass.
    end: usize,
}

impl Gathering {
    /// Will gather these traces, each once, the first ones first.
    pub fn new(trace_ids: &[u128], limits: Limits) -> Self {
        let places = trace_ids.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        Self { limits, places, by_place: BTreeMap::new(), bytes: 0, end: trace_ids.len() }
    }

    /// Adds a span, if its trace is among the chosen ones.
    pub fn add(&mut self, span: EncodedSpan) {
        let id = span.trace_id;
        let Some(place) = self.places.get(&id).copied().filter(|place| *place < self.end) else { return };
        let collected = self.by_place.entry(place).or_insert_with(|| Collected::new(id));
        self.bytes += collected.add(span, self.limits);
        // A single trace keeps to the limits by itself.
        while self.bytes > self.limits.bytes && self.by_place.len() > 1 {
            if let Some((place, out)) = self.by_place.pop_last() {
                self.bytes -= out.bytes;
                self.end = place;
            }
        }
    }

    /// The traces that were gathered, and how many of the chosen ones this pass has dealt with.
    pub fn finish(self) -> (impl Iterator<Item = Trace<EncodedSpan>>, usize) {
        let traces = self.by_place.into_values().map(|mut collected| {
            let is_complete = collected.is_complete();
            collected.trace.shown = if is_complete { Shown::Complete } else { Shown::Waited };
            collected.trace
        });
        (traces, self.end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
    use prost::Message;

    use super::*;
    use crate::process::{Process, Sender};
    use crate::span::Summary;

    fn span(trace: u128, id: u64) -> EncodedSpan {
        let resource = Resource::default();
        let process = Arc::new(Process { sender: Sender::UNKNOWN, service: String::new(), resource });
        let span = Span {
            trace_id: trace.to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            ..Span::default()
        };
        let summary = Summary::of(&span).expect("its ids");
        let field = ScopeSpans { spans: vec![span], ..ScopeSpans::default() }.encode_to_vec();
        EncodedSpan::new(&process, &summary, &field)
    }

    fn gather(order: &[u128], bytes: usize, spans: &[(u128, u64)]) -> (Vec<(u128, usize)>, usize) {
        let mut gathering = Gathering::new(order, Limits { bytes, spans_of_a_trace: 100 });
        spans.iter().for_each(|(trace, id)| gathering.add(span(*trace, *id)));
        let (traces, end) = gathering.finish();
        (traces.map(|trace| (trace.id, trace.spans.len())).collect(), end)
    }

    #[test]
    fn traces_come_in_the_wanted_order() {
        let spans = [(1, 1), (2, 2), (9, 3), (1, 4), (3, 5), (1, 4)];
        assert_eq!(gather(&[3, 1, 2, 7], 1 << 20, &spans), (vec![(3, 1), (1, 2), (2, 1)], 4));
    }

    #[test]
    fn what_does_not_fit_is_left_for_another_pass() {
        let EncodedSpan { size, decoded_size, .. } = span(1, 1);
        // A trace alone must fit, also decoded.
        let bytes = 2 * decoded_size;
        let fit = bytes / (2 * size);
        assert!((1..10).contains(&fit), "{fit}");
        let order: Vec<u128> = (1..=10).rev().collect();
        // The spans come in another order than that in which their traces are wanted.
        let spans: Vec<(u128, u64)> = (1..=20).map(|id| ((id % 10 + 1).into(), id)).collect();
        let whole: Vec<(u128, usize)> = order.iter().take(fit).map(|id| (*id, 2)).collect();
        assert_eq!(gather(&order, bytes, &spans), (whole, fit));
    }

    #[test]
    fn a_trace_that_does_not_fit_alone_leaves_spans_out() {
        let spans: Vec<(u128, u64)> = (1..=200).map(|id| (1, id)).collect();
        let (found, end) = gather(&[1], 1 << 20, &spans);
        assert_eq!((found, end), (vec![(1, 100)], 1));
    }
}
