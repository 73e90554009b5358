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

use tracing::level_filters::LevelFilter;
use tracing::{Event, Span};
use tracing_core::callsite::Callsite;
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

/// A span whose probes someone looks at, and the words for the first of them.
///
/// A function that callsites share, to keep its instructions out of the user's code. `exit` fires the second probe.
#[cold]
#[inline(never)]
pub fn probed_span<A: Arguments>(
    parent: Parent,
    consumers: Consumers,
    callsite: &'static DefaultCallsite,
    values: &ValueSet<'_>,
    exit: fn(u64, u64),
    fields: &A,
) -> (Span, Words) {
    let metadata = callsite.metadata();
    let span = match is_wanted(callsite) {
        true => parent.wanted_span(metadata, values),
        false => parent.probe_only_span(metadata, values, consumers.of_exit()),
    };
    let span_id = probe_only::span_id(&span);
    if consumers.of_exit() {
        probe_only::on_close(&span, span_id, Instant::now(), exit);
    }
    (span, site::words(span_id, fields))
}

/// Whether the subscriber wants the callsite, whose level is not left out of the program.
fn is_wanted(callsite: &'static DefaultCallsite) -> bool {
    let metadata = callsite.metadata();
    *metadata.level() <= LevelFilter::current() && {
        let interest = callsite.interest();
        !interest.is_never() && is_enabled(metadata, interest)
    }
}

/// Fires the probe of a span that begins. `_` has the types of its fields.
#[inline(always)]
pub fn hit_entry<S: Site, A: Arguments>(words: &Words, _: &A) {
    site::hit::<S, site::Entry, A>(words);
}

/// Passes an event to the subscriber if it wants it, and fires the event's probe.
#[inline(always)]
pub fn probed_event<S: Site, A: Arguments>(
    parent: &Parent,
    callsite: &'static DefaultCallsite,
    values: &ValueSet<'_>,
    fields: &A,
) {
    site::hit::<S, site::Entry, A>(&happen(parent, callsite, values, fields));
}

#[cold]
#[inline(never)]
fn happen<A: Arguments>(
    parent: &Parent,
    callsite: &'static DefaultCallsite,
    values: &ValueSet<'_>,
    fields: &A,
) -> Words {
    // The arguments are formatted already. Filters of layers are asked only here, so a `Debug` that logs can't change what
    // they decide about this event.
    if is_wanted(callsite) {
        parent.dispatch(callsite.metadata(), values);
    }
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
    /// A span that the subscriber wants.
    #[inline(always)]
    pub fn wanted_span(self, metadata: &'static Metadata<'static>, values: &ValueSet<'_>) -> Span {
        match self {
            Self::Current => Span::new(metadata, values),
            Self::Given(parent) => span_below(parent, metadata, values),
        }
    }

    /// A span that no subscriber wants. `has_exit` is whether someone looks at its end.
    pub fn probe_only_span(
        self,
        metadata: &'static Metadata<'static>,
        values: &ValueSet<'_>,
        has_exit: bool,
    ) -> Span {
        probe_only::span(metadata, values, self, has_exit)
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
fn span_below(parent: Option<Id>, metadata: &'static Metadata<'static>, values: &ValueSet<'_>) -> Span {
    match parent {
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
