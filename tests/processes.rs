//! The layer where processes begin: in forked children and in programs that are started.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeSet;

use e2e::{Build, Collector, Fixture, Linkage, text};

#[test]
fn a_forked_child_draws_ids_of_its_own() {
    let path = Build::Release.path(Linkage::Executable, 0);
    let collector = Collector::start();
    let mut fixture = Fixture::start(&path, Linkage::Executable, Some(collector.path()));
    assert_eq!(fixture.run("fork"), "");
    // The parent's account has the parent's spans alone.
    assert_eq!(fixture.run("stats"), "11 11 0");
    let parent = fixture.pid().to_string();
    fixture.end();

    let spans = collector.spans();
    assert_eq!(spans.len(), 21);
    let ids: BTreeSet<&str> = spans.iter().map(|span| text(span, "id")).collect();
    assert_eq!(ids.len(), 21, "an id came twice");
    let traces: BTreeSet<&str> = spans.iter().map(|span| text(span, "traceId")).collect();
    assert_eq!(traces.len(), 1, "below a span that both have open, all are of its trace");
    let own = spans.iter().filter(|span| span["tags"]["thread.id"] == *parent);
    assert_eq!(own.count(), 11, "the child's spans name the child's thread");
}
