//! Each kind of finding is found in traces that have it, and not in traces that nearly do.

use super::made::{MS, Made, found, sentences, span, trace};
use super::{Findings, Kind, lines};
use crate::trace::{breakdowns, finder};

/// A request that makes calls of 1 ms each, one after the other, which `change` changes.
fn many_calls(number: u64, at: u64, calls: u64, change: impl Fn(u64, Made) -> Made) -> Vec<Made> {
    let id = |of: u64| number << 16 | of;
    let mut spans = vec![span(id(1), 0, "GET /cart", (at, at + (calls + 2) * MS)).server()];
    for call in 0..calls {
        let from = at + (call + 1) * MS;
        let made = span(id(2 + call), id(1), "load_item", (from, from + MS)).client();
        spans.push(change(call, made.text("db.query.text", "SELECT * FROM items WHERE id = ?")));
    }
    spans
}

#[test]
fn many_calls_that_differ_in_a_value_are_found() {
    let found =
        found(4, 1000 * MS, |number, at| many_calls(number, at, 20, |call, of| of.number("item", call)));
    assert_eq!(
        sentences(&found),
        ["repeated_calls: GET /cart calls load_item 20 times one after the other, 1.00 ms each"]
    );
    let finding = &found.findings[0];
    assert_eq!((finding.cost_ns, finding.times, finding.traces), (80 * MS, 4, 4));
    assert!(finding.why.starts_with("the calls differ only in item,"), "{}", finding.why);
    assert_eq!(found.total_ns, 4 * 22 * MS);
}

/// As of a function with the attribute `instrument`, which makes a query.
#[test]
fn functions_that_do_little_but_a_call_are_calls() {
    let with_inner = |inner_ns: u64| {
        found(4, 1000 * MS, |number, at| {
            let id = |of: u64| number << 16 | of;
            let mut spans = vec![span(id(1), 0, "GET /cart", (at, at + 30 * MS)).server()];
            for call in 0..20 {
                let from = at + (call + 1) * MS;
                let text = "SELECT * FROM items WHERE id = ?";
                let inner = span(id(100 + call), id(2 + call), "query", (from, from + inner_ns));
                spans.push(span(id(2 + call), id(1), "load_item", (from, from + MS)).number("id", call));
                spans.push(inner.text("db.query.text", text));
            }
            spans
        })
    };
    let found = with_inner(MS * 9 / 10);
    assert_eq!(
        sentences(&found),
        ["repeated_calls: GET /cart calls load_item 20 times one after the other, 1.00 ms each"]
    );
    assert!(found.findings[0].why.starts_with("the calls differ only in id,"), "{}", found.findings[0].why);
    assert_eq!(sentences(&with_inner(MS / 2)), [""; 0], "most is work of its own");
}

#[test]
fn calls_that_one_call_could_not_replace_are_not_found() {
    let none = |what: &str, made: &dyn Fn(u64, u64) -> Vec<Made>| {
        let found = found(4, 1000 * MS, made);
        assert_eq!(sentences(&found), [""; 0], "{what}");
    };
    none("few", &|number, at| many_calls(number, at, 9, |call, of| of.number("item", call)));
    none("the same call", &|number, at| many_calls(number, at, 20, |_, of| of.number("item", 7)));
    none("pages", &|number, at| many_calls(number, at, 20, |call, of| of.number("page", call)));
    none("with other fields", &|number, at| {
        many_calls(number, at, 20, |call, of| {
            of.number("item", call).number(["a", "b"][call as usize % 2], 1)
        })
    });
    none("with many other values", &|number, at| {
        many_calls(number, at, 20, |call, of| {
            ["a", "b", "c", "d"].into_iter().fold(of, |of, key| of.number(key, call))
        })
    });
    none("of its own code", &|number, at| {
        let id = |of: u64| number << 16 | of;
        let mut spans = vec![span(id(1), 0, "resize", (at, at + 30 * MS))];
        spans.extend((0..20).map(|call| {
            let from = at + call * MS;
            span(id(call + 2), id(1), "resize_row", (from, from + MS)).number("row", call)
        }));
        spans
    });
    none("at the same time", &|number, at| {
        let mut spans = many_calls(number, at, 20, |call, of| of.number("item", call));
        let id = |of: u64| number << 16 | of;
        spans.truncate(1);
        spans.extend((0..20).map(|call| {
            span(id(call + 2), id(1), "load_item", (at + call, at + 20 * MS)).client().number("item", call)
        }));
        spans
    });
    none("a small part of a span", &|number, at| {
        let mut spans = many_calls(number, at, 20, |call, of| of.number("item", call));
        spans[0] = span(number << 16 | 1, 0, "GET /cart", (at, at + 500 * MS)).server();
        spans
    });
}

