//! The layer's side of `SpanExt`: a span's context, parent, links and attributes.

use tracing_core::Metadata;
use tracing_core::span::Id;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::usdt_layer::UsdtLayer;
use crate::callsite;
use crate::clock::Monotonic;
use crate::fields::AttributeValue;
use crate::propagation::{Ids, SpanContext, TraceState};
use crate::span::{Identity, Link, OpenSpan, Origin, Timing, Untracked};
use crate::thread_context;

impl UsdtLayer {
    /// See [`SpanExt::trace_context`](crate::SpanExt::trace_context).
    pub(crate) fn context_of<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> SpanContext {
        let (ids, of_opentelemetry) = self.known_ids(span);
        let trace_state = match of_opentelemetry {
            Some(trace_state) => trace_state,
            None if self.has_trace_states() => self.trace_state(span),
            None => TraceState::NONE,
        };
        SpanContext { ids, trace_state, baggage: self.baggage_of(span) }
    }

    /// The ids of [`context_of`](Self::context_of), with the trace state if OpenTelemetry knows the span and the table
    /// does not.
    pub(crate) fn known_ids<'a, R: LookupSpan<'a>>(
        &self,
        span: &SpanRef<'a, R>,
    ) -> (Ids, Option<TraceState>) {
        let id = span.id();
        self.resolve_identity(span);
        if let Some(known) = self.spans.identity(&id) {
            return (known.ids, None);
        }
        match (self.opentelemetry_identity(&id), self.nearest_tracked(span)) {
            (Some((known, trace_state)), _) => (known.ids, Some(trace_state)),
            // A filter hides the span, so it will not be sent.
            (None, Some(above)) if above.ids.sampled => (above.ids, None),
            _ => (self.untracked_identity(span).ids, None),
        }
    }

    /// See [`SpanExt::set_remote_parent`](crate::SpanExt::set_remote_parent).
    pub(crate) fn set_parent<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>, mut parent: SpanContext) {
        let baggage = std::mem::take(&mut parent.baggage);
        self.set_parent_ids(span, parent);
        self.set_baggage_of(span, baggage);
    }

    fn set_parent_ids<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>, parent: SpanContext) {
        let metadata = span.metadata();
        self.resolve_identity(span);
        if let Some(known) = self.spans.identity(&span.id()) {
            let identity = self.identities.with_remote_parent(parent.ids, metadata, &known);
            self.spans
                .with(&span.id(), |open| self.continue_from(open, identity, metadata, parent.trace_state));
            if let Some(changed) = self.spans.identity(&span.id()) {
                thread_context::change(&span.id(), changed.ids);
            }
            return;
        }
        // OpenTelemetry exports the span with its own parent.
        if self.opentelemetry_identity(&span.id()).is_some() {
            return;
        }
        let is_sampled_out = self.nearest_tracked(span).is_some_and(|above| !above.ids.sampled);
        let own = self.untracked_identity(span);
        let mut identity = self.identities.with_remote_parent(parent.ids, metadata, &own);
        // It has been counted as sampled out, so it must stay so.
        identity.ids.sampled &= !is_sampled_out;
        let trace_state = self.note_trace_state(parent.trace_state);
        self.update_untracked(span, |untracked| {
            let baggage = untracked.baggage.take();
            *untracked = Untracked { identity, trace_state, baggage };
        });
    }

    fn continue_from(
        &self,
        open: &mut OpenSpan,
        identity: Identity,
        metadata: &'static Metadata<'static>,
        trace_state: TraceState,
    ) {
        // OpenTelemetry exports the span with its own ids and parent.
        if open.origin == Origin::OpenTelemetry {
            return;
        }
        open.identity = identity;
        self.set_trace_state(&mut open.record, trace_state);
        // The span was not sampled and is now: records it from here on.
        if open.had_listener && open.callsite.is_none() && identity.ids.sampled && self.is_sending() {
            let now = Monotonic::now();
            let callsite = callsite::of(metadata);
            open.callsite = Some(callsite);
            open.timing.get_or_insert_with(|| Timing::start(now));
            open.began_before = false;
            open.record.count_missing_fields(callsite);
        }
    }

    /// See [`SpanExt::link_to`](crate::SpanExt::link_to).
    pub(crate) fn add_link(&self, id: &Id, to: &SpanContext) {
        self.spans.with(id, |span| {
            if span.callsite.is_some() {
                let trace_state = to.trace_state.as_str();
                span.record.add_link(&Link { ids: to.ids, is_local: false, trace_state });
            }
        });
    }

    /// See [`SpanExt::record_attribute`](crate::SpanExt::record_attribute).
    pub(crate) fn set_attribute(&self, id: &Id, name: &str, value: &AttributeValue<'_>) {
        self.spans.with(id, |span| {
            if let Some(callsite) = span.callsite {
                span.record.set(callsite, name, value, &self.limits);
            }
        });
    }

    /// Changes what the registry keeps of an untracked span.
    pub(super) fn update_untracked<'a, R: LookupSpan<'a>>(
        &self,
        span: &SpanRef<'a, R>,
        set: impl FnOnce(&mut Untracked),
    ) {
        if let Some(untracked) = span.extensions_mut().get_mut::<Untracked>() {
            set(untracked);
        }
    }
}
