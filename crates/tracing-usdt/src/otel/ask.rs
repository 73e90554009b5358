//! Asks the layer of `tracing-opentelemetry` for the identity of a span.

use std::sync::OnceLock;

use opentelemetry::trace::{SpanContext, TraceContextExt};
use tracing_core::Dispatch;
use tracing_core::dispatcher::WeakDispatch;
use tracing_core::span::Id;

use super::answer::{Answer, KnownSpan};
use super::tracer::{self, is_starting, span_id, while_starting};
use crate::propagation::{Ids, TraceId, TraceState};

/// Access to the layer of `tracing-opentelemetry`.
#[derive(Default)]
pub(crate) struct OpenTelemetry {
    dispatch: OnceLock<WeakDispatch>,
    closes_first: OnceLock<bool>,
}

impl OpenTelemetry {
    /// Stores the subscriber that has both layers.
    pub(crate) fn register(&self, dispatch: &Dispatch) {
        let _ = self.dispatch.set(dispatch.downgrade());
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.dispatch.get().is_some()
    }

    /// Returns the identity of a span, and starts the span in OpenTelemetry if needed. This may run the
    /// user's sampler and span processors, so the caller must hold no lock.
    pub(crate) fn ask(&self, id: &Id) -> Answer {
        let Some(dispatch) = self.dispatch.get().and_then(WeakDispatch::upgrade) else {
            return Answer::Unavailable;
        };
        if is_starting() {
            return Answer::Unavailable;
        }
        let context = while_starting(|| tracing_opentelemetry::get_otel_context(id, &dispatch));
        let known = context.and_then(|context| {
            let span = context.span();
            let context = span.span_context();
            let ids = ids(context)?;
            let parent = tracer::parent(ids.span_id);
            Some(KnownSpan { ids, parent, trace_state: trace_state(context) })
        });
        known.map_or(Answer::Unknown, Answer::Known)
    }

    /// Whether the other layer sees a close before ours, if that is known by now. If it does, it can't be
    /// asked at a span's close.
    pub(crate) fn closes_first(&self) -> Option<bool> {
        self.closes_first.get().copied()
    }

    pub(crate) fn set_closes_first(&self, first: bool) {
        let _ = self.closes_first.set(first);
    }
}

/// `None` if the context has no valid ids, for example because the tracer has been shut down.
fn ids(context: &SpanContext) -> Option<Ids> {
    let flags = context.trace_flags();
    Some(Ids {
        trace_id: TraceId::new(u128::from_be_bytes(context.trace_id().to_bytes()))?,
        span_id: span_id(context)?,
        sampled: flags.is_sampled(),
        random: flags.to_u8() & 2 != 0,
    })
}

fn trace_state(context: &SpanContext) -> TraceState {
    let header = context.trace_state().header();
    if header.is_empty() { TraceState::NONE } else { TraceState::parse([&*header]).unwrap_or_default() }
}
