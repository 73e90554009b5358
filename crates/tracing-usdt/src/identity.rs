//! Who a span is: drawn for it, or inherited from above.
//!
//! A span that began unheard gets its identity when it is first needed, and so do all above it, from
//! the root down, because the trace id and the sampling decision are the root's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_core::Metadata;
use tracing_core::span::Id;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::context::{Ids, SpanContext, SpanId, TraceId};
use crate::sampler::{Sampler, SamplingRequest};
use crate::spans::Spans;
use crate::trace_state::TraceState;

/// Something has told, or is going to tell, of a span that begins what can't be found out later: a remote parent that is
/// the thread's for the moment, or the field that says whether it is sent.
static TOLD_AT_ONCE: AtomicBool = AtomicBool::new(false);

/// Whether to ask, of a span that begins, even if nobody listens.
#[inline]
pub(crate) fn may_be_told_at_once() -> bool {
    TOLD_AT_ONCE.load(Ordering::Relaxed)
}

pub(crate) fn is_told_at_once() {
    TOLD_AT_ONCE.store(true, Ordering::Relaxed);
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Identity {
    pub(crate) context: Ids,
    pub(crate) parent_id: Option<SpanId>,
    /// The parent is in another process.
    pub(crate) remote: bool,
}

/// Who a span is that is in no table of ours, in the registry's extensions.
pub(crate) struct Unlisted {
    pub(crate) identity: Identity,
    pub(crate) trace_state: TraceState,
}

/// Gives identities to spans.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Identities {
    pub(crate) sampler: Sampler,
    /// The span of another process that root spans continue.
    pub(crate) remote_parent: Option<Arc<SpanContext>>,
}

impl Identities {
    /// An identity for a new span below `parent`; `remote` is the span of another process that it continues if
    /// it has none.
    #[inline(always)]
    pub(crate) fn draw(
        &self,
        metadata: &'static Metadata<'static>,
        parent: Option<&Identity>,
        remote: Option<Ids>,
    ) -> Identity {
        match parent {
            Some(parent) => child_of(parent, SpanId::random()),
            None => self.root(metadata, remote),
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
        Identity { context, parent_id: Some(remote.span_id), remote: true }
    }

    /// The identity of `span`, which it keeps in the table until we hear of its close.
    pub(crate) fn of<'a, R: LookupSpan<'a>>(
        &self,
        spans: &Spans,
        span: &SpanRef<'a, R>,
        count: bool,
    ) -> Identity {
        self.walk(spans, span, None, |_| None, |span, identity| spans.meet(&span.id(), identity, count))
    }

    /// The same where nobody listens, or a filter keeps the span from us, so that we may not hear of its close:
    /// it is kept with the span itself. A root continues `remote`; `told` is asked before one is drawn.
    pub(crate) fn of_unlisted<'a, R: LookupSpan<'a>>(
        &self,
        spans: &Spans,
        span: &SpanRef<'a, R>,
        remote: Option<Ids>,
        told: impl Fn(&Id) -> Option<Identity>,
    ) -> Identity {
        self.walk(spans, span, remote, told, |span, identity| {
            let mut extensions = span.extensions_mut();
            // Another thread may have been faster.
            if let Some(known) = extensions.get_mut::<Unlisted>() {
                return known.identity;
            }
            extensions.insert(Unlisted { identity, trace_state: TraceState::NONE });
            identity
        })
    }

    /// From the nearest span above with an identity down to `span`, `keep` gets one for each. A loop, since spans
    /// may nest deeper than the stack.
    fn walk<'a, R: LookupSpan<'a>>(
        &self,
        spans: &Spans,
        span: &SpanRef<'a, R>,
        remote: Option<Ids>,
        told: impl Fn(&Id) -> Option<Identity>,
        keep: impl Fn(&SpanRef<'a, R>, Identity) -> Identity,
    ) -> Identity {
        let mut unknown = Vec::new();
        let mut known = None;
        for span in span.scope() {
            known = spans.identity(&span.id());
            if known.is_some() {
                break;
            }
            unknown.push(span);
        }
        let draw =
            |span: &SpanRef<'a, R>, parent: Option<&Identity>| self.draw(span.metadata(), parent, remote);
        for span in unknown.iter().rev() {
            let unlisted = span.extensions().get::<Unlisted>().map(|unlisted| unlisted.identity);
            let identity = unlisted.or_else(|| told(&span.id()));
            known = Some(keep(span, identity.unwrap_or_else(|| draw(span, known.as_ref()))));
        }
        // There was at least the span itself.
        known.unwrap_or_else(|| draw(span, None))
    }

    #[inline(always)]
    fn root(&self, metadata: &'static Metadata<'static>, remote: Option<Ids>) -> Identity {
        let parent = remote.or_else(|| self.remote_parent.as_ref().map(|parent| parent.ids));
        // Ours are random, and say so.
        let ((trace_id, span_id), random) = match parent {
            Some(of) => ((of.trace_id, SpanId::random()), of.random),
            None => (TraceId::begin(), true),
        };
        let parent_sampled = parent.map(|parent| parent.sampled);
        let sampled = self.sampler.sample(&SamplingRequest { trace_id, parent_sampled, metadata });
        Identity {
            context: Ids { trace_id, span_id, sampled, random },
            parent_id: parent.map(|parent| parent.span_id),
            remote: parent.is_some(),
        }
    }
}

#[inline]
fn child_of(parent: &Identity, span_id: SpanId) -> Identity {
    Identity {
        context: Ids { span_id, ..parent.context },
        parent_id: Some(parent.context.span_id),
        remote: false,
    }
}