/// A request for an order that asks for a price and then for the stock.
fn two_calls(number: u64, at: u64, change: impl Fn(&str, Made) -> Made) -> Vec<Made> {
    let id = |of: u64| number << 16 | of;
    let call = |of: u64, name: &str, peer: &str, from: u64, to: u64| {
        let made = span(id(of), id(1), name, (at + from * MS, at + to * MS)).client();
        change(name, made.text("http.request.method", "GET").text("server.address", peer))
    };
    vec![
        span(id(1), 0, "GET /orders", (at, at + 12 * MS)).server().number("order", number),
        call(2, "fetch_price", "prices.example", 1, 6),
        call(3, "fetch_stock", "stock.example", 6, 11),
    ]
}

#[test]
fn calls_that_need_nothing_of_each_other_are_found() {
    let found = found(10, 1000 * MS, |number, at| two_calls(number, at, |_, of| of.number("order", number)));
    assert_eq!(
        sentences(&found),
        [
            "serial_calls: GET /orders calls fetch_price and then fetch_stock, which could be at the same time and save 5.00 ms each time"
        ]
    );
    assert_eq!(found.findings[0].cost_ns, 10 * 5 * MS);
    assert!(found.findings[0].why.contains("before fetch_price began (order)"), "{}", found.findings[0].why);
}

#[test]
fn calls_that_may_need_each_other_are_not_found() {
    let none = |what: &str, change: &dyn Fn(u64, &str, Made) -> Made| {
        let found =
            found(10, 1000 * MS, |number, at| two_calls(number, at, |name, of| change(number, name, of)));
        assert_eq!(sentences(&found), [""; 0], "{what}");
    };
    none("nothing says what they were given", &|_, _, of| of);
    none("the second was given something new", &|number, name, of| match name {
        "fetch_stock" => of.number("order", number).text("sku", format!("sku {}", number * 7919)),
        _ => of.number("order", number),
    });
    none("all values are always the same", &|_, _, of| of.number("order", 4711));
    none("one changes something", &|number, name, mut of| {
        if name == "fetch_price" {
            of = span(
                number << 16 | 2,
                number << 16 | 1,
                name,
                (number * 1000 * MS + MS, number * 1000 * MS + 6 * MS),
            )
            .client();
            of = of.text("http.request.method", "POST").text("server.address", "prices.example");
        }
        of.number("order", number)
    });
    none("the same peer", &|number, _, of| of.number("order", number).text("peer.service", "all"));
    none("the first failed", &|number, name, of| {
        let of = of.number("order", number);
        if name == "fetch_price" { of.failed("no") } else { of }
    });
    // What a name says.
    let found = found(10, 1000 * MS, |number, at| {
        let mut spans = two_calls(number, at, |_, of| of.number("order", number));
        spans[1] = span(number << 16 | 2, number << 16 | 1, "check_token", (at + MS, at + 6 * MS))
            .client()
            .text("http.request.method", "GET")
            .text("server.address", "auth.example")
            .number("order", number);
        spans
    });
    assert_eq!(sentences(&found), [""; 0]);
}

#[test]
fn calls_that_ran_in_both_orders_are_found_whatever_they_are() {
    let found = found(20, 1000 * MS, |number, at| {
        let id = |of: u64| number << 16 | of;
        let (one, other) = if number % 4 == 0 { ((1, 6), (6, 11)) } else { ((6, 11), (1, 6)) };
        let times = |(from, to): (u64, u64)| (at + from * MS, at + to * MS);
        vec![
            span(id(1), 0, "GET /orders", (at, at + 12 * MS)),
            span(id(2), id(1), "reserve", times(one)).client(),
            span(id(3), id(1), "charge", times(other)).client(),
        ]
    });
    assert_eq!(
        sentences(&found),
        [
            "serial_calls: GET /orders calls charge and then reserve, which could be at the same time and save 5.00 ms each time"
        ]
    );
    assert_eq!(found.findings[0].why, "they ran at the same time or in the other order 5 times");
}

