//! Baggage goes with the context of a span, from process to process, and chosen keys become attributes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

mod collector;

use std::collections::BTreeMap;

use collector::{Collector, tag, text};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use prost::Message;
use serde_json::Value;
use tracing::field::Empty;
use tracing::{debug_span, info_span, subscriber::with_default};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{Layer, Registry, prelude::*};
use tracing_usdt::{Baggage, Builder, Format, Sampler, SpanContext, SpanExt, TraceState, UsdtLayer};

const REMOTE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn baggage(text: &str) -> Baggage {
    Baggage::parse([text])
}

fn remote(baggage_text: &str) -> SpanContext {
    SpanContext::from_traceparent(REMOTE).unwrap().with_baggage(baggage(baggage_text))
}

/// A layer that nobody listens to.
fn idle() -> UsdtLayer {
    tracing_usdt::builder().without_socket().without_remote_parent().build()
}

/// Runs `check` while nobody listens, while spans are sent, and while they are sampled out.
fn in_each_state(check: impl Fn()) {
    with_default(tracing_subscriber::registry().with(idle()), &check);
    for sampler in [Sampler::AlwaysOn, Sampler::AlwaysOff] {
        let collector = Collector::bind();
        let layer = collector.builder().with_sampler(sampler).build();
        with_default(tracing_subscriber::registry().with(layer), &check);
    }
}

/// What the span passes on.
#[track_caller]
fn passed_on(span: &tracing::Span) -> String {
    let context = span.trace_context().unwrap();
    assert_eq!(*context.baggage(), span.baggage());
    span.baggage().to_string()
}

#[test]
fn a_span_has_the_baggage_of_the_nearest_span_above_that_has_any() {
    in_each_state(|| {
        let root = info_span!("root");
        let child = root.in_scope(|| info_span!("child"));
        let grandchild = child.in_scope(|| info_span!("grandchild"));
        let all = || [&root, &child, &grandchild].map(passed_on);
        assert_eq!(all(), [""; 3]);
        root.set_baggage(baggage("a=1;p"));
        assert_eq!(all(), ["a=1;p"; 3]);
        assert!(child.set_baggage_entry("b", "2, or 3"));
        assert_eq!(all(), ["a=1;p", "a=1;p,b=2%2C%20or%203", "a=1;p,b=2%2C%20or%203"]);
        assert!(!child.set_baggage_entry("not a key", "2"));
        // Not even the old value stays.
        let before = child.baggage();
        assert!(!child.set_baggage_entry("a", &"x".repeat(9000)));
        assert_eq!(passed_on(&child), "b=2%2C%20or%203");
        child.set_baggage(before);
        // Not that of the root again.
        child.set_baggage(Baggage::default());
        assert_eq!(all(), ["a=1;p", "", ""]);
        root.set_baggage(baggage("c=3"));
        assert_eq!(all(), ["c=3", "", ""]);
        assert_eq!(passed_on(&info_span!("another root")), "");
        assert_eq!(passed_on(&root.in_scope(|| info_span!(parent: None, "without a parent"))), "");
    });
}

#[test]
fn baggage_comes_with_a_remote_parent() {
    in_each_state(|| {
        let early = remote("a=1").in_scope(|| info_span!("early"));
        let late = info_span!("late");
        late.set_remote_parent(remote("a=1"));
        for span in [&early, &late] {
            let child = span.in_scope(|| info_span!("child"));
            assert_eq!([passed_on(span), passed_on(&child)], ["a=1"; 2]);
            assert_eq!(child.trace_context().unwrap().trace_id(), remote("").trace_id());
        }
        // The remote parent replaces what the span had.
        late.set_remote_parent(remote("b=2"));
        assert_eq!(passed_on(&late), "b=2");
        late.set_remote_parent(remote(""));
        assert_eq!(passed_on(&late), "");
        // A span with a remote parent has none of the spans above it.
        let within = early.in_scope(|| info_span!("within"));
        within.set_remote_parent(remote(""));
        assert_eq!(passed_on(&within), "");
    });
}

