//! A subscriber over the registry of another one, and the layer that passes all on to ours.

use std::any::TypeId;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::{Dispatch, Event, Interest, LevelFilter, Metadata, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{Data, LookupSpan, SpanData};

use crate::aside;
use crate::layer::{self, UsdtLayer};

/// Marks a span of the registry as one that no layer but ours knows.
pub(super) struct Marked;

/// The second subscriber over the registry of `subscriber`, or over one of its own if that has none.
///
/// Not to be called by a thread that may hold a lock: `tracing` asks all subscribers about all callsites.
pub(super) fn beside(subscriber: Dispatch) -> Dispatch {
    let below = ProbeOnly { subscriber: subscriber.clone(), own: Registry::default() };
    Dispatch::new(ForwardToLayer { subscriber }.with_subscriber(below))
}

/// The registry of the program's subscriber, or one of its own if there is no subscriber.
struct ProbeOnly {
    subscriber: Dispatch,
    own: Registry,
}

impl ProbeOnly {
    fn registry(&self) -> &Registry {
        self.subscriber.downcast_ref().unwrap_or(&self.own)
    }

    /// What the ids belong to.
    fn owner(&self) -> usize {
        layer_of(&self.subscriber).map_or(std::ptr::from_ref(self.registry()).addr(), layer::owner)
    }
}

fn layer_of(subscriber: &Dispatch) -> Option<&UsdtLayer> {
    subscriber.downcast_ref()
}

impl Subscriber for ProbeOnly {
    /// `tracing` combines the answers of all subscribers. This one says what the other says, so that it changes nothing.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.subscriber.register_callsite(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::OFF)
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.registry().new_span(&Attributes::new_root(attributes.metadata(), attributes.values()));
        if let Some(span) = self.span(&id) {
            span.extensions_mut().insert(Marked);
        }
        id
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        aside::enter(self.owner(), id, self.registry().current_span().id().cloned());
    }

    fn exit(&self, id: &Id) {
        aside::exit(self.owner(), id);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.registry().clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.registry().try_close(id)
    }

    fn current_span(&self) -> Current {
        let current = self.registry().current_span();
        let Some(innermost) = aside::innermost(self.owner(), current.id()) else { return current };
        match self.registry().span_data(&innermost).map(|span| span.metadata()) {
            Some(metadata) => Current::new(innermost, metadata),
            None => current,
        }
    }

    // SAFETY: both pointers are to values of the requested type, which live as long as this subscriber.
    #[allow(unsafe_code)]
    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        match id {
            id if id == TypeId::of::<Self>() => Some(std::ptr::from_ref(self).cast()),
            // At a close, the layer above takes the span out of this registry.
            id if id == TypeId::of::<Registry>() => Some(std::ptr::from_ref(self.registry()).cast()),
            _ => None,
        }
    }
}

impl<'a> LookupSpan<'a> for ProbeOnly {
    type Data = Data<'a>;

    fn span_data(&'a self, id: &Id) -> Option<Data<'a>> {
        self.registry().span_data(id)
    }
}

/// Passes everything on to our layer in the program's subscriber.
struct ForwardToLayer {
    subscriber: Dispatch,
}

impl ForwardToLayer {
    fn layer(&self) -> Option<&UsdtLayer> {
        layer_of(&self.subscriber)
    }
}

impl Layer<ProbeOnly> for ForwardToLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, ProbeOnly>) {
        if let Some(layer) = self.layer() {
            // A user's `Debug` may panic. A program should not fail because someone looks.
            let begin = || layer.begin_probe_only(attributes, id, &ctx);
            let _ = catch_unwind(AssertUnwindSafe(begin));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, ProbeOnly>) {
        if let Some(layer) = self.layer() {
            layer.on_record(id, values, ctx);
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, ctx: Context<'_, ProbeOnly>) {
        if let Some(layer) = self.layer() {
            layer.on_follows_from(id, follows, ctx);
        }
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, ProbeOnly>) {
        if let Some(layer) = self.layer() {
            layer.on_enter(id, ctx);
        }
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, ProbeOnly>) {
        if let Some(layer) = self.layer() {
            layer.on_exit(id, ctx);
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, ProbeOnly>) {
        if let Some(layer) = self.layer() {
            layer.on_close(id, ctx);
        }
    }

    // SAFETY: the pointers are to values of the requested type, which live as long as this layer.
    #[allow(unsafe_code)]
    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        match id {
            id if id == TypeId::of::<Self>() => Some(std::ptr::from_ref(self).cast()),
            // For `SpanExt`.
            id if id == TypeId::of::<UsdtLayer>() => {
                self.layer().map(|layer| std::ptr::from_ref(layer).cast())
            }
            id => layer::access_of::<ProbeOnly>(id),
        }
    }
}
