//! OpenTelemetry's attributes for a span. Each can be left out.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

mod collector;

use collector::{Collector, Span, assert_stats_add_up, tag};
use serde_json::Value;
use tracing::{info_span, subscriber::with_default};
use tracing_subscriber::prelude::*;
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

/// Sends a span that has every optional attribute.
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
    assert_stats_add_up(&handle);
    collector.drain().into_iter().find(|span| span["name"] == "span").unwrap()
}

type Switch = fn(Builder, bool) -> Builder;
type Make = fn() -> tracing::Span;

#[test]
fn each_attribute_can_be_left_out() {
    let collector = Collector::bind();
    let switches: [(Switch, &[&str]); 7] = [
        (Builder::with_level, &["level"]),
        (Builder::with_target, &["target"]),
        (Builder::with_location, &["code.file.path", "code.line.number", "code.module.name"]),
        (Builder::with_threads, &["thread.id", "thread.name"]),
        (Builder::with_tracked_inactivity, &["busy_ns", "idle_ns"]),
        (Builder::with_error_fields_to_exceptions, &["exception.message", "exception.stacktrace"]),
        (Builder::with_links, &["follows_from"]),
    ];
    let keys: Vec<&str> = switches.iter().flat_map(|(_, keys)| keys.iter().copied()).collect();
    let all = span(&collector, collector.builder());
    for key in &keys {
        assert!(tag(&all, key).is_some(), "{key} in {all:?}");
    }
    for (switch, left_out) in switches {
        let without = span(&collector, switch(collector.builder(), false));
        for key in &keys {
            assert_eq!(tag(&without, key).is_none(), left_out.contains(key), "{key} without {left_out:?}");
        }
        assert_eq!(without["annotations"].as_array().unwrap().len(), 1);
        let with = span(&collector, switch(collector.builder(), true));
        assert!(tag(&with, left_out[0]).is_some(), "{left_out:?}");
    }
    let annotation = |span: &Span| span["annotations"][0]["value"].as_str().unwrap().to_owned();
    assert!(annotation(&all).contains("\"level\":\"INFO\""));
    let without = span(&collector, collector.builder().with_level(false).with_target(false));
    assert!(!annotation(&without).contains("level") && !annotation(&without).contains("target"));
}

#[test]
fn without_kinds_and_status_their_fields_become_tags() {
    let collector = Collector::bind();
    let all = span(&collector, collector.builder());
    assert_eq!((all["kind"].as_str(), tag(&all, "otel.kind")), (Some("CLIENT"), None));
    let without = span(&collector, collector.builder().with_kinds(false));
    assert_eq!((without.get("kind"), tag(&without, "otel.kind")), (None, Some("client")));
    assert_eq!(tag(&all, "otel.status_code"), Some("ERROR"));
    let without = span(&collector, collector.builder().with_status(false));
    assert_eq!(tag(&without, "otel.status_code"), Some("error"));
    assert_eq!(without["kind"].as_str(), Some("CLIENT"), "the kind is not affected");
}

#[test]
fn a_client_span_has_a_remote_endpoint() {
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
        // A server's own address.
        (|| info_span!("s", otel.kind = "server", server.address = "me"), "null"),
        (|| info_span!("s", peer.service = "db"), "null"),
    ];
    for (number, (make, expected)) in cases.into_iter().enumerate() {
        assert_eq!(endpoint(make), json(expected), "case {number}");
    }
}

/// The attributes of the request's only resource.
fn resource(collector: &Collector, builder: Builder) -> Vec<(String, String)> {
    let layer = builder.with_format(Format::OtlpJson).build();
    with_default(tracing_subscriber::registry().with(layer), || drop(info_span!("span")));
    let request: Value = serde_json::from_str(&collector.drain_text()[0]).unwrap();
    let attributes = request["resourceSpans"][0]["resource"]["attributes"].as_array().unwrap();
    let text =
        |value: &Value| value.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
    attributes.iter().map(|pair| (pair["key"].as_str().unwrap().to_owned(), text(&pair["value"]))).collect()
}

#[test]
fn the_resource_describes_process_and_host() {
    let collector = Collector::bind();
    let all = resource(&collector, collector.builder().with_resource_attribute("host.name", "mine"));
    let of = |key: &str| {
        let mut found = all.iter().filter(|(known, _)| known == key);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{key} occurs twice");
        value
    };
    assert_eq!(of("service.name"), Some("test"));
    assert_eq!(of("process.pid"), Some(&*std::process::id().to_string()));
    assert!(of("process.executable.name").unwrap().starts_with("vocabulary"));
    assert_eq!(of("host.name"), Some("mine"), "the user's attribute was replaced");
    assert_eq!((of("os.type"), of("telemetry.sdk.language")), (Some(std::env::consts::OS), Some("rust")));
    let none = resource(&collector, collector.builder().with_resource_detection(false));
    assert_eq!(none, [("service.name".to_owned(), "test".to_owned())]);
}

/// The span's context carries the decision to the next process. This file has no other test that makes the
/// layer keep contexts while nobody listens.
#[test]
fn sampling_priority_decides_while_nobody_listens() {
    let layer = tracing_usdt::builder().without_socket().without_remote_parent().build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let is_sampled = |span: &tracing::Span| span.trace_context().unwrap().is_sampled();
        let root = info_span!("root");
        let quiet = root.in_scope(|| info_span!("quiet", sampling.priority = 0));
        let below = quiet.in_scope(|| info_span!("below"));
        let loud = below.in_scope(|| info_span!("loud", sampling.priority = 1));
        let undecided = loud.in_scope(|| info_span!("undecided", sampling.priority = "perhaps"));
        let found = [&root, &quiet, &below, &loud, &undecided].map(is_sampled);
        assert_eq!(found, [true, false, false, true, true]);
        let trace = |span: &tracing::Span| span.trace_context().unwrap().trace_id();
        assert_eq!(trace(&undecided), trace(&root));
    });
}
