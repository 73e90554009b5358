//! Replaces a span's ids by OpenTelemetry's, once it has started the span.

use tracing_core::span::Id;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::identities::Identities;
use super::usdt_layer::UsdtLayer;
use crate::callsite;
use crate::encode;
use crate::error::Error;
use crate::otel::Answer;
use crate::propagation::{SpanId, TraceId, TraceState};
use crate::span::{Identity, Origin};
use crate::thread_context;

impl UsdtLayer {
    /// Takes over OpenTelemetry's identities for a span that was created while nobody listened, and for those
    /// above it.
    #[cold]
    pub(super) fn resolve_untracked<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) {
        let is_unknown = |span: &SpanRef<'a, R>| self.spans.identity(&span.id()).is_none();
        let unknown: Vec<_> = span.scope().take_while(is_unknown).collect();
        // From the top down: a span that OpenTelemetry does not have inherits from the spans above it.
        for span in unknown.iter().rev() {
            self.identities.of(&self.spans, span, self.counts_open_spans());
            self.resolve_identity(span);
        }
    }

    /// Gives a span its identity in OpenTelemetry, unless that has been done. The user's sampler may run, so
    /// the caller must hold no lock.
    #[inline]
    pub(super) fn resolve_identity<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) {
        if self.is_undecided(&span.id()) {
            self.adopt_opentelemetry_identity(span);
        }
    }

    /// Whether OpenTelemetry has not been asked for the span's identity yet.
    #[inline]
    pub(super) fn is_undecided(&self, id: &Id) -> bool {
        self.uses_opentelemetry_ids() && self.spans.look(id, |open| open.origin) == Some(Origin::Undecided)
    }

    /// Asks OpenTelemetry for the span's identity and stores it; if OpenTelemetry does not have the span,
    /// keeps our own ids.
    #[inline(never)]
    pub(super) fn adopt_opentelemetry_identity<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) {
        let Some(otel) = &self.otel else { return };
        let id = span.id();
        match otel.ask(&id) {
            Answer::Unavailable => return,
            Answer::Known(known) => {
                let trace_id = known.ids.trace_id;
                let (parent_id, remote) = match known.parent {
                    Some(parent) => (parent.id, parent.remote),
                    None => (self.nearest_in_opentelemetry(span, trace_id), false),
                };
                self.spans.with(&id, |open| {
                    open.identity = Identity { ids: known.ids, parent_id, remote };
                    open.origin = Origin::OpenTelemetry;
                    self.set_trace_state(&mut open.record, known.trace_state);
                });
                thread_context::change(&id, known.ids);
            }
            Answer::Unknown => {
                let parent = span.parent().and_then(|parent| self.spans.identity(&parent.id()));
                self.spans.with(&id, |open| {
                    open.origin = Origin::Own;
                    let parent = parent.filter(|_| !open.identity.remote);
                    let has_other_ids =
                        |parent: &Identity| open.identity.parent_id != Some(parent.ids.span_id);
                    if let Some(parent) = parent.filter(has_other_ids) {
                        open.identity = Identities::reparented(&parent, &open.identity);
                    }
                });
            }
        }
        self.fire_pending_new_span(span);
    }

    /// The nearest span above that OpenTelemetry has, if it is in the same trace: it is probably the parent.
    pub(super) fn nearest_in_opentelemetry<'a, R: LookupSpan<'a>>(
        &self,
        span: &SpanRef<'a, R>,
        trace_id: TraceId,
    ) -> Option<SpanId> {
        let known = |above: SpanRef<'a, R>| {
            let known = self.spans.look(&above.id(), |open| (open.origin, open.identity.ids));
            known.and_then(|(origin, ids)| (origin == Origin::OpenTelemetry).then_some(ids))
        };
        let parent = span.scope().skip(1).find_map(known)?;
        (parent.trace_id == trace_id).then_some(parent.span_id)
    }

    /// Fires `new_span` if it has been waiting for the span's ids.
    pub(super) fn fire_pending_new_span<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) {
        let callsite = callsite::of(span.metadata());
        let pending = self.spans.with(&span.id(), |open| {
            let is_pending = std::mem::take(&mut open.new_span_pending);
            is_pending.then(|| (open.identity, encode::fields_object(open.record.fields.view(callsite), &[])))
        });
        if let Some((identity, fields)) = pending.flatten() {
            super::new_span::new_span(callsite, &identity, &fields);
        }
    }

    /// Takes over the span's identity at its close, if that has not been done. Notices the order of the two
    /// layers.
    pub(super) fn resolve_at_close<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) {
        let Some(otel) = &self.otel else { return };
        let id = span.id();
        match self.spans.look(&id, |open| open.origin) {
            Some(Origin::Undecided) => {
                self.adopt_opentelemetry_identity(span);
                let is_own = self.spans.look(&id, |open| open.origin) == Some(Origin::Own);
                if is_own && otel.closes_first() == Some(true) {
                    self.reporter.report(Error::LayerOrder);
                }
            }
            // OpenTelemetry had the span before. If it does not have it now, it has seen the close first.
            Some(Origin::OpenTelemetry) if otel.closes_first().is_none() => {
                otel.set_closes_first(matches!(otel.ask(&id), Answer::Unknown));
            }
            _ => {}
        }
        self.fire_pending_new_span(span);
    }

    /// The identity in OpenTelemetry of a span that is not in the table. For locks see `resolve_identity`.
    pub(super) fn opentelemetry_identity(&self, id: &Id) -> Option<(Identity, TraceState)> {
        let Answer::Known(known) = self.otel.as_ref()?.ask(id) else { return None };
        let (parent_id, remote) = known.parent.map_or((None, false), |parent| (parent.id, parent.remote));
        Some((Identity { ids: known.ids, parent_id, remote }, known.trace_state))
    }
}
