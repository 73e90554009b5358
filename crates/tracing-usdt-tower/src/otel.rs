//! Gives the caller to `tracing-opentelemetry`, another layer of the same subscriber.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Makes `caller` the parent of the span that is exported. This must happen before that layer starts the span: at
/// the first enter, at the first child, or when its context is asked for.
pub(crate) fn set_parent(span: &Span, caller: &tracing_usdt::SpanContext) {
    let state = caller.trace_state().to_string().parse().unwrap_or(TraceState::NONE);
    let parent = SpanContext::new(
        TraceId::from(caller.trace_id().get()),
        SpanId::from(caller.span_id().get()),
        TraceFlags::new(caller.trace_flags()),
        true,
        state,
    );
    // Fails if the subscriber has no such layer, or if a filter hides the span from it.
    let _ = span.set_parent(Context::current().with_remote_span_context(parent));
}
