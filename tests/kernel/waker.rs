//! Which span ended a wait: the one that the waking thread was in.

use crate::found::{Found, Spans};
use crate::worker::Attached;
use crate::{repeat_if_unreported, with_kernel};

/// The wait of the span `waits`, and the id of the span `wakes` that should have ended it.
fn pairs(spans: &Spans) -> impl Iterator<Item = (String, &Found, &Found)> {
    spans.own("waits").map(|waits| {
        let way = waits.text("way");
        let waker = spans.own("wakes").find(|wakes| wakes.text("way") == way).unwrap();
        let sleeps = spans.below(waits, "sleep");
        let longest = sleeps.into_iter().max_by_key(|sleep| sleep.duration_ns());
        (way.to_owned(), longest.unwrap_or_else(|| panic!("no sleep: {way}")), waker)
    })
}

/// Repeated if the kernel did not report a wake-up.
#[test]
fn a_wait_is_linked_to_the_span_that_ended_it() {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let (_, spans, _) = Attached::start(&["--min", "0us"]).run_all(["hand_over"]);
            let mut ways = Vec::new();
            for (way, sleep, waker) in pairs(&spans) {
                assert!(sleep.duration_ns() > 15_000_000, "{way}: {sleep:#?}");
                assert_eq!(sleep.links, [&*waker.id], "{way}: {sleep:#?}");
                ways.push(way);
            }
            ways.sort();
            assert_eq!(ways, ["channel", "condition variable", "mutex", "park", "pipe"]);
            // A timer's interrupt is no span, whichever thread it came over.
            let of_timers = |span: &&Found| span.text("kernel.waker") == "an interrupt";
            assert!(spans.0.iter().filter(of_timers).all(|span| span.links.is_empty()), "{:#?}", spans.0);
            assert!(spans.0.iter().any(|span| of_timers(&span)), "the wakers sleep, too");
        });
    });
}
