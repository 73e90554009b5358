//! Functions that know the subscriber's type, for callers that only have a `Dispatch`.

use std::any::TypeId;

use tracing_core::span::Id;
use tracing_core::{Dispatch, Subscriber};
use tracing_subscriber::registry::LookupSpan;

use super::usdt_layer::UsdtLayer;
use crate::propagation::SpanContext;

/// Operations that need the type of the subscriber below the layer. `SpanExt` gets this with `downcast_raw`.
pub(super) struct Access {
    pub(super) context: fn(&UsdtLayer, &Dispatch, &Id) -> Option<SpanContext>,
    span_id: fn(&UsdtLayer, &Dispatch, &Id) -> Option<u64>,
    pub(super) set_parent: fn(&UsdtLayer, &Dispatch, &Id, SpanContext),
}

impl Access {
    pub(super) fn of<S: Subscriber + for<'a> LookupSpan<'a>>() -> &'static Self {
        &const { Self { context: context::<S>, span_id: span_id_of::<S>, set_parent: set_parent::<S> } }
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

fn span_id_of<S: Subscriber + for<'a> LookupSpan<'a>>(
    layer: &UsdtLayer,
    dispatch: &Dispatch,
    id: &Id,
) -> Option<u64> {
    if let Some(known) = layer.known_identity(id) {
        return Some(known.ids.span_id.get());
    }
    context::<S>(layer, dispatch, id).map(|context| context.span_id().get())
}

/// The id of a span in the probes and datagrams, if the subscriber has the layer.
pub(crate) fn span_id(dispatch: &Dispatch, id: &Id) -> Option<u64> {
    (dispatch.downcast_ref::<Access>()?.span_id)(dispatch.downcast_ref()?, dispatch, id)
}

/// The operations for subscriber `S`, if `id` asks for them.
pub(crate) fn access_of<S: Subscriber + for<'a> LookupSpan<'a>>(id: TypeId) -> Option<*const ()> {
    (id == TypeId::of::<Access>()).then(|| std::ptr::from_ref(Access::of::<S>()).cast())
}
