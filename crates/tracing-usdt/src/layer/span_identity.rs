//! The identity of a span in this layer, tracked or not.

use tracing_core::{Event, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::usdt_layer::{UsdtLayer, owner};
use crate::aside;
use crate::span::{Identity, Untracked};

impl UsdtLayer {
    /// The identity of a span, which it gets now if it has none.
    pub(super) fn identity<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> Identity {
        if self.uses_opentelemetry_ids() && self.spans.identity(&span.id()).is_none() {
            self.resolve_untracked(span);
        }
        self.identities.of(&self.spans, span, self.counts_open_spans())
    }

    /// The span that an event is in.
    pub(super) fn event_span<'a, S>(
        &self,
        event: &Event<'_>,
        ctx: &'a Context<'_, S>,
    ) -> Option<SpanRef<'a, S>>
    where
        S: Subscriber + for<'b> LookupSpan<'b>,
    {
        if aside::is_used() {
            let aside = if event.is_contextual() {
                aside::innermost(owner(self), ctx.current_span().id())
            } else if event.is_root() {
                aside::take_parent()
            } else {
                None
            };
            if let Some(id) = aside {
                return ctx.span(&id);
            }
        }
        ctx.event_span(event)
    }

    /// The id of a span in the probes of callsites. Does not ask OpenTelemetry, which would start the span: with its ids, a
    /// span has none here before it has been started.
    pub(super) fn span_id_for_probes<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> Option<u64> {
        let id = span.id();
        let identity = match self.uses_opentelemetry_ids() {
            true if self.is_undecided(&id) => return None,
            true => self.spans.identity(&id)?,
            false => self.spans.identity(&id).unwrap_or_else(|| self.untracked_identity(span)),
        };
        Some(identity.ids.span_id.get())
    }

    /// The identity of a span that may be hidden from this layer by its filter, for a child that no filter hides. The layer
    /// does not see the end of such a span, so it is not tracked.
    pub(super) fn identity_of_parent<'a, R: LookupSpan<'a>>(
        &self,
        span: &SpanRef<'a, R>,
    ) -> Option<Identity> {
        let tracked = self.spans.identity(&span.id()).or_else(|| self.nearest_tracked(span));
        // With OpenTelemetry's ids, to ask would start the span.
        let untracked = || (!self.uses_opentelemetry_ids()).then(|| self.untracked_identity(span));
        tracked.or_else(untracked)
    }

    /// The identity of an untracked span: nobody listens, or a filter hides the span and its close from the
    /// layer.
    pub(super) fn untracked_identity<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> Identity {
        if let Some(untracked) = span.extensions().get::<Untracked>() {
            return untracked.identity;
        }
        self.identities.of_untracked(&self.spans, span, None, |id| Some(self.opentelemetry_identity(id)?.0))
    }

    /// The nearest span above that was created while someone listened. A span below such a span is untracked
    /// only if a filter hides it or its trace is not sampled.
    pub(super) fn nearest_tracked<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> Option<Identity> {
        if self.counts_open_spans() && self.spans.is_empty() {
            return None;
        }
        let tracked_identity = |above: SpanRef<'a, R>| {
            self.spans.look(&above.id(), |open| open.had_listener.then_some(open.identity)).flatten()
        };
        span.scope().skip(1).find_map(tracked_identity)
    }
}
