//! Functions that know the subscriber's type, for callers that only have a `Dispatch`.

use std::any::TypeId;

use tracing_core::span::Id;
use tracing_core::{Dispatch, Subscriber};
#[cfg(feature = "fmt")]
use tracing_subscriber::registry::Extensions;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

#[cfg(feature = "fmt")]
use super::logged::Logged;
use super::usdt_layer::UsdtLayer;
#[cfg(feature = "fmt")]
use crate::propagation::Ids;
use crate::propagation::{Baggage, SpanContext};

/// Reads a number from the extensions of a span.
#[cfg(feature = "fmt")]
pub(crate) type ReadExtensions<'a> = &'a dyn Fn(&Extensions<'_>) -> Option<usize>;

/// Operations that need the type of the subscriber below the layer. `SpanExt` gets this with `downcast_raw`.
pub(super) struct Access {
    pub(super) context: fn(&UsdtLayer, &Dispatch, &Id) -> Option<SpanContext>,
    span_id: fn(&UsdtLayer, &Dispatch, &Id) -> Option<u64>,
    pub(super) set_parent: fn(&UsdtLayer, &Dispatch, &Id, SpanContext),
    pub(super) baggage: fn(&UsdtLayer, &Dispatch, &Id) -> Option<Baggage>,
    /// Whether there is such a span.
    pub(super) set_baggage: fn(&UsdtLayer, &Dispatch, &Id, Baggage) -> bool,
    #[cfg(feature = "fmt")]
    pub(super) ids: fn(&UsdtLayer, &Dispatch, &Id, Logged) -> Option<Ids>,
    #[cfg(feature = "fmt")]
    pub(super) read_extensions: fn(&Dispatch, &Id, ReadExtensions<'_>) -> Option<usize>,
}

impl Access {
    pub(super) fn of<S: Subscriber + for<'a> LookupSpan<'a>>() -> &'static Self {
        &const {
            Self {
                context: context::<S>,
                span_id: span_id_of::<S>,
                set_parent: set_parent::<S>,
                baggage: baggage::<S>,
                set_baggage: set_baggage::<S>,
                #[cfg(feature = "fmt")]
                ids: ids::<S>,
                #[cfg(feature = "fmt")]
                read_extensions: read_extensions::<S>,
            }
        }
    }
}

/// What `f` returns for this span, if the subscriber has it.
fn with_span<S: Subscriber + for<'a> LookupSpan<'a>, T>(
    dispatch: &Dispatch,
    id: &Id,
    f: impl FnOnce(SpanRef<'_, S>) -> T,
) -> Option<T> {
    dispatch.downcast_ref::<S>()?.span(id).map(f)
}

fn context<S: Subscriber + for<'a> LookupSpan<'a>>(
    layer: &UsdtLayer,
    dispatch: &Dispatch,
    id: &Id,
) -> Option<SpanContext> {
    with_span::<S, _>(dispatch, id, |span| layer.context_of(&span))
}

fn set_parent<S: Subscriber + for<'a> LookupSpan<'a>>(
    layer: &UsdtLayer,
    dispatch: &Dispatch,
    id: &Id,
    parent: SpanContext,
) {
    with_span::<S, _>(dispatch, id, |span| layer.set_parent(&span, parent));
}

fn span_id_of<S: Subscriber + for<'a> LookupSpan<'a>>(
    layer: &UsdtLayer,
    dispatch: &Dispatch,
    id: &Id,
) -> Option<u64> {
    layer.span_id_for_probes(&dispatch.downcast_ref::<S>()?.span(id)?)
}

/// The id of a span in the probes and datagrams, if the subscriber has the layer.
pub(crate) fn span_id(dispatch: &Dispatch, id: &Id) -> Option<u64> {
    (dispatch.downcast_ref::<Access>()?.span_id)(dispatch.downcast_ref()?, dispatch, id)
}

/// The operations for subscriber `S`, if `id` asks for them.
pub(crate) fn access_of<S: Subscriber + for<'a> LookupSpan<'a>>(id: TypeId) -> Option<*const ()> {
    (id == TypeId::of::<Access>()).then(|| std::ptr::from_ref(Access::of::<S>()).cast())
}

fn baggage<S: Subscriber + for<'a> LookupSpan<'a>>(
    layer: &UsdtLayer,
    dispatch: &Dispatch,
    id: &Id,
) -> Option<Baggage> {
    with_span::<S, _>(dispatch, id, |span| layer.baggage_of(&span))
}

fn set_baggage<S: Subscriber + for<'a> LookupSpan<'a>>(
    layer: &UsdtLayer,
    dispatch: &Dispatch,
    id: &Id,
    baggage: Baggage,
) -> bool {
    with_span::<S, _>(dispatch, id, |span| layer.set_baggage_of(&span, baggage)).is_some()
}

#[cfg(feature = "fmt")]
fn ids<S: Subscriber + for<'a> LookupSpan<'a>>(
    layer: &UsdtLayer,
    dispatch: &Dispatch,
    id: &Id,
    logged: Logged,
) -> Option<Ids> {
    with_span::<S, _>(dispatch, id, |span| layer.ids_for_log(&span, logged)).flatten()
}

#[cfg(feature = "fmt")]
fn read_extensions<S: Subscriber + for<'a> LookupSpan<'a>>(
    dispatch: &Dispatch,
    id: &Id,
    read: ReadExtensions<'_>,
) -> Option<usize> {
    with_span::<S, _>(dispatch, id, |span| read(&span.extensions())).flatten()
}

/// The ids of a span of this subscriber for a line of a log.
#[cfg(feature = "fmt")]
pub(crate) fn ids_of(subscriber: &Dispatch, id: &Id, logged: Logged) -> Option<Ids> {
    let access = subscriber.downcast_ref::<Access>()?;
    (access.ids)(subscriber.downcast_ref::<UsdtLayer>()?, subscriber, id, logged)
}

/// What `read` returns for the extensions of this span, if the subscriber has the layer.
#[cfg(feature = "fmt")]
pub(crate) fn extensions_of(subscriber: &Dispatch, id: &Id, read: ReadExtensions<'_>) -> Option<usize> {
    (subscriber.downcast_ref::<Access>()?.read_extensions)(subscriber, id, read)
}
