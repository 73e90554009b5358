//! Contexts are read from the headers of HTTP and gRPC, and written to them.
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::MetadataMap;
use tracing_usdt::{Baggage, Extract, Inject, SpanContext, TraceState};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

type Header<'a> = (&'a str, &'a [u8]);

/// A description, the headers, and the `traceparent` and `tracestate` that are read from them.
type Case<'a> = (&'a str, &'a [Header<'a>], Option<(&'a str, &'a str)>);

fn headers(headers: &[Header<'_>]) -> HeaderMap {
    let parse = |(name, value): &Header<'_>| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap())
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter().map(parse) {
        map.append(name, value);
    }
    map
}

/// Reads the `traceparent` and the `tracestate`.
fn read(carrier: &impl Extract) -> Option<(String, String)> {
    let context = SpanContext::extract(carrier)?;
    Some((context.to_traceparent(), context.trace_state().to_string()))
}

#[test]
fn headers_are_read_as_w3c_specifies() {
    let members = (0..33).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
    let parent = PARENT.as_bytes();
    let spaced = format!(" \t{PARENT}\t ");
    let unsampled = PARENT.replace("-01", "-00");
    let future = format!("cc{}-more", &PARENT[2..]);
    let joined = format!("{PARENT},{OTHER}");
    let accented = format!("{PARENT}\u{e9}");
    let capital = PARENT.to_uppercase();
    let cases: [Case<'_>; 29] = [
        ("none", &[], None),
        ("other headers", &[("b3", b"1-2-3"), ("x-traceparent", parent)], None),
        ("one", &[("traceparent", parent)], Some((PARENT, ""))),
        ("in capitals", &[("TraceParent", parent), ("TRACESTATE", b"a=1")], Some((PARENT, "a=1"))),
        ("white space", &[("traceparent", spaced.as_bytes())], Some((PARENT, ""))),
        ("not sampled", &[("traceparent", unsampled.as_bytes())], Some((&unsampled, ""))),
        ("of the future", &[("traceparent", future.as_bytes())], Some((PARENT, ""))),
        // Several are ambiguous, so none is used.
        ("two", &[("traceparent", parent), ("traceparent", OTHER.as_bytes())], None),
        ("two that agree", &[("traceparent", parent), ("traceparent", parent)], None),
        ("an empty one first", &[("traceparent", b""), ("traceparent", parent)], None),
        ("an empty one last", &[("traceparent", parent), ("traceparent", b"")], None),
        ("joined by a proxy", &[("traceparent", joined.as_bytes())], None),
        // A header that is not text counts as one, too.
        ("bytes first", &[("traceparent", b"\xff"), ("traceparent", parent)], None),
        ("bytes last", &[("traceparent", parent), ("traceparent", b"\xff")], None),
        ("only bytes", &[("traceparent", b"\x80\xfe")], None),
        ("UTF-8", &[("traceparent", accented.as_bytes())], None),
        ("empty", &[("traceparent", b"")], None),
        ("malformed", &[("traceparent", b"rubbish"), ("tracestate", b"a=1")], None),
        ("capital digits", &[("traceparent", capital.as_bytes())], None),
        ("zeros", &[("traceparent", b"00-00000000000000000000000000000000-b7ad6b7169203331-01")], None),
        ("only a state", &[("tracestate", b"a=1")], None),
        // The state.
        ("a state", &[("traceparent", parent), ("tracestate", b"a=1,b=2")], Some((PARENT, "a=1,b=2"))),
        (
            "states, in their order",
            &[
                ("tracestate", b"c=3"),
                ("traceparent", parent),
                ("tracestate", b"a=1"),
                ("tracestate", b"b=2"),
            ],
            Some((PARENT, "c=3,a=1,b=2")),
        ),
        (
            "an empty state",
            &[("traceparent", parent), ("tracestate", b""), ("tracestate", b"a=1")],
            Some((PARENT, "a=1")),
        ),
        (
            "the same key twice",
            &[("traceparent", parent), ("tracestate", b"a=1"), ("tracestate", b"a=2")],
            Some((PARENT, "a=1")),
        ),
        (
            "bytes in a state",
            &[("traceparent", parent), ("tracestate", b"a=1"), ("tracestate", b"b=\xff")],
            Some((PARENT, "")),
        ),
        ("UTF-8 in a state", &[("traceparent", parent), ("tracestate", b"a=\xc3\xa9")], Some((PARENT, ""))),
        ("a capital key", &[("traceparent", parent), ("tracestate", b"A=1")], Some((PARENT, ""))),
        ("33 members", &[("traceparent", parent), ("tracestate", members.as_bytes())], Some((PARENT, ""))),
    ];
    for (what, given, expected) in cases {
        let expected = expected.map(|(parent, state)| (parent.to_owned(), state.to_owned()));
        let headers = headers(given);
        assert_eq!(read(&headers), expected, "http: {what}");
        assert_eq!(read(&MetadataMap::from_headers(headers)), expected, "tonic: {what}");
    }
}

#[test]
fn baggage_is_read_from_all_headers_of_its_name() {
    let parent = PARENT.as_bytes();
    let cases: [Case<'_>; 7] = [
        ("none", &[("traceparent", parent)], Some((PARENT, ""))),
        ("one", &[("traceparent", parent), ("baggage", b"a=1;p, b=2")], Some((PARENT, "a=1;p,b=2"))),
        (
            "several, in their order",
            &[("Baggage", b"c=3"), ("traceparent", parent), ("BAGGAGE", b"a=1"), ("baggage", b"c=4")],
            Some((PARENT, "a=1,c=4")),
        ),
        ("a bad member", &[("traceparent", parent), ("baggage", b"a b=1,c=2")], Some((PARENT, "c=2"))),
        (
            "bytes",
            &[("traceparent", parent), ("baggage", b"a=\xff,b=2"), ("baggage", b"c=3")],
            Some((PARENT, "b=2,c=3")),
        ),
        ("without a parent", &[("baggage", b"a=1")], None),
        ("with a bad parent", &[("traceparent", b"rubbish"), ("baggage", b"a=1")], None),
    ];
    for (what, given, expected) in cases {
        let headers = headers(given);
        let metadata = MetadataMap::from_headers(headers.clone());
        for read in [SpanContext::extract(&headers), SpanContext::extract(&metadata)] {
            let read = read.map(|context| (context.to_traceparent(), context.baggage().to_string()));
            let expected = expected.map(|(parent, baggage)| (parent.to_owned(), baggage.to_owned()));
            assert_eq!(read, expected, "{what}");
        }
        for baggage in [Baggage::extract(&headers), Baggage::extract(&metadata)] {
            assert_eq!(baggage.to_string(), expected.map_or("a=1", |(_, baggage)| baggage), "{what}");
        }
    }
}

fn assert_injects<C: Inject>(mut carrier: C, into: impl Fn(C) -> HeaderMap) {
    let state = TraceState::parse(["a=1,b=2"]).unwrap();
    let context = SpanContext::from_traceparent(PARENT).unwrap().with_trace_state(state);
    context.inject(&mut carrier);
    context.inject(&mut carrier);
    let given =
        headers(&[("other", b"stays"), ("traceparent", PARENT.as_bytes()), ("tracestate", b"a=1,b=2")]);
    let stateless = headers(&[("other", b"stays"), ("traceparent", PARENT.as_bytes())]);
    let mut carrier = into(carrier);
    assert_eq!((&carrier, SpanContext::extract(&carrier)), (&given, Some(context.clone())));
    let context = context.with_trace_state(TraceState::default());
    context.inject(&mut carrier);
    assert_eq!(carrier, stateless, "the state of another span stayed");
    carrier.append("baggage", HeaderValue::from_static("x=1"));
    carrier.append("baggage", HeaderValue::from_static("y=1"));
    let with_baggage = context.clone().with_baggage(Baggage::parse(["a=1,b=2"]));
    with_baggage.inject(&mut carrier);
    assert_eq!(carrier.get_all("baggage").iter().collect::<Vec<_>>(), ["a=1,b=2"]);
    context.inject(&mut carrier);
    assert_eq!(carrier, stateless, "the baggage of another span stayed");
    // No header can hold this value.
    Inject::set(&mut carrier, "traceparent", "a\nb".to_owned());
    assert_eq!(carrier, headers(&[("other", b"stays")]));
}

#[test]
fn injecting_replaces_earlier_headers() {
    let old = headers(&[
        ("traceparent", OTHER.as_bytes()),
        ("other", b"stays"),
        ("Traceparent", b"\xff"),
        ("tracestate", b"x=1"),
        ("tracestate", b"y=1"),
    ]);
    assert_injects(old.clone(), |headers| headers);
    assert_injects(MetadataMap::from_headers(old), MetadataMap::into_headers);
}
