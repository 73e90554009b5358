//! The trait by which a program reads and changes a span after its creation, modelled on
//! `tracing_opentelemetry::OpenTelemetrySpanExt`.
//!
//! A span gives access to its subscriber as a `Dispatch`, from which our layer and [`Access`] are downcast.

use std::borrow::Cow;

use tracing::Span;
use tracing_core::Dispatch;
use tracing_core::span::Id;

use super::access::Access;
use super::usdt_layer::UsdtLayer;
use crate::fields::AttributeValue;
use crate::propagation::SpanContext;

/// The status of a span.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Status {
    /// No status is set. Recording it changes nothing.
    #[default]
    Unset,
    /// The span succeeded, even if events in it are errors.
    Ok,
    /// The span failed.
    Error {
        /// The reason; may be empty.
        description: Cow<'static, str>,
    },
}

impl Status {
    /// [`Status::Error`] with this description.
    pub fn error(description: impl Into<Cow<'static, str>>) -> Self {
        Self::Error { description: description.into() }
    }
}

/// Methods for a [`tracing::Span`] whose subscriber has the layer. Without the layer, and for a disabled
/// span, they do nothing.
///
/// No method has the name of one of `tracing_opentelemetry::OpenTelemetrySpanExt`, so both traits can be
/// imported.
///
/// Only [`tracing::Span`] implements this trait, so later versions can add methods.
pub trait SpanExt: sealed::Sealed {
    /// The context by which other processes can continue the span's trace. The span gets its ids at the first
    /// call if it has none, so this works while nobody listens too.
    ///
    /// For a span that a filter hides from the layer, this is the context of the nearest span above it that
    /// is sent, if there is one. `None` if there is no span or no layer, or if `reload` put the layer in.
    fn trace_context(&self) -> Option<SpanContext>;

    /// Makes the span a child of one in another process.
    ///
    /// Call this before the span is entered or has children: children that exist stay in the trace that they
    /// began in. What the probes have already reported, `new_span` and an `enter` without its `exit`, belongs
    /// to the old trace. If the old trace was not sampled and the new one is, the span is sent without the
    /// fields it began with, which `otel.dropped_attributes_count` counts. A span below one of a trace that
    /// is not sampled stays unsampled. [`SpanContext::in_scope`] has none of these drawbacks.
    fn set_remote_parent(&self, parent: SpanContext);

    /// Adds a link to a related span that is not this span's parent.
    fn link_to(&self, span: &SpanContext);

    /// Records an attribute, whether or not the span has a field of this name.
    fn record_attribute<'a>(&self, key: &str, value: impl Into<AttributeValue<'a>>);

    /// Records the span's status, which replaces the status from its events and fields.
    fn record_status(&self, status: Status);
}

mod sealed {
    #[allow(unnameable_types)] // other crates can't implement what they can't name
    pub trait Sealed {}

    impl Sealed for tracing::Span {}
}

impl SpanExt for Span {
    fn trace_context(&self) -> Option<SpanContext> {
        with_layer(self, |access, layer, dispatch, id| (access.context)(layer, dispatch, id)).flatten()
    }

    fn set_remote_parent(&self, parent: SpanContext) {
        with_layer(self, |access, layer, dispatch, id| (access.set_parent)(layer, dispatch, id, parent));
    }

    fn link_to(&self, span: &SpanContext) {
        with_layer(self, |_, layer, _, id| layer.add_link(id, span));
    }

    fn record_attribute<'a>(&self, key: &str, value: impl Into<AttributeValue<'a>>) {
        with_layer(self, |_, layer, _, id| layer.set_attribute(id, key, &value.into()));
    }

    fn record_status(&self, status: Status) {
        let (code, description) = match status {
            Status::Unset => return,
            Status::Ok => ("OK", Cow::Borrowed("")),
            Status::Error { description } => ("ERROR", description),
        };
        self.record_attribute("otel.status_code", code);
        // An empty description is recorded too, to replace an earlier one.
        self.record_attribute("otel.status_description", description);
    }
}

fn with_layer<T>(span: &Span, f: impl FnOnce(&Access, &UsdtLayer, &Dispatch, &Id) -> T) -> Option<T> {
    span.with_subscriber(|(id, dispatch)| {
        let access = dispatch.downcast_ref::<Access>()?;
        Some(f(access, dispatch.downcast_ref::<UsdtLayer>()?, dispatch, id))
    })
    .flatten()
}
