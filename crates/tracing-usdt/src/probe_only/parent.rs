//! The parents that callsites give, and the ids of spans in the probes.

use tracing::Span;
use tracing_core::span::Id;
use tracing_core::{Dispatch, dispatcher};
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan;

use super::second;
use super::subscriber::Marked;
use crate::aside;
use crate::layer::{self, UsdtLayer};

/// The parent of a span or event.
#[derive(Clone, Debug)]
pub enum Parent {
    /// The span that the thread is in.
    Current,
    /// The one that the source gives.
    Given(Option<Id>),
}

/// Whether the layers don't know the span with this id: it was made for its probes alone, or while another subscriber was
/// the default.
pub(crate) fn is_unknown_to_layers(id: &Id) -> bool {
    aside::is_used()
        && dispatcher::get_default(|dispatch| {
            let registry = dispatch.downcast_ref::<Registry>()?;
            Some(registry.span(id).is_none_or(|span| span.extensions().get::<Marked>().is_some()))
        }) == Some(true)
}

impl Parent {
    /// Its id in the probes; 0 if there is no span, or no layer of ours.
    pub(crate) fn span_id(&self) -> u64 {
        let id = |dispatch: &Dispatch| match self {
            Self::Given(id) => layer::span_id(dispatch, id.as_ref()?),
            Self::Current => {
                let owner = layer::owner(dispatch.downcast_ref::<UsdtLayer>()?);
                let current = dispatch.current_span();
                let aside = if aside::is_used() { aside::innermost(owner, current.id()) } else { None };
                layer::span_id(dispatch, aside.as_ref().or(current.id())?)
            }
        };
        second::forget_none_if_subscribed();
        dispatcher::get_default(id).unwrap_or(0)
    }
}

/// The span's id in the probes; 0 if it was not made, or there is no layer of ours.
pub(crate) fn span_id(span: &Span) -> u64 {
    span.with_subscriber(|(id, dispatch)| layer::span_id(dispatch, id)).flatten().unwrap_or(0)
}
