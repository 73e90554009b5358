//! Gives spans their identities: draws ids, inherits the trace from the parent, and samples at the root.
//!
//! A span that was created while nobody listened gets its identity when it is first needed. So do all spans
//! above it, from the root down, because the trace id and the sampling decision come from the root.

use std::sync::Arc;

use tracing_core::Metadata;
use tracing_core::span::Id;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::propagation::{Ids, SpanContext, SpanId, TraceId, TraceState};
use crate::sampler::{Sampler, SamplingRequest};
use crate::span::{Identity, OpenSpans, Untracked};

/// How identities are given.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Identities {
    sampler: Sampler,
    /// Whether the sampler takes every trace that begins in this process, without being asked.
    takes_all_new: bool,
    /// Whether each span without a parent begins a new trace, and the sampler takes it.
    pub(super) begins_all_sampled: bool,
    /// The span of another process that root spans of this process continue.
    pub(crate) remote_parent: Option<Arc<SpanContext>>,
}

impl Identities {
    pub(crate) fn new(sampler: Sampler, remote_parent: Option<SpanContext>) -> Self {
        let takes_all_new = sampler.takes_all_new();
        Self {
            takes_all_new,
            begins_all_sampled: takes_all_new && remote_parent.is_none(),
            sampler,
            remote_parent: remote_parent.map(Arc::new),
        }
    }

    /// Draws an identity for a child of `parent`. Without a parent, the span continues `remote`, a span of
    /// another process, or is the root of a new trace.
    #[inline(always)]
    pub(crate) fn draw(
        &self,
        metadata: &'static Metadata<'static>,
        parent: Option<&Identity>,
        remote: Option<Ids>,
    ) -> Identity {
        match parent {
            Some(parent) => parent.child(SpanId::random()),
            None => self.root(metadata, remote),
        }
    }

    /// `identity` below `parent`, whose ids have changed.
    pub(crate) fn reparented(parent: &Identity, identity: &Identity) -> Identity {
        parent.child(identity.ids.span_id)
    }

    /// `identity` as a child of `remote`, a span of another process.
    pub(crate) fn with_remote_parent(
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
        let ids = Ids { sampled, span_id: identity.ids.span_id, ..remote };
        Identity { ids, parent_id: Some(remote.span_id), remote: true }
    }

    /// The identity of `span`. If it is new, the table keeps it until the span closes.
    pub(crate) fn of<'a, R: LookupSpan<'a>>(
        &self,
        spans: &OpenSpans,
        span: &SpanRef<'a, R>,
        count: bool,
    ) -> Identity {
        self.walk(
            spans,
            span,
            None,
            |_| None,
            |span, identity| spans.identity_or_insert(&span.id(), identity, count),
        )
    }

    /// The identity of an untracked span: nobody listens, or a filter hides the span, so the layer may not
    /// see it close. Stored in the registry's extensions. A root continues `remote`. `known_identity` is tried
    /// before a new one is drawn.
    pub(crate) fn of_untracked<'a, R: LookupSpan<'a>>(
        &self,
        spans: &OpenSpans,
        span: &SpanRef<'a, R>,
        remote: Option<Ids>,
        known_identity: impl Fn(&Id) -> Option<Identity>,
    ) -> Identity {
        self.walk(spans, span, remote, known_identity, |span, identity| {
            let mut extensions = span.extensions_mut();
            // Another thread may have inserted one in the meantime.
            if let Some(known) = extensions.get_mut::<Untracked>() {
                return known.identity;
            }
            extensions.insert(Untracked { identity, trace_state: TraceState::NONE, baggage: None });
            identity
        })
    }

    /// Gives an identity to each span from the nearest ancestor that has one down to `span`, and stores it
    /// with `keep`. This is a loop because spans may nest deeper than the stack allows to recurse.
    fn walk<'a, R: LookupSpan<'a>>(
        &self,
        spans: &OpenSpans,
        span: &SpanRef<'a, R>,
        remote: Option<Ids>,
        known_identity: impl Fn(&Id) -> Option<Identity>,
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
            let untracked = span.extensions().get::<Untracked>().map(|untracked| untracked.identity);
            let identity = untracked.or_else(|| known_identity(&span.id()));
            known = Some(keep(span, identity.unwrap_or_else(|| draw(span, known.as_ref()))));
        }
        // Never `None`: the scope has at least the span itself.
        known.unwrap_or_else(|| draw(span, None))
    }

    #[inline(always)]
    fn root(&self, metadata: &'static Metadata<'static>, remote: Option<Ids>) -> Identity {
        let parent = remote.or_else(|| self.remote_parent.as_ref().map(|parent| parent.ids));
        // A new trace id is random, and W3C's random flag says so.
        let ((trace_id, span_id), random) = match parent {
            Some(parent) => ((parent.trace_id, SpanId::random()), parent.random),
            None => (TraceId::begin(), true),
        };
        let parent_sampled = parent.map(|parent| parent.sampled);
        let sampled = (self.takes_all_new && parent.is_none())
            || self.sampler.sample(&SamplingRequest { trace_id, parent_sampled, metadata });
        Identity {
            ids: Ids { trace_id, span_id, sampled, random },
            parent_id: parent.map(|parent| parent.span_id),
            remote: parent.is_some(),
        }
    }
}