#[test]
fn baggage_without_a_parent_is_that_of_root_spans() {
    in_each_state(|| {
        let root = baggage("a=1").in_scope(|| info_span!("root"));
        let child = root.in_scope(|| baggage("b=2").in_scope(|| info_span!("child")));
        assert_eq!([passed_on(&root), passed_on(&child)], ["a=1"; 2]);
        assert!(root.trace_context().unwrap().to_traceparent().as_str() != REMOTE);
        assert_eq!(passed_on(&info_span!("after")), "");
    });
}

#[test]
fn root_spans_have_the_baggage_of_the_process() {
    let layer = tracing_usdt::builder().without_socket().with_remote_parent(remote("a=1")).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let root = info_span!("root");
        let child = root.in_scope(|| info_span!("child"));
        assert_eq!([passed_on(&root), passed_on(&child)], ["a=1"; 2]);
        let other = SpanContext::from_traceparent(&REMOTE.replace("00f0", "11f0")).unwrap();
        assert_eq!(passed_on(&other.in_scope(|| info_span!("of another parent"))), "");
        root.set_baggage(baggage("b=2"));
        assert_eq!(passed_on(&child), "b=2");
    });
}

/// For example in a gateway.
#[test]
fn empty_baggage_in_scope_replaces_that_of_the_process() {
    let check = || {
        let root = Baggage::default().in_scope(|| info_span!("root"));
        let child = root.in_scope(|| info_span!("child"));
        assert_eq!([passed_on(&root), passed_on(&child), passed_on(&info_span!("other"))], ["", "", "a=1"]);
        assert_eq!(passed_on(&remote("").in_scope(|| info_span!("of the same parent"))), "");
    };
    let collector = Collector::bind();
    for builder in [tracing_usdt::builder().without_socket(), collector.builder()] {
        let layer = builder.with_remote_parent(remote("a=1")).build();
        with_default(tracing_subscriber::registry().with(layer), check);
    }
}

/// The registry does not know the parent of such a span.
#[test]
fn a_span_that_exists_for_its_probes_alone_has_the_baggage_and_trace_state_of_its_parent() {
    let probe_only = || {
        let metadata = info_span!("probe only").metadata().unwrap();
        let none: [(&tracing::field::Field, Option<&dyn tracing::field::Value>); 0] = [];
        tracing_usdt::macros::Parent::Current.probe_only_span(
            metadata,
            &metadata.fields().value_set(&none),
            true,
        )
    };
    let collector = Collector::bind();
    let layer = collector.builder().with_remote_parent(remote("process=1")).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let state = TraceState::parse(["a=1"]).unwrap();
        let root = remote("caller=2").with_trace_state(state).in_scope(|| info_span!("root"));
        let below = root.in_scope(probe_only);
        assert_eq!(passed_on(&below), "caller=2");
        assert_eq!(below.trace_context().unwrap().trace_state().to_string(), "a=1");
        let ordinary = below.in_scope(|| root.in_scope(|| info_span!("ordinary")));
        assert_eq!(passed_on(&ordinary), "caller=2");
        root.set_baggage(Baggage::default());
        assert_eq!(passed_on(&root.in_scope(probe_only)), "");
        assert_eq!(passed_on(&probe_only()), "process=1");
    });
}

/// No consumer can see the span, but the program sets its baggage all the same.
#[test]
fn a_span_that_a_filter_hides_passes_baggage_on() {
    let collector = Collector::bind();
    let layer = collector.builder().build().with_filter(LevelFilter::INFO);
    let fmt = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
    with_default(tracing_subscriber::registry().with(fmt).with(layer), || {
        let hidden = debug_span!("hidden");
        hidden.set_baggage(baggage("a=1"));
        let shown = hidden.in_scope(|| info_span!("shown"));
        assert_eq!([passed_on(&hidden), passed_on(&shown)], ["a=1"; 2]);
    });
}

