//! What a program can ask and say of a span after it was made, in the manner of
//! `tracing_opentelemetry::OpenTelemetrySpanExt`.
//!
//! `tracing` gives a span's subscriber, which is asked for our layer and for functions that know the type
//! of the subscriber below it.

use std::borrow::Cow;

use tracing::Span;
use tracing_core::span::Id;
use tracing_core::{Dispatch, Subscriber};
use tracing_subscriber::registry::LookupSpan;

use crate::context::SpanContext;
use crate::layer::UsdtLayer;

/// The value of an attribute.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum AttributeValue<'a> {
    /// A text.
    Str(Cow<'a, str>),
    /// A truth value.
    Bool(bool),
    /// An integer.
    I64(i64),
    /// A number.
    F64(f64),
}

macro_rules! from {
    ($($from:ty => $variant:ident),+ $(,)?) => {$(
        impl<'a> From<$from> for AttributeValue<'a> {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )+};
}

from! {
    &'a str => Str, &'a String => Str, String => Str, Cow<'a, str> => Str, bool => Bool,
    i64 => I64, i32 => I64, i16 => I64, i8 => I64, u32 => I64, u16 => I64, u8 => I64, f64 => F64, f32 => F64,
}

/// How a span ended.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Status {
    /// Nothing is said of it.
    #[default]
    Unset,
    /// It went well, whatever events in the span may say.
    Ok,
    /// It failed.
    Error {
        /// Why, as far as it is worth telling.
        description: Cow<'static, str>,
    },
}

impl Status {
    /// It failed, for this reason.
    pub fn error(description: impl Into<Cow<'static, str>>) -> Self {
        Self::Error { description: description.into() }
    }
}

/// What [`tracing::Span`] can be asked and told where the layer is in its subscriber. Where it is not, and
/// for a span that is disabled, nothing happens.
pub trait SpanExt {
    /// What the span is known by in other processes. It is drawn where it is asked for the first time, so
    /// this also works while nobody looks.
    ///
    /// A span that a filter keeps from the layer answers with the nearest one above that is sent, if there is one.
    /// `None` where there is no span or no layer (or one that was put in by `reload`).
    fn context(&self) -> Option<SpanContext>;

    /// Makes the span a child of one in another process.
    ///
    /// To be called before it is entered or has children: those that there are stay in the trace they began
    /// in. What the probes have told, `new_span` and an `enter` that has not been left, was the trace before;
    /// and where that was not sampled and this one is, the span is sent without its first fields, which are
    /// counted in `otel.dropped_attributes_count`. A span below one of a trace that is not sampled stays
    /// unsampled. [`SpanContext::in_scope`] has none of these drawbacks.
    fn set_parent(&self, parent: SpanContext);

    /// Adds a link to a span that this one has to do with, and that is not its parent.
    fn add_link(&self, to: SpanContext);

    /// Adds an attribute, also one that is no field of the span.
    fn set_attribute<'a>(&self, key: &str, value: impl Into<AttributeValue<'a>>);

    /// Says how the span ended, in place of what its events and fields say.
    fn set_status(&self, status: Status);
}

impl SpanExt for Span {
    fn context(&self) -> Option<SpanContext> {
        ask(self, |access, layer, dispatch, id| (access.context)(layer, dispatch, id)).flatten()
    }

    fn set_parent(&self, parent: SpanContext) {
        ask(self, |access, layer, dispatch, id| (access.set_parent)(layer, dispatch, id, parent));
    }

    fn add_link(&self, to: SpanContext) {
        ask(self, |_, layer, _, id| layer.add_link(id, &to));
    }

    fn set_attribute<'a>(&self, key: &str, value: impl Into<AttributeValue<'a>>) {
        ask(self, |_, layer, _, id| layer.set_attribute(id, key, &value.into()));
    }

    fn set_status(&self, status: Status) {
        let (code, description) = match status {
            Status::Unset => return,
            Status::Ok => ("OK", Cow::Borrowed("")),
            Status::Error { description } => ("ERROR", description),
        };
        self.set_attribute("otel.status_code", code);
        // Also where it is empty, in place of another.
        self.set_attribute("otel.status_description", description);
    }
}

fn ask<T>(span: &Span, of: impl FnOnce(&Access, &UsdtLayer, &Dispatch, &Id) -> T) -> Option<T> {
    span.with_subscriber(|(id, dispatch)| {
        let access = dispatch.downcast_ref::<Access>()?;
        Some(of(access, dispatch.downcast_ref::<UsdtLayer>()?, dispatch, id))
    })
    .flatten()
}

/// What needs the type of the subscriber that the layer is on.
pub(crate) struct Access {
    context: fn(&UsdtLayer, &Dispatch, &Id) -> Option<SpanContext>,
    set_parent: fn(&UsdtLayer, &Dispatch, &Id, SpanContext),
}

impl Access {
    pub(crate) fn of<S: Subscriber + for<'a> LookupSpan<'a>>() -> &'static Self {
        &const { Self { context: context::<S>, set_parent: set_parent::<S> } }
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
