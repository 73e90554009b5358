//! A layer that is never asked for its interest in a callsite. What a layer learns there is kept for the process, so this
//! test has a process of its own.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod collector;

use collector::{Collector, text};
use tracing::span::{Attributes, Id};
use tracing::{Subscriber, info_span};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// Passes on what the test needs. While another thread registers a callsite, tracing-core does not ask either.
struct Around<L>(L);

impl<S: Subscriber + for<'a> LookupSpan<'a>, L: Layer<S>> Layer<S> for Around<L> {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        self.0.on_new_span(attributes, id, ctx);
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        self.0.on_close(id, ctx);
    }
}

#[test]
fn sampling_priority_decides_although_the_layer_was_not_asked() {
    let collector = Collector::bind();
    let layer = Around(collector.builder().build());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        drop(info_span!("sent"));
        drop(info_span!("not sent", sampling.priority = 0));
    });
    let spans = collector.drain();
    assert_eq!(spans.iter().map(|span| text(span, "name")).collect::<Vec<_>>(), ["sent"]);
}
