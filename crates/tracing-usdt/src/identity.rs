//! Who a span is: drawn for it, or inherited from above.
//!
//! A span that began unheard gets its identity when it is first needed, and so do all above it, from
//! the root down, because the trace id and the sampling decision are the root's.

use std::sync::Arc;

use tracing_core::Metadata;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::clock::{Monotonic, WallOffset, wall_offset};
use crate::context::{Ids, SpanContext, SpanId, TraceId};
use crate::remote;
use crate::sampler::{Sampler, SamplingRequest};
use crate::spans::Spans;
use crate::thread;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Identity {
    pub(crate) context: Ids,
    pub(crate) parent_id: Option<SpanId>,
    /// The parent is in another process.
    pub(crate) remote: bool,
    pub(crate) wall: WallOffset,
}

/// Gives identities to spans.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Identities {
    pub(crate) sampler: Sampler,
    /// The span of another process that root spans continue.
    pub(crate) remote_parent: Option<Arc<SpanContext>>,
}

impl Identities {
    /// An identity for a new span below `parent`, of random bits.
    #[inline]
    pub(crate) fn draw(
        &self,
        metadata: &'static Metadata<'static>,
        parent: Option<&Identity>,
        now: Monotonic,
        span_id: u64,
        trace_id: &mut dyn FnMut() -> u128,
    ) -> Identity {
        // Once in 2^64 times it is zero.
        let span_id = SpanId::new(span_id).unwrap_or_else(SpanId::random);
        match parent {
            Some(parent) => child_of(parent, span_id),
            None => self.root(metadata, now, span_id, trace_id),
        }
    }

    /// The same span below one that is known by now by other ids than it was.
    pub(crate) fn below(parent: &Identity, identity: &Identity) -> Identity {
        child_of(parent, identity.context.span_id)
    }

    /// The same span as the child of one in another process.
    pub(crate) fn continuing(
        &self,
        remote: Ids,
        metadata: &'static Metadata<'static>,
        identity: &Identity,
    ) -> Identity {
        let sampled = self.sampler.sample(&SamplingRequest {
            trace_id: remote.trace_id,
            parent_sampled: Some(remote.sampled),
            metadata,
        });
        let context = Ids { sampled, span_id: identity.context.span_id, ..remote };
        Identity { context, parent_id: Some(remote.span_id), remote: true, wall: identity.wall }
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
        let mut unknown = vec![(span.id(), span.metadata())];
        let mut known = None;
        for ancestor in span.scope().skip(1) {
            known = spans.identity(&ancestor.id());
            if known.is_some() {
                break;
            }
            unknown.push((ancestor.id(), ancestor.metadata()));
        }
        let draw = |metadata, parent: Option<&Identity>| {
            self.draw(metadata, parent, Monotonic::now(), thread::random(), &mut thread::random_wide)
        };
        for (id, metadata) in unknown.into_iter().rev() {
            known = Some(spans.meet(&id, draw(metadata, known.as_ref()), count));
        }
        // There was at least the span itself.
        known.unwrap_or_else(|| draw(span.metadata(), None))
    }

    #[inline]
    fn root(
        &self,
        metadata: &'static Metadata<'static>,
        now: Monotonic,
        span_id: SpanId,
        trace_id: &mut dyn FnMut() -> u128,
    ) -> Identity {
        let parent = remote::ids().or_else(|| self.remote_parent.as_ref().map(|parent| parent.ids));
        // Ours are random, and say so.
        let of_trace = parent.map_or_else(|| (TraceId::draw(trace_id), true), |of| (of.trace_id, of.random));
        let (trace_id, random) = of_trace;
        let parent_sampled = parent.map(|parent| parent.sampled);
        let sampled = self.sampler.sample(&SamplingRequest { trace_id, parent_sampled, metadata });
        Identity {
            context: Ids { trace_id, span_id, sampled, random },
            parent_id: parent.map(|parent| parent.span_id),
            remote: parent.is_some(),
            wall: wall_offset(now),
        }
    }
}

#[inline]
fn child_of(parent: &Identity, span_id: SpanId) -> Identity {
    Identity {
        context: Ids { span_id, ..parent.context },
        parent_id: Some(parent.context.span_id),
        remote: false,
        wall: parent.wall,
    }
}
