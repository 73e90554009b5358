//! User code that makes spans while the layer is at work. Under `with_default` the dispatcher
//! keeps such spans from everyone; under the global default they come back into the layer, so this
//! test has a process of its own.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod collector;

use std::fmt;

use collector::{Collector, assert_accounted, tag, text};
use tracing::field::{Empty, debug};
use tracing::{info, info_span};
use tracing_subscriber::prelude::*;

struct Traces;

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        info_span!("inside").in_scope(|| info!("deep"));
        f.write_str("shown")
    }
}

#[test]
fn spans_made_by_a_debug_or_by_the_error_callback_come_through() {
    let collector = Collector::bind();
    let gone = Collector::bind();
    let layer = collector
        .builder()
        .on_error(|error| info_span!("in the callback", %error).in_scope(|| info!("deep")))
        .build();
    let handle = layer.handle();
    tracing_subscriber::registry().with(layer).init();

    let span = info_span!("outside", x = ?Traces, y = Empty);
    span.in_scope(|| info!(x = ?Traces, "plain"));
    span.record("y", debug(Traces));
    drop(span);
    let spans = collector.drain();
    let names: Vec<_> = spans.iter().map(|span| text(span, "name")).collect();
    assert_eq!(names, ["inside", "inside", "inside", "outside"]);
    assert_eq!(tag(&spans[3], "x"), Some("shown"));
    assert_eq!(tag(&spans[3], "y"), Some("shown"));
    assert_eq!(text(&spans[1], "parentId"), text(&spans[3], "id"), "made inside of the span");

    drop((collector, gone));
    drop(info_span!("to nobody"));
    assert_accounted(&handle);
    assert_eq!(handle.stats().dropped.no_receiver, 2, "the span and the callback's own");
}
