//! Spans that no subscriber wants, made because someone looks at the probes of their callsite.
//!
//! Such a span is in the subscriber's registry, so that its id is the id of no other span, but no layer except ours
//! hears of it: neither at its creation, nor of its enters, nor at its close. This is a second subscriber,
//! [`Below`], over the same registry. It is the [`Dispatch`] of the span's handle, so all that a program does with the
//! handle arrives here.
//!
//! In the registry, the span has no parent, because it would keep its parent open. Our layer gives it the parent
//! that it would have if everyone had wanted it.

use std::any::TypeId;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;

use tracing::Span;
use tracing_core::field::ValueSet;
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::subscriber::NoSubscriber;
use tracing_core::{Dispatch, Event, Interest, LevelFilter, Metadata, Subscriber, dispatcher};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{Data, LookupSpan, SpanData};

use crate::aside;
use crate::layer::{self, UsdtLayer};
use crate::process::lock_for_a_moment;

/// The registry of the program's subscriber, or one of its own if there is no subscriber.
struct Below {
    subscriber: Dispatch,
    own: Registry,
}

impl Below {
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

impl Subscriber for Below {
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

impl<'a> LookupSpan<'a> for Below {
    type Data = Data<'a>;

    fn span_data(&'a self, id: &Id) -> Option<Data<'a>> {
        self.registry().span_data(id)
    }
}

/// Passes everything on to our layer in the program's subscriber.
struct PassOn {
    subscriber: Dispatch,
}

impl PassOn {
    fn layer(&self) -> Option<&UsdtLayer> {
        layer_of(&self.subscriber)
    }
}

impl Layer<Below> for PassOn {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, Below>) {
        if let Some(layer) = self.layer() {
            layer.begin_probe_only(attributes, id, &ctx);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, Below>) {
        if let Some(layer) = self.layer() {
            layer.on_record(id, values, ctx);
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, ctx: Context<'_, Below>) {
        if let Some(layer) = self.layer() {
            layer.on_follows_from(id, follows, ctx);
        }
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, Below>) {
        if let Some(layer) = self.layer() {
            layer.on_enter(id, ctx);
        }
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, Below>) {
        if let Some(layer) = self.layer() {
            layer.on_exit(id, ctx);
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, Below>) {
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
            id => layer::access_of::<Below>(id),
        }
    }
}

/// The subscriber over the registry with this address. It is kept, because to make one asks all subscribers about all
/// callsites. There is one: a program has one subscriber, as a rule.
static KEPT: Mutex<Option<(usize, Dispatch)>> = Mutex::new(None);

/// The second subscriber over the registry of `subscriber`. None if `subscriber` is not made of layers over a registry.
fn beside(subscriber: &Dispatch) -> Option<Dispatch> {
    let registry = subscriber.downcast_ref::<Registry>();
    if registry.is_none() && !subscriber.is::<NoSubscriber>() {
        return None;
    }
    let address = registry.map_or(0, |registry| std::ptr::from_ref(registry).addr());
    let mut kept = lock_for_a_moment(&KEPT)?;
    if let Some((_, dispatch)) = kept.as_ref().filter(|(kept, _)| *kept == address) {
        return Some(dispatch.clone());
    }
    let below = Below { subscriber: subscriber.clone(), own: Registry::default() };
    let dispatch = Dispatch::new(PassOn { subscriber: subscriber.clone() }.with_subscriber(below));
    *kept = Some((address, dispatch.clone()));
    Some(dispatch)
}

/// A span that no subscriber wants. A disabled span if the subscriber is none of `tracing_subscriber`'s.
#[cold]
pub(crate) fn span(metadata: &'static Metadata<'static>, values: &ValueSet<'_>, parent: Parent) -> Span {
    let Some(dispatch) = dispatcher::get_default(beside) else { return Span::none() };
    aside::use_from_now_on();
    // A user's `Debug` may panic. A program must not fail because someone looks.
    let span = catch_unwind(AssertUnwindSafe(|| match parent {
        Parent::Current => Span::new_with(metadata, values, &dispatch),
        Parent::Given(id) => Span::child_of_with(id, metadata, values, &dispatch),
    }));
    span.unwrap_or_else(|_| Span::none())
}

/// The parent of a span or event.
#[derive(Clone, Debug)]
pub enum Parent {
    /// The span that the thread is in.
    Current,
    /// The one that the source gives.
    Given(Option<Id>),
}

/// Marks a span of the registry as one that no other layer knows.
struct Marked;

/// Whether the span with this id is one of these.
pub(crate) fn is_probe_only(id: &Id) -> bool {
    aside::is_used()
        && dispatcher::get_default(|dispatch| {
            let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
            let is_marked = span.extensions().get::<Marked>().is_some();
            Some(is_marked)
        }) == Some(true)
}

impl Parent {
    /// Its id in the probes; 0 if there is no span, or no layer of ours.
    pub(crate) fn span_id(&self) -> u64 {
        let id = |dispatch: &Dispatch| match self {
            Self::Given(id) => layer::span_id(dispatch, id.as_ref()?),
            Self::Current => {
                let current = dispatch.current_span();
                let owner = layer::owner(layer_of(dispatch)?);
                let aside = if aside::is_used() { aside::innermost(owner, current.id()) } else { None };
                layer::span_id(dispatch, aside.as_ref().or(current.id())?)
            }
        };
        dispatcher::get_default(id).unwrap_or(0)
    }
}

/// The span's id in the probes; 0 if it was not made, or there is no layer of ours.
pub(crate) fn span_id(span: &Span) -> u64 {
    span.with_subscriber(|(id, dispatch)| layer::span_id(dispatch, id)).flatten().unwrap_or(0)
}

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

/// Calls `exit` when the span closes, with the span's id and its duration in nanoseconds.
#[cold]
pub(crate) fn on_close(span: &Span, span_id: u64, exit: fn(u64, u64)) {
    span.with_subscriber(|(id, dispatch)| {
        let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
        let on_close = OnClose { exit, span_id, began: Instant::now() };
        span.extensions_mut().replace(on_close);
        Some(())
    });
}
