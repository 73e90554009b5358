//! Fires a probe when a span ends.

use std::time::Instant;

use tracing::Span;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan;

/// Calls a function when the registry drops the span.
struct OnClose {
    exit: fn(u64, u64),
    span_id: u64,
    began: Instant,
}

impl Drop for OnClose {
    fn drop(&mut self) {
        (self.exit)(self.span_id, self.began.elapsed().as_nanos() as u64);
    }
}

/// Calls `exit` when the span closes, with the span's id and the nanoseconds since `began`.
#[cold]
pub(crate) fn on_close(span: &Span, span_id: u64, began: Instant, exit: fn(u64, u64)) {
    span.with_subscriber(|(id, dispatch)| {
        let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
        span.extensions_mut().replace(OnClose { exit, span_id, began });
        Some(())
    });
}
