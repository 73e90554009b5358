//! Who a span is: drawn for it, or inherited from above.
//!
//! A span that began unheard gets its identity when it is first needed, and so do all above it, from
//! the root down, because the trace id and the sampling decision are the root's.

use tracing_core::span::Id;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::clock::{Monotonic, WallOffset, wall_offset};
use crate::context::{SpanContext, SpanId, TraceId};
use crate::sampler::Sampler;
use crate::spans::Spans;
use crate::thread;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Identity {
    pub(crate) context: SpanContext,
    pub(crate) parent_id: Option<SpanId>,
    pub(crate) wall: WallOffset,
}

/// Gives identities to spans.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Identities {
    pub(crate) sampler: Sampler,
    /// The span of another process that root spans continue.
    pub(crate) remote_parent: Option<SpanContext>,
}

impl Identities {
    /// An identity for a new span below `parent`, of random bits.
    #[inline]
    pub(crate) fn draw(
        &self,
        parent: Option<&Identity>,
        now: Monotonic,
        span_id: u64,
        trace_id: &mut dyn FnMut() -> u128,
    ) -> Identity {
        // Once in 2^64 times it is zero.
        let span_id = SpanId::from_u64(span_id).unwrap_or_else(SpanId::random);
        match parent {
            Some(parent) => child_of(parent, span_id),
            None => self.root(now, span_id, trace_id),
        }
    }

    /// The identity of `span`, which it keeps. A loop, since spans may nest deeper than the stack.
    pub(crate) fn of<'a, R: LookupSpan<'a>>(
        &self,
        spans: &Spans,
        span: &SpanRef<'a, R>,
        count: bool,
    ) -> Identity {
        if let Some(known) = spans.identity(&span.id()) {
            return known;
        }
        let mut unknown: Vec<Id> = vec![span.id()];
        let mut known = None;
        for ancestor in span.scope().skip(1) {
            known = spans.identity(&ancestor.id());
            if known.is_some() {
                break;
            }
            unknown.push(ancestor.id());
        }
        for id in unknown.into_iter().rev() {
            let drawn =
                self.draw(known.as_ref(), Monotonic::now(), thread::random(), &mut thread::random_wide);
            known = Some(spans.meet(&id, drawn, count));
        }
        // There was at least the span itself.
        known.unwrap_or_else(|| self.draw(None, Monotonic::now(), thread::random(), &mut thread::random_wide))
    }

    #[inline]
    fn root(&self, now: Monotonic, span_id: SpanId, trace_id: &mut dyn FnMut() -> u128) -> Identity {
        let remote = self.remote_parent;
        let trace_id = remote.map_or_else(|| TraceId::draw(trace_id), |remote| remote.trace_id);
        let sampled = self.sampler.sample(trace_id, remote.map(|remote| remote.sampled));
        Identity {
            context: SpanContext { trace_id, span_id, sampled },
            parent_id: remote.map(|remote| remote.span_id),
            wall: wall_offset(now),
        }
    }
}

#[inline]
fn child_of(parent: &Identity, span_id: SpanId) -> Identity {
    Identity {
        context: SpanContext { span_id, ..parent.context },
        parent_id: Some(parent.context.span_id),
        wall: parent.wall,
    }
}
