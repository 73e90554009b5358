//! OpenTelemetry's words for a span, and that each can be left out.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

mod collector;

use collector::{Collector, Span, assert_accounted, tag};
use serde_json::Value;
use tracing::{info_span, subscriber::with_default};
use tracing_subscriber::prelude::*;
#[cfg(not(feature = "tracing-opentelemetry"))]
use tracing_usdt::SpanExt;
use tracing_usdt::{Builder, Format};

#[derive(Debug)]
struct Outer;

impl std::fmt::Display for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("outer")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&std::fmt::Error)
    }
}

/// A span with everything that there are words for.
fn span(collector: &Collector, builder: Builder) -> Span {
    let layer = builder.build();
    let handle = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        let before = info_span!("before");
        let error: &(dyn std::error::Error + 'static) = &Outer;
        let span = info_span!("span", otel.kind = "client", otel.status_code = "error", error);
        span.follows_from(&before);
        span.in_scope(|| tracing::info!("said"));
        drop(span);
        drop(before);
    });
    assert_accounted(&handle);
    collector.drain().into_iter().find(|span| span["name"] == "span").unwrap()
}

type Switch = fn(Builder, bool) -> Builder;
type Make = fn() -> tracing::Span;

#[test]
fn each_word_can_be_left_out() {
    let collector = Collector::bind();
    let switches: [(Switch, &[&str]); 7] = [
        (Builder::level, &["level"]),
        (Builder::target, &["target"]),
        (Builder::location, &["code.file.path", "code.line.number", "code.module.name"]),
        (Builder::threads, &["thread.id", "thread.name"]),
        (Builder::busy_and_idle, &["busy_ns", "idle_ns"]),
        (Builder::exceptions, &["exception.message", "exception.stacktrace"]),
        (Builder::links, &["follows_from"]),
    ];
    let words: Vec<&str> = switches.iter().flat_map(|(_, words)| words.iter().copied()).collect();
    let all = span(&collector, collector.builder());
    for word in &words {
        assert!(tag(&all, word).is_some(), "{word} in {all:?}");
    }
    for (switch, left_out) in switches {
        let without = span(&collector, switch(collector.builder(), false));
        for word in &words {
            assert_eq!(tag(&without, word).is_none(), left_out.contains(word), "{word} without {left_out:?}");
        }
        assert_eq!(without["annotations"].as_array().unwrap().len(), 1);
        let with = span(&collector, switch(collector.builder(), true));
        assert!(tag(&with, left_out[0]).is_some(), "{left_out:?}");
    }
    let annotation = |span: &Span| span["annotations"][0]["value"].as_str().unwrap().to_owned();
    assert!(annotation(&all).contains("\"level\":\"INFO\""));
    let without = span(&collector, collector.builder().level(false).target(false));
    assert!(!annotation(&without).contains("level") && !annotation(&without).contains("target"));
}

#[test]
fn without_kinds_and_status_their_fields_are_like_any_other() {
    let collector = Collector::bind();
    let all = span(&collector, collector.builder());
    assert_eq!((all["kind"].as_str(), tag(&all, "otel.kind")), (Some("CLIENT"), None));
    let without = span(&collector, collector.builder().kinds(false));
    assert_eq!((without.get("kind"), tag(&without, "otel.kind")), (None, Some("client")));
    assert_eq!(tag(&all, "otel.status_code"), Some("ERROR"));
    let without = span(&collector, collector.builder().status(false));
    assert_eq!(tag(&without, "otel.status_code"), Some("error"));
    assert_eq!(without["kind"].as_str(), Some("CLIENT"), "the other is not touched");
}