#[test]
fn calls_that_are_mostly_made_at_the_same_time_are_not_found() {
    let with_serial = |is_serial: &dyn Fn(u64) -> bool| {
        found(30, 1000 * MS, |number, at| {
            let id = |of: u64| number << 16 | of;
            let (from, to) = if is_serial(number) { (6, 11) } else { (1, 6) };
            vec![
                span(id(1), 0, "GET /orders", (at, at + 12 * MS)),
                span(id(2), id(1), "reserve", (at + MS, at + 6 * MS)).client(),
                span(id(3), id(1), "charge", (at + from * MS, at + to * MS)).client(),
            ]
        })
    };
    // A program that is too busy now and then.
    assert_eq!(sentences(&with_serial(&|number| number % 3 == 0)), [""; 0]);
    assert_eq!(with_serial(&|number| number % 3 > 0).findings.len(), 1);
}

#[test]
fn calls_beside_the_critical_path_are_not_found() {
    let found = found(10, 1000 * MS, |number, at| {
        let mut spans = two_calls(number, at, |_, of| of.number("order", number));
        spans.push(span(number << 16 | 4, number << 16 | 1, "render", (at + MS, at + 12 * MS)));
        spans
    });
    assert_eq!(sentences(&found), [""; 0]);
}

/// A request with 20 ms between two calls, of which a thread was inside for so long.
fn waits(number: u64, at: u64, busy_ns: Option<u64>, names: [&str; 2]) -> Vec<Made> {
    let id = |of: u64| number << 16 | of;
    let request = span(id(1), 0, "GET /", (at, at + 30 * MS)).server();
    vec![
        busy_ns.map_or(request.clone(), |ns| request.number("busy_ns", ns)),
        span(id(2), id(1), names[0], (at, at + 5 * MS)),
        span(id(3), id(1), names[1], (at + 25 * MS, at + 30 * MS)),
    ]
}

#[test]
fn a_wait_that_no_span_explains_is_found() {
    let found = found(10, 1000 * MS, |number, at| waits(number, at, Some(MS), ["load", "store"]));
    assert_eq!(
        sentences(&found),
        ["gap: GET / waits 19.0 ms between load and store, and no span says for what"]
    );
    assert!(found.findings[0].why.contains("in 10 of 10 such spans"), "{}", found.findings[0].why);
}

#[test]
fn time_that_is_explained_is_no_gap() {
    let none = |what: &str, traces: u64, made: &dyn Fn(u64, u64) -> Vec<Made>| {
        let found = found(traces, 1000 * MS, made);
        assert_eq!(sentences(&found), [""; 0], "{what}");
    };
    none("nothing says when a thread was inside", 10, &|number, at| {
        waits(number, at, None, ["load", "store"])
    });
    none("a thread was inside", 10, &|number, at| waits(number, at, Some(25 * MS), ["load", "store"]));
    none("a loop waits for the next message", 10, &|number, at| {
        waits(number, at, Some(MS), ["message", "message"])
    });
    none("seldom", 2, &|number, at| waits(number, at, Some(MS), ["load", "store"]));
    none("in a few of many", 100, &|number, at| {
        let mut spans = waits(number, at, Some(MS), ["load", "store"]);
        if number % 10 > 0 {
            spans[2] = span(number << 16 | 3, number << 16 | 1, "store", (at + 5 * MS, at + 30 * MS));
        }
        spans
    });
    none("without children", 10, &|number, at| {
        waits(number, at, Some(MS), ["load", "store"]).into_iter().take(1).collect()
    });
    none("a response is streamed", 10, &|number, at| {
        let mut spans = waits(number, at, Some(MS), ["load", "store"]);
        spans.truncate(2);
        spans
    });
    none("at any place, as of a runtime without a free thread", 10, &|number, at| {
        let id = |of: u64| number << 16 | of;
        let mut spans = vec![span(id(1), 0, "GET /", (at, at + 64 * MS)).server().number("busy_ns", MS)];
        for (call, name) in [(1, "a"), (2, "b"), (3, "c")] {
            let from = at + call * 16 * MS;
            spans.push(span(id(call + 1), id(1), name, (from, from + MS)));
        }
        spans
    });
    none("the kernel knows", 10, &|number, at| {
        let mut spans = waits(number, at, Some(MS), ["load", "store"]);
        let request = spans.remove(0).number("kernel.on_cpu_ns", MS).number("kernel.disk_ns", 19 * MS);
        spans.insert(0, request);
        spans
    });
}

