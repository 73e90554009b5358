//! The W3C trace state of a span, which comes from its remote parent or from a span above.

use std::sync::atomic::Ordering;

use tracing_core::Subscriber;
use tracing_core::span::Id;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::usdt_layer::{HAS_TRACE_STATES, UsdtLayer};
use crate::encode;
use crate::probes::{self, Probe};
use crate::propagation::TraceState;
use crate::span::{OpenSpan, Record, Untracked};

impl UsdtLayer {
    pub(super) fn set_trace_state(&self, record: &mut Record, trace_state: TraceState) {
        record.set_trace_state(self.note_trace_state(trace_state));
    }

    /// Sets [`HAS_TRACE_STATES`] unless `trace_state` is empty. Returns `trace_state`.
    pub(super) fn note_trace_state(&self, trace_state: TraceState) -> TraceState {
        if !trace_state.is_empty() {
            self.inherited.fetch_or(HAS_TRACE_STATES, Ordering::Relaxed);
        }
        trace_state
    }

    #[inline]
    pub(super) fn has_trace_states(&self) -> bool {
        self.inherited.load(Ordering::Relaxed) & HAS_TRACE_STATES != 0
    }

    /// The trace state of the span, or of the nearest span above it that has one.
    #[inline]
    pub(super) fn inherited_trace_state<S>(&self, id: &Id, ctx: &Context<'_, S>) -> TraceState
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // Zipkin's format has no trace state; batches have.
        let is_sent = self.encoder.format() != encode::Format::Zipkin || probes::attached(Probe::BatchEmit);
        if !(self.has_trace_states() && is_sent) {
            return TraceState::default();
        }
        ctx.span(id).map(|span| self.trace_state(&span)).unwrap_or_default()
    }

    /// Stores the trace state of a new span in the span itself.
    #[cold]
    pub(super) fn inherit_trace_state<S>(&self, id: &Id, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let trace_state = self.inherited_trace_state(id, ctx);
        if !trace_state.is_empty() {
            self.spans.with(id, |open| open.record.set_trace_state(trace_state));
        }
    }

    #[cold]
    pub(super) fn trace_state<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> TraceState {
        for span in span.scope() {
            let read = |open: &OpenSpan| (open.identity, open.record.trace_state());
            let tracked = self.spans.look(&span.id(), read);
            let untracked =
                span.extensions().get::<Untracked>().map(|span| (span.identity, span.trace_state.clone()));
            let Some((identity, _)) = tracked.as_ref().or(untracked.as_ref()).cloned() else { continue };
            let mut states = tracked.into_iter().chain(untracked).map(|(_, state)| state);
            if let Some(state) = states.find(|state| !state.is_empty()) {
                return state;
            }
            if identity.remote {
                let parent = self.identities.remote_parent.as_deref();
                let parent = parent.filter(|parent| identity.parent_id == Some(parent.ids.span_id));
                return parent.map(|parent| parent.trace_state.clone()).unwrap_or_default();
            }
        }
        TraceState::default()
    }
}
