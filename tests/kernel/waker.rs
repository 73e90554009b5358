//! Which span ended a wait: the one that the waking thread was in.

use e2e::{free_address, get, wait_until};

use crate::found::{Found, Spans};
use crate::worker::Attached;
use crate::{repeat_if_unreported, with_kernel};

/// The waits of a span that end with a wake-up.
fn waits_below<'a>(spans: &'a Spans, of: &'a Found) -> impl Iterator<Item = &'a Found> {
    ["sleep", "lock wait"].into_iter().flat_map(move |name| spans.below(of, name))
}

/// The wait of the span `waits`, and the id of the span `wakes` that should have ended it.
fn pairs(spans: &Spans) -> impl Iterator<Item = (String, &Found, &Found)> {
    spans.own("waits").map(|waits| {
        let way = waits.text("way");
        let waker = spans.own("wakes").find(|wakes| wakes.text("way") == way).unwrap();
        let longest = waits_below(spans, waits).max_by_key(|wait| wait.duration_ns());
        (way.to_owned(), longest.unwrap_or_else(|| panic!("no wait: {way}")), waker)
    })
}

/// Repeated if the kernel did not report a wake-up.
#[test]
fn a_wait_is_linked_to_the_span_that_ended_it() {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let metrics = free_address();
            let address = metrics.to_string();
            let mut attached = Attached::start(&["--min", "0us", "--metrics", &address]);
            attached.run("hand_over");
            let mut counted = String::new();
            wait_until("the waits are in the metrics", || {
                let page = get(metrics, "/metrics").unwrap_or_default();
                let is_count = |line: &&str| line.starts_with("spantap_span_waits_total{");
                counted = page.lines().find(is_count).unwrap_or_default().to_owned();
                !counted.is_empty()
            });
            let (spans, ended) = attached.end();
            let mut ways = Vec::new();
            for (way, sleep, waker) in pairs(&spans) {
                assert!(sleep.duration_ns() > 15_000_000, "{way}: {sleep:#?}");
                // For other threads it waits in futex().
                assert_eq!(
                    sleep.name,
                    if way == "pipe" { "sleep" } else { "lock wait" },
                    "{way}: {sleep:#?}"
                );
                assert_eq!(sleep.links, [&*waker.id], "{way}: {sleep:#?}");
                assert_eq!(sleep.text("kernel.waker.span"), "wakes", "{way}: {sleep:#?}");
                ways.push(way);
            }
            ways.sort();
            assert_eq!(ways, ["channel", "condition variable", "futex", "mutex", "park", "pipe", "tokio"]);
            let labels = "spantap_span_waits_total{span=\"waits\",waker=\"wakes\"} ";
            let count = counted.strip_prefix(labels).unwrap_or_else(|| panic!("{counted}"));
            assert!((1..15).contains(&count.parse::<u32>().unwrap()), "{counted}");
            let summed = ended.stderr.lines().find(|line| line.contains("waits  waited for  wakes")).unwrap();
            let summed = summed.split_whitespace().collect::<Vec<_>>().join(" ");
            // Seven waits of 20 ms, and any for the lock of the condition variable or the like.
            let times = summed.split(' ').nth_back(1).unwrap().parse::<u32>().unwrap();
            let ms = summed.split(' ').next().unwrap().parse::<f64>().unwrap();
            assert!((7..15).contains(&times) && (110.0..250.0).contains(&ms), "{summed}");
            // A timer's interrupt is no span, whichever thread it came over.
            let of_timers = |span: &&Found| span.text("kernel.waker") == "an interrupt";
            assert!(spans.0.iter().filter(of_timers).all(|span| span.links.is_empty()), "{:#?}", spans.0);
            assert!(spans.0.iter().any(|span| of_timers(&span)), "the wakers sleep, too");
        });
    });
}

/// A span does not wait for itself. Repeated if the kernel did not report a wake-up.
#[test]
fn a_wait_for_a_thread_in_the_same_span_has_no_link() {
    with_kernel(&[], || {
        repeat_if_unreported(|| {
            let ([_], spans, ended) = Attached::start(&["--min", "0us"]).run_all(["share"]);
            let sleeps: Vec<_> = waits_below(&spans, spans.one("shared")).collect();
            // The thread is known, the span is left out.
            let by_thread =
                sleeps.iter().filter(|sleep| sleep.text("kernel.waker").starts_with("kernel_work"));
            let longest = by_thread.max_by_key(|sleep| sleep.duration_ns());
            assert!(longest.is_some_and(|sleep| sleep.duration_ns() > 15_000_000), "{sleeps:#?}");
            for sleep in &sleeps {
                assert!(sleep.links.is_empty() && sleep.text("kernel.waker.span").is_empty(), "{sleep:#?}");
            }
            assert!(!ended.stderr.contains("waited for"), "{}", ended.stderr);
        });
    });
}
