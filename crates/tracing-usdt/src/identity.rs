//! Who a span is: drawn for it, or inherited from above.
//!
//! A span that began unheard gets its identity when it is first needed, and so do all above it, from
//! the root down, because the trace id and the sampling decision are the root's.

use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::clock::{Monotonic, WallOffset, wall_offset};
use crate::context::{SpanContext, SpanId, TraceId};
use crate::sampler::Sampler;
use crate::span::SpanState;

#[derive(Clone, Copy)]
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
    /// An identity for a span that has none yet.
    pub(crate) fn draw<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> Identity {
        match span.parent() {
            Some(parent) => child_of(&self.of(&parent)),
            None => self.root(),
        }
    }

    /// The identity of `span`, which it keeps. A loop, since spans may nest deeper than the stack.
    pub(crate) fn of<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> Identity {
        let mut unknown = Vec::new();
        let mut known = None;
        for ancestor in span.scope() {
            known = ancestor.extensions().get::<SpanState>().map(|state| state.identity);
            if known.is_some() {
                break;
            }
            unknown.push(ancestor);
        }
        for ancestor in unknown.into_iter().rev() {
            let drawn = known.as_ref().map_or_else(|| self.root(), child_of);
            let mut extensions = ancestor.extensions_mut();
            // Another thread may have been here in the meantime; its answer stands.
            let standing = extensions.get_mut::<SpanState>().map(|state| state.identity);
            if standing.is_none() {
                extensions.insert(SpanState::new(drawn, None, None));
            }
            known = Some(standing.unwrap_or(drawn));
        }
        // A scope begins with the span itself, so one of the two loops has found it.
        known.unwrap_or_else(|| self.root())
    }

    fn root(&self) -> Identity {
        let remote = self.remote_parent;
        let trace_id = remote.map_or_else(TraceId::random, |remote| remote.trace_id);
        let sampled = self.sampler.sample(trace_id, remote.map(|remote| remote.sampled));
        Identity {
            context: SpanContext { trace_id, span_id: SpanId::random(), sampled },
            parent_id: remote.map(|remote| remote.span_id),
            wall: wall_offset(Monotonic::now()),
        }
    }
}

fn child_of(parent: &Identity) -> Identity {
    Identity {
        context: SpanContext { span_id: SpanId::random(), ..parent.context },
        parent_id: Some(parent.context.span_id),
        wall: parent.wall,
    }
}
