//! Functions that know the subscriber's type, for callers that only have a `Dispatch`.

use tracing_core::span::Id;
use tracing_core::{Dispatch, Subscriber};
use tracing_subscriber::registry::LookupSpan;

use super::usdt_layer::UsdtLayer;
use crate::propagation::{Baggage, SpanContext};

/// Operations that need the type of the subscriber below the layer. `SpanExt` gets this with `downcast_raw`.
pub(super) struct Access {
    pub(super) context: fn(&UsdtLayer, &Dispatch, &Id) -> Option<SpanContext>,
    pub(super) set_parent: fn(&UsdtLayer, &Dispatch, &Id, SpanContext),
    pub(super) baggage: fn(&UsdtLayer, &Dispatch, &Id) -> Option<Baggage>,
    pub(super) set_baggage: fn(&UsdtLayer, &Dispatch, &Id, Baggage),
}

impl Access {
    pub(super) fn of<S: Subscriber + for<'a> LookupSpan<'a>>() -> &'static Self {
        &const {
            Self {
                context: context::<S>,
                set_parent: set_parent::<S>,
                baggage: baggage::<S>,
                set_baggage: set_baggage::<S>,
            }
        }
    }
}

fn context<S: Subscriber + for<'a> LookupSpan<'a>>(
    layer: &UsdtLayer,
    dispatch: &Dispatch,
    id: &Id,
) -> Option<SpanContext> {
    let span = dispatch.downcast_ref::<S>()?.span(id)?;
    Some(layer.context_of(&span))
}

fn set_parent<S: Subscriber + for<'a> LookupSpan<'a>>(
    layer: &UsdtLayer,
    dispatch: &Dispatch,
    id: &Id,
    parent: SpanContext,
) {
    if let Some(span) = dispatch.downcast_ref::<S>().and_then(|subscriber| subscriber.span(id)) {
        layer.set_parent(&span, parent);
    }
}

fn baggage<S: Subscriber + for<'a> LookupSpan<'a>>(
    layer: &UsdtLayer,
    dispatch: &Dispatch,
    id: &Id,
) -> Option<Baggage> {
    let span = dispatch.downcast_ref::<S>()?.span(id)?;
    Some(layer.baggage_of(&span))
}

fn set_baggage<S: Subscriber + for<'a> LookupSpan<'a>>(
    layer: &UsdtLayer,
    dispatch: &Dispatch,
    id: &Id,
    baggage: Baggage,
) {
    if let Some(span) = dispatch.downcast_ref::<S>().and_then(|subscriber| subscriber.span(id)) {
        layer.set_baggage_of(&span, baggage);
    }
}