/// Requests on one thread: short ones that wait for something, one each 2 ms, and a long one now and then, which holds the thread, so
/// that the short ones come later.
fn on_one_thread(hold_ns: u64, change: impl Fn(u64, Made) -> Vec<Made>) -> super::Found {
    let mut findings = Findings::default();
    let mut at = 0;
    for number in 1..=200_u64 {
        let id = |of: u64| number << 16 | of;
        let spans = if number % 20 == 0 {
            let long = span(id(1), 0, "render", (at, at + hold_ns))
                .number("thread.id", 3)
                .number("busy_ns", hold_ns);
            let spans = change(number, long);
            at += hold_ns;
            spans
        } else {
            at += 2 * MS;
            vec![span(id(1), 0, "query", (at, at + MS)).number("thread.id", 3).number("busy_ns", MS / 10)]
        };
        let trace = trace(number.into(), spans);
        findings.add(&trace, &breakdowns(&trace.spans, &finder()));
    }
    findings.found()
}

#[test]
fn a_span_that_holds_a_worker_thread_is_found_with_what_it_does() {
    let found = on_one_thread(50 * MS, |_, of| vec![of]);
    assert_eq!(
        sentences(&found),
        [
            "held_thread: render holds a thread that other tasks need for 50.0 ms at a time, up to 50.0 ms: what it does, only a recording with --pid or --exe has"
        ]
    );
    assert_eq!((found.findings[0].times, found.findings[0].cost_ns), (10, 500 * MS));
    for (state, words) in [
        ("kernel.on_cpu_ns", "it computes"),
        ("kernel.disk_ns", "it waits for the disk"),
        ("kernel.lock_ns", "it waits for a lock"),
        ("kernel.sleep_ns", "it sleeps"),
    ] {
        // What it does most of the time, with a part that it needs for anything, and some time without a CPU.
        let cpu_ns = if state == "kernel.on_cpu_ns" { 48 * MS } else { MS };
        let found = on_one_thread(50 * MS, |_, of| {
            let of = of.number("kernel.on_cpu_ns", cpu_ns).number("kernel.run_queue_ns", MS);
            vec![if state == "kernel.on_cpu_ns" { of } else { of.number(state, 48 * MS) }]
        });
        let causes = found.findings.iter().map(|of| of.what.rsplit(": ").next().unwrap_or_default());
        assert_eq!(causes.collect::<Vec<_>>(), [words], "{state}");
    }
}

#[test]
fn a_span_that_others_are_not_kept_from_is_not_found() {
    let none = |what: &str, found: super::Found| assert_eq!(sentences(&found), [""; 0], "{what}");
    none("short", on_one_thread(15 * MS, |_, of| vec![of]));
    none(
        "it yields",
        on_one_thread(50 * MS, |number, _| {
            vec![
                span(number << 16 | 1, 0, "render", (0, 50 * MS))
                    .number("thread.id", 3)
                    .number("busy_ns", 20 * MS),
            ]
        }),
    );
    none(
        "its child did most",
        on_one_thread(60 * MS, |number, of| {
            let child = of.child(number << 16 | 2, "elsewhere", 60);
            vec![of, child]
        }),
    );
    none(
        "the kernel saw it on another thread",
        on_one_thread(50 * MS, |number, of| {
            vec![
                of,
                span(number << 16 | 2, number << 16 | 1, "run queue", (0, MS))
                    .number("thread.id", 4)
                    .kernel(),
            ]
        }),
    );
    none(
        "it waited for a CPU",
        on_one_thread(50 * MS, |_, of| {
            vec![of.number("kernel.on_cpu_ns", 5 * MS).number("kernel.run_queue_ns", 45 * MS)]
        }),
    );
    // Others begin on the thread that made it, because it was entered elsewhere.
    none(
        "others begin meanwhile",
        found(200, 2 * MS, |number, at| {
            let long = if number % 20 == 0 { 50 * MS } else { MS };
            let busy = if number % 20 == 0 { long } else { MS / 10 };
            vec![
                span(number << 16 | 1, 0, if number % 20 == 0 { "render" } else { "query" }, (at, at + long))
                    .number("thread.id", 3)
                    .number("busy_ns", busy),
            ]
        }),
    );
    // A thread for each request: nobody else needs it.
    none(
        "no task waits on it",
        found(200, 60 * MS, |number, at| {
            let long = if number % 20 == 0 { 50 * MS } else { MS };
            vec![
                span(number << 16 | 1, 0, if number % 20 == 0 { "render" } else { "query" }, (at, at + long))
                    .number("thread.id", 3)
                    .number("busy_ns", long),
            ]
        }),
    );
}

