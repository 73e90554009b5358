//! User code that traces while the layer calls it. Under `with_default` the dispatcher drops such spans. Under
//! the global default they reach the layer again, so this test has a process of its own.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod collector;

use std::fmt;

use collector::{Collector, assert_stats_add_up, tag, text};
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
fn spans_from_debug_and_events_from_the_error_callback_are_sent() {
    let collector = Collector::bind();
    let layer = collector.builder().on_error(|error| info!(%error, "reported")).build();
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
    assert_eq!(text(&spans[1], "parentId"), text(&spans[3], "id"), "created inside the span");

    // The socket is gone, so the callback logs an event in the current span.
    let outer = info_span!("outer");
    let path = collector.path().to_owned();
    drop(collector);
    outer.in_scope(|| drop(info_span!("to nobody")));
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    let collector = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    collector::wait_until("sending resumes", || {
        drop(info_span!(parent: None, "probe"));
        handle.stats().sent > 4
    });
    drop(outer);
    let mut buffer = vec![0; 1 << 16];
    let last = std::iter::from_fn(|| collector.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec()))
        .find(|datagram| String::from_utf8_lossy(datagram).contains(r#""name":"outer""#))
        .unwrap();
    assert!(String::from_utf8_lossy(&last).contains("reported"), "the event of the callback");
    assert_stats_add_up(&handle);
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}
