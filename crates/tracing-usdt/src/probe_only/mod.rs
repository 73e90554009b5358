//! Spans that no subscriber wants, made because someone looks at the probes of their callsite.
//!
//! Such a span is in the subscriber's registry, so that its id is the id of no other span, but no layer except ours
//! learns of it: neither at its creation, nor of its enters, nor at its close. `subscriber` is a second subscriber over
//! the same registry. It is the [`Dispatch`](tracing_core::Dispatch) of the span's handle, so all that a program does
//! with the handle arrives there. `second` makes it once and keeps it.
//!
//! In the registry, the span has no parent, because it would keep its parent open. Our layer gives it the parent
//! that it would have if everyone had wanted it; see `parent`. `on_close` fires the probe at the end of a span, of this
//! kind or any other.

mod on_close;
mod parent;
mod second;
mod subscriber;

use tracing::Span;
use tracing_core::field::ValueSet;
use tracing_core::{Metadata, dispatcher};

pub(crate) use on_close::on_close;
pub use parent::Parent;
pub(crate) use parent::{is_unknown_to_layers, span_id};

use crate::aside;

/// A span that no subscriber wants. A disabled span if the subscriber is none of `tracing_subscriber`'s, and if there is
/// no subscriber and nobody looks at the span's end.
#[cold]
pub(crate) fn span(
    metadata: &'static Metadata<'static>,
    values: &ValueSet<'_>,
    parent: Parent,
    has_exit: bool,
) -> Span {
    let Some(dispatch) = dispatcher::get_default(|subscriber| second::of(subscriber, has_exit)) else {
        let span = tracing::__macro_support::__disabled_span(metadata);
        // What `tracing`'s macros do with a disabled span.
        tracing::if_log_enabled! { *metadata.level(), {
            span.record_all(values);
        }};
        return span;
    };
    aside::use_from_now_on();
    match parent {
        Parent::Current => Span::new_with(metadata, values, &dispatch),
        Parent::Given(id) => Span::child_of_with(id, metadata, values, &dispatch),
    }
}