/// Requests that wait for the one before, of which the wait is a kernel span.
fn convoy(waker: &str, holder_began_before: bool, in_same_trace: bool) -> super::Found {
    found(40, 3 * MS, |number, at| {
        let id = |number: u64, of: u64| number << 16 | of;
        let other = if in_same_trace { number } else { number - 1 };
        let began = if holder_began_before { at } else { at + 4 * MS };
        let mut spans = vec![
            span(id(number, 1), 0, "add", (at, at + 5 * MS))
                .number("kernel.on_cpu_ns", MS)
                .number("kernel.lock_ns", 4 * MS),
            span(id(number, 3), 0, waker, (began, at + 8 * MS)).number("kernel.on_cpu_ns", MS),
        ];
        if number > 1 {
            let of = if waker == "add" { 1 } else { 3 };
            let wait = span(id(number, 2), id(number, 1), "lock wait", (at + MS / 2, at + 4 * MS));
            spans.push(wait.kernel().text("kernel.waker.span", waker).link(other.into(), id(other, of)));
        }
        spans
    })
}

#[test]
fn spans_that_wait_for_the_lock_of_others_are_found() {
    let found = convoy("add", true, false);
    assert_eq!(
        sentences(&found),
        [
            "blocked: add waits for a lock until add of another trace gives it back: 3.50 ms on average, up to 3.50 ms"
        ]
    );
    assert_eq!((found.findings[0].times, found.findings[0].traces), (39, 39));
    let found = convoy("reindex", true, false);
    assert_eq!(sentences(&found).len(), 1);
    assert_eq!(found.findings[0].details["blocked_by"], "reindex");
}

#[test]
fn waits_for_new_work_or_in_one_trace_are_no_convoy() {
    assert_eq!(sentences(&convoy("reindex", true, true)), [""; 0], "a part of the same trace");
    // The span of the trace before began 4 ms after that trace, 1 ms after this one, and handed over work.
    assert_eq!(sentences(&convoy("producer", false, false)), [""; 0], "began later");
}

/// 200 requests, of which some of the second half fail.
fn failing(first: u64, fails: impl Fn(u64) -> bool, message: impl Fn(u64) -> String) -> super::Found {
    found(200, 100 * MS, |number, at| {
        let id = |of: u64| number << 16 | of;
        let child = span(id(2), id(1), "charge", (at, at + MS)).client();
        let root = span(id(1), 0, "POST /orders", (at, at + 2 * MS));
        match number > first && fails(number) {
            true => vec![root.failed("the card service failed"), child.failed(&message(number))],
            false => vec![root, child],
        }
    })
}

#[test]
fn an_error_that_did_not_occur_before_is_found_where_it_begins() {
    let found = failing(100, |number| number % 3 == 0, |number| format!("no answer to request {number}"));
    assert_eq!(found.findings.len(), 1, "{:?}", sentences(&found));
    let finding = &found.findings[0];
    assert!(
        finding.what.starts_with("charge fails with \"no answer to request #\" since "),
        "{}",
        finding.what
    );
    assert_eq!((finding.kind, finding.times, finding.traces), (Kind::NewError, 33, 33));
}

#[test]
fn errors_that_are_not_new_are_not_found() {
    let none = |what: &str, found: super::Found| assert_eq!(sentences(&found), [""; 0], "{what}");
    none("from the beginning", failing(0, |number| number % 3 == 0, |_| "no".into()));
    none("too few before", failing(15, |_| true, |_| "no".into()));
    none(
        "rare, and late by chance",
        failing(100, |number| [120, 150, 190].contains(&number), |_| "no".into()),
    );
    none("other words each time", failing(0, |number| number % 2 == 0, |number| "x".repeat(number as usize)));
}

#[test]
fn a_new_message_is_found_among_old_errors() {
    let found = failing(
        0,
        |number| number % 3 == 0,
        |number| {
            if number < 100 { "declined".into() } else { "no answer".into() }
        },
    );
    assert!(
        sentences(&found)[0].contains("charge fails with \"no answer\" since"),
        "{:?}",
        sentences(&found)
    );
    assert_eq!(found.findings.len(), 1);
}

