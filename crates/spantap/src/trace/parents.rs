//! Finds the parent of each span of a trace.
//!
//! For most spans it is the span with the parent's id. The two halves of a shared span of Zipkin were sent with one id
//! ([`ZIPKIN_ID`]). The decoder sees one datagram at a time and may not know both halves yet when it reads their
//! children; here all spans of the trace are known.

use std::collections::HashMap;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::assembled::{Trace, TraceSpan};
use crate::span::attributes::find_text;
use crate::span::zipkin::{MAX_HALVES, ZIPKIN_ID, ZIPKIN_PARENT_ID};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Parent {
    None,
    Missing,
    /// The span of this index.
    Span(usize),
}

/// The parent of each span. If two spans have the same id, the first one is the parent.
pub(super) fn parents(trace: &Trace) -> Vec<Parent> {
    let known = Known::new(trace);
    let is_plain = known.halves.is_empty();
    let parent = |(index, TraceSpan { span, .. }): (usize, &TraceSpan)| match &*span.parent_span_id {
        id if is_plain && !id.is_empty() => {
            known.by_id.get(id).map_or(Parent::Missing, |&parent| Parent::Span(parent))
        }
        _ => known.parent(index),
    };
    trace.spans.iter().enumerate().map(parent).collect()
}

/// An id that the span was sent with.
fn sent_id(span: &Span, key: &str) -> Option<[u8; 8]> {
    const_hex::decode_to_array(find_text(&span.attributes, key)?).ok()
}

struct Known<'a> {
    trace: &'a Trace,
    by_id: HashMap<&'a [u8], usize>,
    /// The halves of shared spans that got a new id, by the id that they were sent with. At most [`MAX_HALVES`] of
    /// each, because the search of each child's parent goes through all of them.
    halves: HashMap<[u8; 8], Vec<usize>>,
}

impl<'a> Known<'a> {
    fn new(trace: &'a Trace) -> Self {
        let mut known =
            Self { trace, by_id: HashMap::with_capacity(trace.spans.len()), halves: HashMap::new() };
        for (index, TraceSpan { span, .. }) in trace.spans.iter().enumerate() {
            known.by_id.entry(&span.span_id).or_insert(index);
            if let Some(id) = sent_id(span, ZIPKIN_ID) {
                let halves = known.halves.entry(id).or_default();
                if halves.len() < MAX_HALVES {
                    halves.push(index);
                }
            }
        }
        known
    }

    fn parent(&self, index: usize) -> Parent {
        let span = &self.trace.spans[index].span;
        if span.kind == SpanKind::Server as i32 {
            let shared = sent_id(span, ZIPKIN_ID).or_else(|| span.span_id.as_slice().try_into().ok());
            if let Some(client) = shared.and_then(|shared| self.client(shared)) {
                return Parent::Span(client);
            }
        }
        let found = self.of_service(index, &span.parent_span_id).or_else(|| {
            // If the client's half never arrives, the server's half takes the parent that both were sent with.
            self.of_service(index, &sent_id(span, ZIPKIN_PARENT_ID)?)
        });
        match found {
            Some(parent) => Parent::Span(parent),
            None if span.parent_span_id.is_empty() => Parent::None,
            None => Parent::Missing,
        }
    }

    /// The client's half of a shared span.
    fn client(&self, shared: [u8; 8]) -> Option<usize> {
        let all = self.halves.get(&shared)?.iter().copied().chain(self.by_id.get(&shared[..]).copied());
        all.into_iter().find(|&index| self.trace.spans[index].span.kind == SpanKind::Client as i32)
    }

    /// Among the spans sent with this id, prefers the one of the child's process, then one of the child's service.
    fn of_service(&self, child: usize, id: &[u8]) -> Option<usize> {
        let plain = self.by_id.get(id).copied().filter(|&index| index != child);
        let child_process = &self.trace.spans[child].process;
        let rank = |&index: &usize| {
            let process = &self.trace.spans[index].process;
            let is_same_service = process.service == child_process.service;
            (is_same_service, is_same_service && process.sender == child_process.sender, Some(index) == plain)
        };
        let halves =
            id.try_into().ok().and_then(|id: [u8; 8]| self.halves.get(&id)).into_iter().flatten().copied();
        halves.chain(plain).filter(|&index| index != child).max_by_key(rank)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::resource::v1::Resource;

    use super::*;
    use crate::process::{Process, Sender};
    use crate::trace::Shown;

    /// Without a limit, the time for a tree would grow with the square of the number of halves.
    #[test]
    fn the_number_of_halves_with_one_id_is_limited() {
        let id = |number: u64| number.to_be_bytes().to_vec();
        let shared = Value::StringValue("00000000000000ff".into());
        let attribute = KeyValue {
            key: ZIPKIN_ID.into(),
            value: Some(AnyValue { value: Some(shared) }),
            ..KeyValue::default()
        };
        let span = |number| Span {
            span_id: id(number),
            parent_span_id: id(0xff),
            kind: SpanKind::Server as i32,
            attributes: vec![attribute.clone()],
            ..Span::default()
        };
        let process = Arc::new(Process {
            sender: Sender { pid: 1, uid: 0, gid: 0 },
            service: String::new(),
            resource: Resource::default(),
        });
        let spans = (0x100..0x500)
            .map(|number| TraceSpan { process: Arc::clone(&process), span: span(number) })
            .collect();
        let trace = Trace { id: 1, spans, shown: Shown::Complete, duplicates: 0, left_out: 0, late: 0 };
        assert_eq!(Known::new(&trace).halves[&[0, 0, 0, 0, 0, 0, 0, 0xff]].len(), MAX_HALVES);
        assert_eq!(parents(&trace).len(), trace.spans.len());
    }
}
