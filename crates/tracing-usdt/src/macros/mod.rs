//! The macros of [`crate::tracing`], and what they call. The latter is no part of the interface: they change together.
//!
//! `fields` reads the fields and makes the static data of a callsite, `span` and `event` are the macros themselves.

mod event;
mod fields;
mod span;

pub use std::option::Option;
use std::time::Instant;

pub use std::primitive::{str, u8, u32, u64};
pub use std::{column, concat, file, format_args, line, stringify};

pub use tracing;
pub use tracing_core::callsite::DefaultCallsite;
pub use tracing_core::metadata;

use tracing::{Event, Span};
use tracing_core::field::ValueSet;
use tracing_core::span::Id;
use tracing_core::{Interest, Metadata, dispatcher};

use crate::aside;
use crate::probe_only;
pub use crate::probe_only::Parent;
use crate::site;
pub use crate::site::*;

/// Whether the subscriber wants the callsite, if it may want it.
#[inline]
pub fn is_enabled(metadata: &Metadata<'static>, interest: Interest) -> bool {
    interest.is_always() || dispatcher::get_default(|default| default.enabled(metadata))
}

/// The first text, or `default` if there is none.
pub const fn first_or(texts: &[&'static str], default: &'static str) -> &'static str {
    match texts {
        [first, ..] => first,
        [] => default,
    }
}

/// The first text, if there is one.
pub const fn first(texts: &[&'static str]) -> Option<&'static str> {
    match texts {
        [first, ..] => Some(first),
        [] => None,
    }
}

/// A span that the subscriber wants or that its probes want. `words` becomes what to pass to whoever looks.
///
/// All that need not be in the user's code is in a function: that code is smaller then, and keeps less in registers where
/// nobody looks.
#[allow(clippy::too_many_arguments)] // they are in the user's code
#[inline(always)]
pub fn new_span<S: Site, A: Arguments>(
    parent: Parent,
    is_wanted: bool,
    consumers: Consumers,
    metadata: &'static Metadata<'static>,
    values: &ValueSet<'_>,
    fields: &A,
    words: &mut Option<Words>,
) -> Span {
    match parent {
        Parent::Current => {
            span_in_current(is_wanted, consumers, metadata, values, site::exit::<S>, fields, words)
        }
        Parent::Given(parent) => {
            let span = span_below(parent, is_wanted, metadata, values);
            *words = consumers.any().then(|| begin(consumers, &span, site::exit::<S>, fields));
            span
        }
    }
}

#[inline(never)]
fn span_in_current<A: Arguments>(
    is_wanted: bool,
    consumers: Consumers,
    metadata: &'static Metadata<'static>,
    values: &ValueSet<'_>,
    exit: fn(u64, u64),
    fields: &A,
    words: &mut Option<Words>,
) -> Span {
    if !consumers.any() {
        return Span::new(metadata, values);
    }
    let span = match is_wanted {
        true => Span::new(metadata, values),
        false => Parent::Current.probe_only_span(metadata, values),
    };
    *words = Some(begin(consumers, &span, exit, fields));
    span
}

/// The words for the probe of a span that begins.
#[cold]
#[inline(never)]
fn begin<A: Arguments>(consumers: Consumers, span: &Span, exit: fn(u64, u64), fields: &A) -> Words {
    let span_id = probe_only::span_id(span);
    if consumers.of_exit() {
        probe_only::on_close(span, span_id, Instant::now(), exit);
    }
    site::words(span_id, fields)
}

/// Fires the probe of a span that begins. `_` has the types of its fields.
#[inline(always)]
pub fn hit_entry<S: Site, A: Arguments>(words: &Words, _: &A) {
    site::hit::<S, site::Entry, A>(words);
}

/// Fires the probe of an event.
#[inline(always)]
pub fn event_happens<S: Site, A: Arguments>(parent: &Parent, fields: &A) {
    site::hit::<S, site::Entry, A>(&happen(parent, fields));
}

#[cold]
#[inline(never)]
fn happen<A: Arguments>(parent: &Parent, fields: &A) -> Words {
    site::words(parent.span_id(), fields)
}

/// What the source says of the parent: nothing, or what follows `parent:`.
pub trait ParentOf {
    #[doc(hidden)]
    fn parent(self) -> Parent;
}

impl ParentOf for () {
    #[inline(always)]
    fn parent(self) -> Parent {
        Parent::Current
    }
}

impl<P: Into<Option<Id>>> ParentOf for (P,) {
    #[inline]
    fn parent(self) -> Parent {
        Parent::Given(self.0.into())
    }
}

impl Parent {
    /// A span that no subscriber wants.
    pub fn probe_only_span(self, metadata: &'static Metadata<'static>, values: &ValueSet<'_>) -> Span {
        probe_only::span(metadata, values, self)
    }

    /// Passes an event with this parent to the subscriber.
    #[inline(always)]
    pub fn dispatch(&self, metadata: &'static Metadata<'static>, values: &ValueSet<'_>) {
        match self {
            Self::Current => Event::dispatch(metadata, values),
            Self::Given(parent) => event_below(parent.as_ref(), metadata, values),
        }
    }
}

#[inline(never)]
fn span_below(
    parent: Option<Id>,
    is_wanted: bool,
    metadata: &'static Metadata<'static>,
    values: &ValueSet<'_>,
) -> Span {
    match parent {
        parent if !is_wanted => Parent::Given(parent).probe_only_span(metadata, values),
        // The other layers don't know this parent.
        Some(parent) if probe_only::is_unknown_to_layers(&parent) => {
            aside::with_parent(&parent, || Span::new_root(metadata, values))
        }
        parent => Span::child_of(parent, metadata, values),
    }
}

fn event_below(parent: Option<&Id>, metadata: &'static Metadata<'static>, values: &ValueSet<'_>) {
    match parent {
        Some(parent) if probe_only::is_unknown_to_layers(parent) => {
            aside::with_parent(parent, || Event::child_of(None, metadata, values));
        }
        parent => Event::child_of(parent.cloned(), metadata, values),
    }
}