#[test]
fn without_the_layer_there_is_no_baggage() {
    let check = || {
        for span in [info_span!("span"), tracing::Span::none()] {
            span.set_baggage(baggage("a=1"));
            assert!(!span.set_baggage_entry("a", "1"), "nothing took it");
            assert!(span.baggage().is_empty());
        }
    };
    check();
    with_default(Registry::default(), check);
}

/// The attributes of each span, by name, as text.
fn sent(
    format: Format,
    with: impl FnOnce(Builder) -> Builder,
    f: impl FnOnce(),
) -> BTreeMap<String, BTreeMap<String, String>> {
    let collector = Collector::bind();
    let layer = with(collector.builder().with_format(format)).build();
    with_default(tracing_subscriber::registry().with(layer), f);
    match format {
        Format::Zipkin => {
            let attributes = |span: collector::Span| {
                let tags = span["tags"].as_object().unwrap().iter();
                let tags = tags.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()));
                (text(&span, "name").to_owned(), tags.collect())
            };
            collector.drain().into_iter().map(attributes).collect()
        }
        Format::OtlpJson => {
            let mut spans = BTreeMap::new();
            for datagram in collector.drain_text() {
                let request: Value = serde_json::from_str(&datagram).unwrap();
                for span in request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap() {
                    let attributes = span["attributes"].as_array().unwrap().iter().map(|attribute| {
                        let value = attribute["value"].as_object().unwrap().values().next().unwrap();
                        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                        (attribute["key"].as_str().unwrap().to_owned(), value)
                    });
                    spans.insert(span["name"].as_str().unwrap().to_owned(), attributes.collect());
                }
            }
            spans
        }
        Format::OtlpProtobuf => {
            let mut spans = BTreeMap::new();
            for datagram in collector.drain_bytes() {
                let request = ExportTraceServiceRequest::decode(&*datagram).unwrap();
                for span in &request.resource_spans[0].scope_spans[0].spans {
                    let attributes = span.attributes.iter().map(|attribute| {
                        let value = match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
                            any_value::Value::StringValue(text) => text.clone(),
                            other => format!("{other:?}"),
                        };
                        (attribute.key.clone(), value)
                    });
                    spans.insert(span.name.clone(), attributes.collect());
                }
            }
            spans
        }
        _ => panic!("a new format"),
    }
}

#[test]
fn chosen_keys_are_attributes_of_all_spans_in_all_formats() {
    for format in [Format::Zipkin, Format::OtlpJson, Format::OtlpProtobuf] {
        let keys = |builder: Builder| builder.with_baggage_attributes(["user.id", "tier", "absent"]);
        let spans = sent(format, keys, || {
            let root = remote("user.id=7,tier=K%C3%B6ln;p,secret=1").in_scope(|| info_span!("root"));
            drop(root.in_scope(|| info_span!("child", n = 1)));
            drop(info_span!("other"));
            let late = info_span!("late");
            late.set_baggage(baggage("tier=gold"));
            late.set_baggage(baggage("tier=silver"));
            let parent = info_span!("late parent");
            parent.set_remote_parent(remote("user.id=8"));
        });
        let of = |name: &str| {
            ["user.id", "tier", "absent", "secret"].map(|key| spans[name].get(key).map(|v| &**v))
        };
        for name in ["root", "child"] {
            assert_eq!(of(name), [Some("7"), Some("K\u{f6}ln"), None, None], "{format:?}: {name}");
        }
        assert_eq!(of("other"), [None; 4], "{format:?}");
        assert_eq!(of("late"), [None, Some("silver"), None, None], "{format:?}");
        assert_eq!(of("late parent"), [Some("8"), None, None, None], "{format:?}");
        assert!(spans["child"].contains_key("n"));
    }
}

#[test]
fn no_key_is_an_attribute_unless_it_was_chosen() {
    let spans = sent(
        Format::Zipkin,
        |builder| builder,
        || {
            drop(remote("user.id=7").in_scope(|| info_span!("span")));
        },
    );
    assert_eq!(spans["span"].get("user.id"), None);
}

