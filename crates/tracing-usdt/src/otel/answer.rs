//! What the layer of `tracing-opentelemetry` knows about a span.

use crate::propagation::{Ids, SpanId, TraceState};

/// A span that OpenTelemetry has started.
pub(crate) struct KnownSpan {
    pub(crate) ids: Ids,
    /// `None` if the parent is not known: only an `OtelTracer` records it.
    pub(crate) parent: Option<Parent>,
    pub(crate) trace_state: TraceState,
}

/// The parent of a span in OpenTelemetry.
#[derive(Clone, Copy)]
pub(crate) struct Parent {
    /// `None` if the span is a root.
    pub(crate) id: Option<SpanId>,
    pub(crate) remote: bool,
}

/// The answer to [`OpenTelemetry::ask`](super::OpenTelemetry::ask).
pub(crate) enum Answer {
    /// The layer can't be asked now: this thread is starting a span, or there is no subscriber.
    Unavailable,
    /// The layer does not have the span: a filter leaves it out, or the subscriber has no such layer.
    Unknown,
    Known(KnownSpan),
}
