//! Which span of a trace is whose parent.
//!
//! Mostly the one whose id a span names. The two halves of a span that Zipkin shares have one id by their senders'
//! word ([`ZIPKIN_ID`]), and may have come before the decoder could tell whose children came: here all of them are known.

use std::collections::HashMap;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{Trace, TraceSpan};
use crate::attributes::{ZIPKIN_ID, ZIPKIN_PARENT_ID, find_text};
use crate::decode::MOST_HALVES;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Parent {
    None,
    Missing,
    /// The span of this index.
    Span(usize),
}

/// Of each span. If two have the same id, the first is the parent.
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

fn sent(span: &Span, key: &str) -> Option<[u8; 8]> {
    const_hex::decode_to_array(find_text(&span.attributes, key)?).ok()
}

struct Known<'a> {
    trace: &'a Trace,
    by_id: HashMap<&'a [u8], usize>,
    /// By the id that they share, those that are forwarded under another. Few of each, as each child looks at all of them.
    halves: HashMap<[u8; 8], Vec<usize>>,
}

impl<'a> Known<'a> {
    fn new(trace: &'a Trace) -> Self {
        let mut known =
            Self { trace, by_id: HashMap::with_capacity(trace.spans.len()), halves: HashMap::new() };
        for (index, TraceSpan { span, .. }) in trace.spans.iter().enumerate() {
            known.by_id.entry(&span.span_id).or_insert(index);
            if let Some(id) = sent(span, ZIPKIN_ID) {
                let halves = known.halves.entry(id).or_default();
                if halves.len() < MOST_HALVES {
                    halves.push(index);
                }
            }
        }
        known
    }

    fn parent(&self, index: usize) -> Parent {
        let span = &self.trace.spans[index].span;
        if span.kind == SpanKind::Server as i32 {
            let shared = sent(span, ZIPKIN_ID).or_else(|| span.span_id.as_slice().try_into().ok());
            if let Some(client) = shared.and_then(|shared| self.client(shared)) {
                return Parent::Span(client);
            }
        }
        let found = self.of_service(index, &span.parent_span_id).or_else(|| {
            // The client's half may never come: then the server's hangs where both would.
            self.of_service(index, &sent(span, ZIPKIN_PARENT_ID)?)
        });
        match found {
            Some(parent) => Parent::Span(parent),
            None if span.parent_span_id.is_empty() => Parent::None,
            None => Parent::Missing,
        }
    }

    /// The client's half.
    fn client(&self, shared: [u8; 8]) -> Option<usize> {
        let all = self.halves.get(&shared)?.iter().copied().chain(self.by_id.get(&shared[..]).copied());
        all.into_iter().find(|&index| self.trace.spans[index].span.kind == SpanKind::Client as i32)
    }

    /// Of the spans that were sent with this id, the one of the same process as the child, else of the same service.
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

    /// Else the time that a tree takes would grow with their number squared.
    #[test]
    fn of_very_many_halves_of_one_id_few_are_looked_at() {
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
        assert_eq!(Known::new(&trace).halves[&[0, 0, 0, 0, 0, 0, 0, 0xff]].len(), MOST_HALVES);
        assert_eq!(parents(&trace).len(), trace.spans.len());
    }
}
