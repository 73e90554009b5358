//! What concerns all kinds of findings. Those of each kind are tested beside it.

use super::made::{MS, Made, found, many_calls, sentences, span, trace};
use super::{Findings, Kind, lines};
use crate::trace::{Shown, breakdowns, finder};

#[test]
fn what_costs_little_of_the_time_of_its_traces_is_not_found() {
    let with = |first: &dyn Fn(u64) -> Option<Vec<Made>>| {
        let found = found(300, 1_000_000 * MS, |number, at| {
            first(number).unwrap_or_else(|| many_calls(number, at, 20, |call, of| of.number("item", call)))
        });
        sentences(&found)
    };
    let expected = ["repeated_calls: GET /cart calls load_item 20 times one after the other, 1.00 ms each"];
    let other = |number: u64| vec![span(number << 16, 0, "import", (0, 100_000_000 * MS))];
    assert_eq!(with(&|number| (number == 1).then(|| other(number))), expected, "others that take long");
    let seldom = |number: u64| vec![span(number << 16 | 1, 0, "GET /cart", (0, 22 * MS))];
    assert_eq!(
        with(&|number| (number > 1).then(|| seldom(number))),
        [""; 0],
        "in one of many of its requests"
    );
    assert_eq!(with(&|number| (number > 5).then(|| seldom(number))), expected, "in more of them");
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
    assert!(
        lines(&found, "spantap view a", 80, false).iter().any(|line| line == "and 12 more; --json has all")
    );
}

#[test]
fn many_errors_leave_room_for_others() {
    let with = |others: u64| {
        let mut findings = Findings::default();
        for number in 1..=1_200 {
            let at = number * 1000 * MS;
            let call = span(number << 16, 0, &format!("call {}", number % 12), (at, at + 5 * MS));
            let mut add = |id: u64, spans: Vec<Made>| {
                let trace = trace(id.into(), spans);
                findings.add(&trace, &breakdowns(&trace.spans, &finder()));
            };
            add(2 * number, vec![if number > 600 { call.failed("no") } else { call }]);
            if number <= others {
                let mut spans = many_calls(2_000 + number, at, 20, |call, of| of.number("item", call));
                spans[0] = span((2_000 + number) << 16 | 1, 0, &format!("GET /{number}"), (at, at + 30 * MS));
                add(2 * number + 1, spans);
            }
        }
        let errors =
            |found: &super::Found| found.findings.iter().filter(|of| of.kind == Kind::NewError).count();
        let (shown, all) = (findings.found(), findings.all());
        assert_eq!((errors(&all), all.findings.len(), all.more), (12, 12 + others as usize, 0));
        assert_eq!(shown.more, all.findings.len() - shown.findings.len());
        (errors(&shown), shown.findings.len())
    };
    assert_eq!(with(0), (8, 8));
    assert_eq!(with(1), (7, 8));
    assert_eq!(with(4), (4, 8));
    assert_eq!(with(10), (4, 8));
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
fn what_does_not_fit_is_counted() {
    let found = found(200, 1000 * MS, |number, at| {
        vec![span(number << 16, 0, &format!("request {number}"), (at, at + MS))]
    });
    assert_eq!(found.lacks, ["150 spans were not looked at: there are more than 50 names"]);
}

/// Jobs of three steps, all that is known of a thread. If `first` is there, the first step arrives by itself, shown so. From half of
/// the jobs on, it fails.
fn jobs(first: Option<Shown>, left_out: u64) -> super::Found {
    let mut findings = Findings::default();
    for number in 1..=100 {
        let (at, id) = (number * 100 * MS, |of: u64| number << 16 | of);
        let end = |of: Made, is_at_fault: bool| if is_at_fault && number > 50 { of.failed("no") } else { of };
        let step = |of: u64, name: &str, from: u64, to: u64| {
            span(id(of), id(1), name, (at + from * MS, at + to * MS))
        };
        let root = end(span(id(1), 0, "job", (at, at + 60 * MS)).number("busy_ns", MS), true);
        let one = end(step(2, "one", 0, 30), true);
        let mut add = |spans: Vec<Made>, shown: Shown| {
            let mut trace = trace(number.into(), spans);
            (trace.shown, trace.left_out) = (shown, left_out);
            findings.add(&trace, &breakdowns(&trace.spans, &finder()));
        };
        let mut rest = vec![root, step(3, "two", 30, 45), step(4, "three", 45, 60)];
        match first {
            Some(shown) => add(vec![one], shown),
            None => rest.push(one),
        }
        add(rest, Shown::Complete);
    }
    findings.found()
}

#[test]
fn what_is_missing_of_a_trace_is_no_gap_and_no_error() {
    let lacks = |traces: u64| {
        vec![format!(
            "{traces} traces or parts of them were not looked at for gaps, held threads and errors: spans are missing"
        )]
    };
    let whole = jobs(None, 0);
    assert!(sentences(&whole)[0].starts_with("new_error: one fails"), "{:?}", sentences(&whole));
    assert_eq!((whole.findings.len(), whole.lacks), (1, vec![]));
    // As if nobody knew that they are parts of one trace.
    let parts = jobs(Some(Shown::Complete), 0);
    assert!(sentences(&parts).iter().any(|of| of.starts_with("gap: job waits")), "{:?}", sentences(&parts));
    assert!(sentences(&parts).iter().any(|of| of.starts_with("new_error: job fails")));
    for shown in [Shown::Waited, Shown::NoRoom, Shown::End, Shown::ProcessEnded] {
        let parts = jobs(Some(shown), 0);
        assert_eq!((sentences(&parts), parts.lacks), (vec![], lacks(200)), "{shown:?}");
    }
    let cut = jobs(None, 1);
    assert_eq!((sentences(&cut), cut.lacks), (vec![], lacks(100)));
}