#[test]
fn a_client_says_whom_it_speaks_to() {
    let collector = Collector::bind();
    let endpoint = |make: Make| {
        let layer = collector.builder().build();
        with_default(tracing_subscriber::registry().with(layer), || drop(make()));
        collector.drain()[0].get("remoteEndpoint").cloned().unwrap_or_default()
    };
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let cases: [(Make, &str); 7] = [
        (
            || {
                info_span!(
                    "s",
                    otel.kind = "client",
                    peer.service = "db",
                    server.address = "db.local",
                    server.port = 5432
                )
            },
            r#"{"serviceName":"db","port":5432}"#,
        ),
        (
            || info_span!("s", otel.kind = "producer", server.address = "10.1.2.3", server.port = 80),
            r#"{"serviceName":"10.1.2.3","ipv4":"10.1.2.3","port":80}"#,
        ),
        (
            || {
                info_span!(
                    "s",
                    otel.kind = "client",
                    network.peer.address = "::1",
                    network.peer.port = "9",
                    peer.service = "x"
                )
            },
            r#"{"serviceName":"x","ipv6":"::1","port":9}"#,
        ),
        (|| info_span!("s", otel.kind = "client", server.port = 80), "null"),
        (|| info_span!("s", otel.kind = "client"), "null"),
        // Its own address.
        (|| info_span!("s", otel.kind = "server", server.address = "me"), "null"),
        (|| info_span!("s", peer.service = "db"), "null"),
    ];
    for (number, (make, expected)) in cases.into_iter().enumerate() {
        assert_eq!(endpoint(make), json(expected), "case {number}");
    }
}

/// Of the request's one resource.
fn resource(collector: &Collector, builder: Builder) -> Vec<(String, String)> {
    let layer = builder.format(Format::Otlp).build();
    with_default(tracing_subscriber::registry().with(layer), || drop(info_span!("span")));
    let request: Value = serde_json::from_str(&collector.drain_text()[0]).unwrap();
    let attributes = request["resourceSpans"][0]["resource"]["attributes"].as_array().unwrap();
    let text =
        |value: &Value| value.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
    attributes.iter().map(|pair| (pair["key"].as_str().unwrap().to_owned(), text(&pair["value"]))).collect()
}

#[test]
fn the_resource_says_which_process_on_which_host() {
    let collector = Collector::bind();
    let all = resource(&collector, collector.builder().resource_attribute("host.name", "mine"));
    let of = |key: &str| {
        let mut found = all.iter().filter(|(known, _)| known == key);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{key} is there twice");
        value
    };
    assert_eq!(of("service.name"), Some("test"));
    assert_eq!(of("process.pid"), Some(&*std::process::id().to_string()));
    assert!(of("process.executable.name").unwrap().starts_with("vocabulary"));
    assert_eq!(of("host.name"), Some("mine"), "what its user says stands");
    assert_eq!((of("os.type"), of("telemetry.sdk.language")), (Some(std::env::consts::OS), Some("rust")));
    let none = resource(&collector, collector.builder().resource_detection(false));
    assert_eq!(none, [("service.name".to_owned(), "test".to_owned())]);
}

/// Its context says so to the next process. (Not with the feature: there it would have to ask OpenTelemetry too early.)
/// Here, where nothing else has told the layer to look at spans that nobody listens to.
#[cfg(not(feature = "tracing-opentelemetry"))]
#[test]
fn a_span_says_itself_whether_it_is_sampled_also_while_nobody_listens() {
    let layer = tracing_usdt::builder().no_socket().parent(None).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let is_sampled = |span: &tracing::Span| span.context().unwrap().is_sampled();
        let root = info_span!("root");
        let quiet = root.in_scope(|| info_span!("quiet", sampling.priority = 0));
        let below = quiet.in_scope(|| info_span!("below"));
        let loud = below.in_scope(|| info_span!("loud", sampling.priority = 1));
        let undecided = loud.in_scope(|| info_span!("undecided", sampling.priority = "perhaps"));
        let found = [&root, &quiet, &below, &loud, &undecided].map(is_sampled);
        assert_eq!(found, [true, false, false, true, true]);
        let trace = |span: &tracing::Span| span.context().unwrap().trace_id();
        assert_eq!(trace(&undecided), trace(&root));
    });
}