/// Baggage comes from outside, and must not replace what the program says.
#[test]
fn fields_of_a_span_take_precedence_over_its_baggage() {
    let collector = Collector::bind();
    let layer = collector.builder().with_baggage_attributes(["a", "b", "level"]).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let caller = remote("a=theirs,b=theirs,level=theirs");
        let span = caller.in_scope(|| info_span!("span", a = "ours", b = Empty));
        span.in_scope(|| drop(info_span!("child", b = Empty)));
        span.record("b", "ours");
    });
    let spans = collector.drain();
    let of = |span| ["a", "b", "level"].map(|key| tag(span, key).map(str::to_owned));
    let texts = |texts: [&str; 3]| texts.map(|text| Some(text.to_owned()));
    assert_eq!(of(&spans[0]), texts(["theirs", "theirs", "theirs"]));
    assert_eq!(of(&spans[1]), texts(["ours", "ours", "theirs"]));
}

/// Whichever of the two is said last.
#[test]
fn attributes_of_the_program_take_precedence_over_its_baggage() {
    let keys = |builder: Builder| builder.with_baggage_attributes(["user.id", "tier"]);
    let spans = sent(Format::Zipkin, keys, || {
        let caller = remote("user.id=theirs,tier=theirs");
        let before = caller.in_scope(|| info_span!("before"));
        before.record_attribute("user.id", "ours");
        assert!(before.set_baggage_entry("tier", "ours"));
        let after = info_span!("after");
        after.set_baggage(baggage("user.id=theirs,tier=theirs"));
        after.record_attribute("user.id", "ours");
        let number = caller.in_scope(|| info_span!("number", user.id = 7));
        number.set_baggage(baggage("user.id=theirs"));
    });
    let of = |name: &str| ["user.id", "tier"].map(|key| spans[name].get(key).map(|v| &**v));
    assert_eq!(of("before"), [Some("ours"), Some("ours")]);
    assert_eq!(of("after"), [Some("ours"), Some("theirs")]);
    assert_eq!(of("number"), [Some("7"), None]);
}

#[test]
fn a_key_that_is_removed_from_the_baggage_is_no_attribute() {
    let keys = |builder: Builder| builder.with_baggage_attributes(["user.id", "tier"]);
    let spans = sent(Format::Zipkin, keys, || {
        let span = remote("user.id=7,tier=gold").in_scope(|| info_span!("span"));
        span.set_baggage(baggage("tier=gold"));
        let cleared = remote("user.id=7").in_scope(|| info_span!("cleared"));
        cleared.set_baggage(Baggage::default());
        let moved = remote("user.id=7").in_scope(|| info_span!("moved"));
        moved.set_remote_parent(remote(""));
    });
    let of = |name: &str| ["user.id", "tier"].map(|key| spans[name].get(key).map(|v| &**v));
    assert_eq!(of("span"), [None, Some("gold")]);
    assert_eq!(of("cleared"), [None; 2]);
    assert_eq!(of("moved"), [None; 2]);
}

#[test]
fn attributes_of_baggage_are_within_the_limits_of_a_span() {
    let collector = Collector::bind();
    let layer = collector.builder().with_baggage_attributes(["a", "b", "c"]);
    let layer = layer.with_max_attributes_per_span(2).with_max_attribute_value_length(3).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        drop(remote("a=12345,b=2,c=3").in_scope(|| info_span!("span")));
    });
    let span = collector.drain().pop().unwrap();
    assert_eq!(["a", "b", "c"].map(|key| tag(&span, key)), [Some("123"), Some("2"), None]);
    assert_eq!(tag(&span, "otel.dropped_attributes_count"), Some("1"));
}

/// A process that is started with the environment of a span has its baggage.
#[test]
fn the_environment_has_the_baggage() {
    with_default(tracing_subscriber::registry().with(idle()), || {
        let span = remote("a=1").in_scope(|| info_span!("span"));
        let variables: BTreeMap<_, _> = span.trace_context().unwrap().env().collect();
        assert_eq!(variables["BAGGAGE"], "a=1");
    });
}
