//! The identity of a span: its ids and its parent.

use crate::propagation::{Baggage, Ids, SpanId, TraceId, TraceState};

/// The ids of a span and of its parent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Identity {
    pub(crate) ids: Ids,
    pub(crate) parent_id: Option<SpanId>,
    /// The parent is a span of another process.
    pub(crate) remote: bool,
}

/// Identity of an untracked span: one that is not in [`OpenSpans`](super::OpenSpans). Kept in the registry's
/// extensions of the span.
pub(crate) struct Untracked {
    pub(crate) identity: Identity,
    pub(crate) trace_state: TraceState,
    /// `None` unless the span was given baggage.
    pub(crate) baggage: Option<Baggage>,
}

/// The source of a span's identity.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Origin {
    /// The layer drew or inherited the ids.
    #[default]
    Own,
    /// The layer's own, until tracing-opentelemetry has been asked for the span's ids.
    Undecided,
    /// tracing-opentelemetry gave the ids.
    OpenTelemetry,
}

impl Identity {
    /// The identity of the first span of a new trace, which is sampled.
    #[inline]
    pub(crate) fn first_of_sampled_trace() -> Self {
        let (trace_id, span_id) = TraceId::begin();
        // A new trace id is random, and W3C's random flag says so.
        Self { ids: Ids { trace_id, span_id, sampled: true, random: true }, parent_id: None, remote: false }
    }

    /// The identity of memory that waits for a span.
    pub(super) fn nobody() -> Self {
        let trace_id = TraceId::new(1).unwrap_or_else(|| unreachable!("it is not 0"));
        let span_id = SpanId::new(1).unwrap_or_else(|| unreachable!("it is not 0"));
        Self { ids: Ids { trace_id, span_id, sampled: false, random: false }, parent_id: None, remote: false }
    }

    /// The identity of a child of this span.
    #[inline]
    pub(crate) fn child(&self, span_id: SpanId) -> Self {
        Self { ids: Ids { span_id, ..self.ids }, parent_id: Some(self.ids.span_id), remote: false }
    }
}
