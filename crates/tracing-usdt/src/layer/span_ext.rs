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
use crate::propagation::{Baggage, SpanContext};

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
    /// call if it has none, so this works while nobody listens too. It has the span's [`baggage`](Self::baggage).
    ///
    /// For a span that a filter hides from the layer, this is the context of the nearest span above it that
    /// is sent, if there is one. `None` if there is no span or no layer, or if `reload` put the layer in.
    fn trace_context(&self) -> Option<SpanContext>;

    /// Makes the span a child of one in another process, with its baggage in place of what the span had.
    ///
    /// Call this before the span is entered or has children: children that exist stay in the trace that they
    /// began in. What the probes have already reported, `new_span` and an `enter` without its `exit`, belongs
    /// to the old trace. If the old trace was not sampled and the new one is, the span is sent without the
    /// fields it began with, which `otel.dropped_attributes_count` counts. A span below one of a trace that
    /// is not sampled stays unsampled. [`SpanContext::in_scope`] has none of these drawbacks.
    fn set_remote_parent(&self, parent: SpanContext);

    /// The baggage of the span: what was set for it, or came with its remote parent; otherwise that of the span
    /// above it, as it is now. It is passed on with [`trace_context`](Self::trace_context).
    ///
    /// It is empty if there is no span or no layer, or if `reload` put the layer in. What OpenTelemetry keeps in a
    /// `Context` of its own is not part of it.
    fn baggage(&self) -> Baggage;

    /// Sets the baggage of the span and of those below it that have none of their own, in place of what it had. With
    /// empty baggage, the span no longer has that of the span above it.
    ///
    /// Set it before the span has children: the attributes of
    /// [`Builder::with_baggage_attributes`](crate::Builder::with_baggage_attributes) are those of the baggage that was set
    /// last, or that the span above had when a span was created.
    fn set_baggage(&self, baggage: Baggage);

    /// Adds an entry to the baggage of the span: [`baggage`](Self::baggage), [`Baggage::insert`] and
    /// [`set_baggage`](Self::set_baggage). Returns `false` if [`Baggage::insert`] refuses the entry, or if there is no span
    /// or no layer.
    ///
    /// ```
    /// use tracing_subscriber::prelude::*;
    /// use tracing_usdt::SpanExt;
    ///
    /// tracing_subscriber::registry().with(tracing_usdt::layer()).init();
    /// let request = tracing::info_span!("request");
    /// request.set_baggage_entry("user.id", "7");
    /// let query = request.in_scope(|| tracing::info_span!("query"));
    /// assert_eq!(query.baggage().get("user.id").as_deref(), Some("7"));
    /// ```
    fn set_baggage_entry(&self, key: &str, value: &str) -> bool;

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

    fn baggage(&self) -> Baggage {
        let baggage = with_layer(self, |access, layer, dispatch, id| (access.baggage)(layer, dispatch, id));
        baggage.flatten().unwrap_or_default()
    }

    fn set_baggage(&self, baggage: Baggage) {
        with_layer(self, |access, layer, dispatch, id| (access.set_baggage)(layer, dispatch, id, baggage));
    }

    fn set_baggage_entry(&self, key: &str, value: &str) -> bool {
        let before = self.baggage();
        let mut baggage = before.clone();
        let is_added = baggage.insert(key, value);
        // A refused value may have removed an old one.
        if !is_added && baggage == before {
            return false;
        }
        let set = with_layer(self, |access, layer, dispatch, id| {
            (access.set_baggage)(layer, dispatch, id, baggage)
        });
        is_added && set == Some(true)
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