#[test]
fn what_costs_little_of_all_time_is_not_found() {
    let found = found(4, 1_000_000 * MS, |number, at| {
        if number == 1 {
            return vec![span(1, 0, "import", (at, at + 100_000 * MS))];
        }
        many_calls(number, at, 20, |call, of| of.number("item", call))
    });
    assert_eq!(sentences(&found), [""; 0]);
}

#[test]
fn few_findings_are_shown_and_the_others_counted() {
    let found = found(40, 1000 * MS, |number, at| {
        let kind = number % 20;
        let mut spans = many_calls(number, at, 20 + kind, |call, of| of.number("item", call));
        spans[0] = span(number << 16 | 1, 0, &format!("GET /{kind}"), (at, at + 100 * MS));
        spans
    });
    assert_eq!((found.findings.len(), found.more), (super::MAX_SHOWN, 20 - super::MAX_SHOWN));
    let costs: Vec<u64> = found.findings.iter().map(|finding| finding.cost_ns).collect();
    assert!(costs.is_sorted_by(|one, other| one >= other), "{costs:?}");
    assert!(lines(&found, "spantap view a", 80, false).iter().any(|line| line == "and 12 that cost less"));
}

#[test]
fn names_from_outside_are_escaped() {
    let found = found(4, 1000 * MS, |number, at| {
        let mut spans = many_calls(number, at, 20, |call, of| of.number("\x1b[2Jitem", call));
        spans[0] = span(number << 16 | 1, 0, "GET \x1b[31m\u{202e}\n/", (at, at + 30 * MS));
        spans
    });
    for line in lines(&found, "spantap view a", 80, false) {
        assert!(!line.contains(['\x1b', '\u{202e}', '\n']), "{line:?}");
    }
    let mut json = Vec::new();
    super::json(&found, &mut json).expect("a list");
    let json = String::from_utf8(json).expect("text");
    assert!(json.contains("GET") && !json.contains('\x1b') && !json.contains('\u{202e}'), "{json}");
}

#[test]
fn spans_that_are_their_own_ancestors_do_not_matter() {
    let found = found(10, 1000 * MS, |number, at| {
        let id = |of: u64| number << 16 | of;
        let mut spans = many_calls(number, at, 20, |call, of| of.number("item", call));
        spans.push(span(id(90), id(91), "a", (at, at + MS)));
        spans.push(span(id(91), id(90), "b", (at, at + MS)).failed("no"));
        spans.push(span(id(92), id(92), "c", (at, at + MS)));
        spans
    });
    assert_eq!(found.findings.len(), 1);
}

/// A trace with many calls of one span, and one with a chain of half as many.
fn large(spans: u64) -> super::Found {
    let mut all = vec![span(1, 0, "import", (0, spans * 1_000))];
    let call = |id: u64| span(id, 1, "insert", (id * 1_000, id * 1_000 + 900)).client().number("row", id);
    all.extend((2..=spans).map(call));
    let chain = (1..=spans / 2).map(|id| span(id, id - 1, "deep", (id, 2 * spans - id))).collect();
    let mut findings = Findings::default();
    for trace in [trace(1, all), trace(2, chain)] {
        findings.add(&trace, &breakdowns(&trace.spans, &finder()));
    }
    findings.found()
}

#[test]
fn large_traces_are_looked_at() {
    let expected = ["repeated_calls: import calls insert 39999 times one after the other, 900 ns each"];
    assert_eq!(sentences(&large(40_000)), expected);
}

#[test]
#[ignore = "deep: makes a million spans"]
fn a_trace_of_a_million_spans_is_looked_at_and_a_larger_one_is_counted() {
    let expected = ["repeated_calls: import calls insert 999999 times one after the other, 900 ns each"];
    assert_eq!(sentences(&large(1_000_000)), expected);
    let found = large(1_000_001);
    assert_eq!((found.findings.len(), found.traces), (0, 1));
    assert_eq!(found.lacks, ["1 trace was not looked at: more than 1000000 spans"]);
}

#[test]
fn what_does_not_fit_is_counted() {
    let found = found(200, 1000 * MS, |number, at| {
        vec![span(number << 16, 0, &format!("request {number}"), (at, at + MS))]
    });
    assert_eq!(found.lacks, ["150 spans were not looked at: there are more than 50 names"]);
}
