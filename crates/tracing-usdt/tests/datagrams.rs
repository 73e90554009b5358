//! The content of a span's datagram.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod collector;

use std::error::Error;
use std::fmt;

use collector::{Collector, tag, text};
use serde_json::{Value, json};
use tracing::field::Empty;
use tracing::{Level, error, event, info, info_span, span, warn};
use tracing_subscriber::prelude::*;
use tracing_usdt::{Delivery, SpanExt};

fn annotations(span: &collector::Span) -> Vec<&str> {
    let all = span.get("annotations").and_then(Value::as_array);
    all.into_iter().flatten().map(|a| a["value"].as_str().unwrap()).collect()
}

/// The event's name and attributes in an annotation's value.
fn event_of(value: &str) -> (String, Value) {
    let object: Value = serde_json::from_str(&format!("{{{value}}}")).unwrap();
    let (name, attributes) = object.as_object().unwrap().iter().next().unwrap();
    (name.clone(), attributes.clone())
}

#[derive(Debug)]
struct Outer(std::io::Error);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("loading failed")
    }
}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn a_span_has_the_members_of_the_wire_format() {
    let collector = Collector::bind();
    let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
    let spans = collector.spans_of(|| drop(info_span!("one")));
    let after = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
    let span = &spans["one"];

    let keys: Vec<&str> = span.keys().map(String::as_str).collect();
    let expected = ["duration", "id", "localEndpoint", "name", "tags", "timestamp", "traceId", "tracingUsdt"];
    assert_eq!(keys, expected, "kind, parent and annotations are left out if there are none");
    for (key, digits) in [("traceId", 32), ("id", 16)] {
        let id = text(span, key);
        assert_eq!(id.len(), digits, "{key} {id}");
        assert!(id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{key} {id}");
        assert!(id.bytes().any(|b| b != b'0'), "{key} is zero");
    }
    let timestamp = span["timestamp"].as_u64().unwrap();
    // The layer's offset between the clocks may be a second old, and the wall clock may have been slewed since.
    let slack_us = 10_000;
    assert!((before - slack_us..=after + slack_us).contains(&timestamp), "{before} {timestamp} {after}");
    assert!(span["duration"].as_u64().unwrap() >= 1);
    assert_eq!(span["localEndpoint"], json!({"serviceName": "test"}));

    assert_eq!(tag(span, "level"), Some("INFO"));
    assert_eq!(tag(span, "target"), Some(module_path!()));
    assert_eq!(tag(span, "code.module.name"), Some(module_path!()));
    assert_eq!(tag(span, "code.file.path"), Some(file!()));
    assert!(tag(span, "code.line.number").unwrap().parse::<u32>().unwrap() > 0);
    assert!(tag(span, "thread.id").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(tag(span, "thread.name"), std::thread::current().name());
    assert_eq!(tag(span, "busy_ns"), Some("0"));
    assert!(tag(span, "idle_ns").unwrap().parse::<u64>().unwrap() > 0);
}

#[test]
fn every_kind_of_field_arrives() {
    let collector = Collector::bind();
    let spans = collector.spans_of(|| {
        let error: &dyn Error = &Outer(std::io::Error::other("disk on fire"));
        let span = info_span!(
            "kinds",
            signed = -7i64,
            unsigned = u64::MAX,
            wide = i128::MIN,
            wider = u128::MAX,
            narrow = 5i128,
            float = 0.1,
            whole = 2.0,
            huge = 1e300,
            nan = f64::NAN,
            up = f64::INFINITY,
            down = f64::NEG_INFINITY,
            yes = true,
            string = "quote \" backslash \\ nul \0 newline \n bell \u{7} é 🦀",
            bytes = &[0u8, 255, 16][..],
            debug = ?Some("x"),
            display = %"shown",
            failure = error,
            never = Empty,
            later = Empty,
            r#type = "raw identifier",
            "quoted name \"\n" = 1,
        );
        span.record("later", 3);
        span.record("later", "last");
        span.record("not a field", 1);
    });
    let tags = spans["kinds"]["tags"].as_object().unwrap();
    let expected = [
        ("signed", "-7"),
        ("unsigned", "18446744073709551615"),
        ("wide", "-170141183460469231731687303715884105728"),
        ("wider", "340282366920938463463374607431768211455"),
        ("narrow", "5"),
        ("float", "0.1"),
        ("whole", "2.0"),
        ("huge", "1e+300"),
        ("nan", "NaN"),
        ("up", "Infinity"),
        ("down", "-Infinity"),
        ("yes", "true"),
        ("string", "quote \" backslash \\ nul \0 newline \n bell \u{7} é 🦀"),
        ("bytes", "00ff10"),
        ("debug", "Some(\"x\")"),
        ("display", "shown"),
        ("failure", "loading failed"),
        ("failure.chain", "[\"disk on fire\"]"),
        ("exception.message", "loading failed"),
        ("exception.stacktrace", "[\"disk on fire\"]"),
        ("later", "last"),
        ("type", "raw identifier"),
        ("quoted name \"\n", "1"),
    ];
    for (key, value) in expected {
        assert_eq!(tags.get(key).and_then(Value::as_str), Some(value), "{key}");
    }
    assert!(!tags.contains_key("never"), "a field without a value");
    assert!(!tags.contains_key("not a field"));
}

#[test]
fn otel_fields_are_understood() {
    let collector = Collector::bind();
    let spans = collector.spans_of(|| {
        let late = info_span!("static", otel.name = Empty, otel.status_code = Empty);
        late.record("otel.name", "GET /late");
        late.record("otel.status_code", "OK");
        drop(late);
        drop(info_span!("a", otel.name = "server", otel.kind = "server"));
        drop(info_span!("b", otel.name = "debug kind", otel.kind = ?Kind::Client));
        drop(info_span!("c", otel.name = "internal", otel.kind = "internal"));
        drop(info_span!("d", otel.name = "odd kind", otel.kind = "sideways"));
        drop(info_span!("e", otel.name = "failed", otel.status_code = "error"));
        drop(info_span!("f", otel.name = "described", otel.status_description = "no such row"));
        drop(info_span!("g", otel.name = "field", error = "plain"));
        drop(info_span!("h", otel.name = "neither", otel.status_code = "dunno"));
    });
    #[derive(Debug)]
    enum Kind {
        Client,
    }
    assert_eq!(tag(&spans["GET /late"], "otel.status_code"), Some("OK"));
    assert_eq!(tag(&spans["GET /late"], "error"), None);
    let kind = |name: &str| spans[name].get("kind").and_then(Value::as_str);
    assert_eq!(kind("server"), Some("SERVER"));
    assert_eq!(kind("debug kind"), Some("CLIENT"));
    assert_eq!(kind("internal"), None);
    assert_eq!(kind("odd kind"), None);
    let status = |name: &str| (tag(&spans[name], "otel.status_code"), tag(&spans[name], "error"));
    assert_eq!(status("failed"), (Some("ERROR"), Some("")));
    assert_eq!(status("described"), (Some("ERROR"), Some("no such row")));
    assert_eq!(status("field"), (None, Some("plain")));
    assert_eq!(status("neither"), (None, None));
    for span in spans.values() {
        for key in ["otel.name", "otel.kind", "otel.status_description"] {
            assert_eq!(tag(span, key), None, "{key} was sent as a tag");
        }
    }
}

#[test]
fn events_are_annotations_of_the_span_they_happen_in() {
    let collector = Collector::bind();
    let spans = collector.spans_of(|| {
        let outer = info_span!("outer");
        outer.in_scope(|| {
            info!(n = 1, x = "y\"", "inside {}", "outer");
            let inner = info_span!("inner");
            info!(parent: &inner, "by parent");
            inner.in_scope(|| warn!("inside inner"));
            event!(parent: None, Level::INFO, "nowhere");
            event!(name: "named", Level::INFO, only = "fields", level = "mine");
        });
        info!("outside");
    });
    let outer: Vec<_> = annotations(&spans["outer"]).into_iter().map(event_of).collect();
    let target = module_path!();
    assert_eq!(
        outer,
        [
            ("inside outer".into(), json!({"level": "INFO", "target": target, "n": 1, "x": "y\""})),
            ("named".into(), json!({"level": "mine", "target": target, "only": "fields"})),
        ]
    );
    let inner: Vec<_> = annotations(&spans["inner"]).into_iter().map(event_of).collect();
    assert_eq!(inner[0].0, "by parent");
    assert_eq!(inner[1], ("inside inner".into(), json!({"level": "WARN", "target": target})));
    let start = spans["outer"]["timestamp"].as_u64().unwrap();
    // Start, duration and the event's time are rounded down to microseconds.
    let end = start + spans["outer"]["duration"].as_u64().unwrap() + 1;
    for annotation in spans["outer"]["annotations"].as_array().unwrap() {
        let at = annotation["timestamp"].as_u64().unwrap();
        assert!((start..=end).contains(&at), "{at} outside of {start}..{end}");
    }
}

#[test]
fn error_events_fail_the_span_as_in_tracing_opentelemetry() {
    let collector = Collector::bind();
    let failure = Outer(std::io::Error::other("disk on fire"));
    let spans = collector.spans_of(|| {
        info_span!("level").in_scope(|| error!("went wrong"));
        info_span!("plain").in_scope(|| error!(error = "no space"));
        info_span!("value").in_scope(|| error!(error = &failure as &dyn Error));
        info_span!("ok", otel.status_code = "ok").in_scope(|| error!("shrugged off"));
        info_span!("warned").in_scope(|| warn!("careful"));
        info_span!("no error").in_scope(|| info!(error = false, retries = 0));
    });
    let status = |name: &str| (tag(&spans[name], "otel.status_code"), tag(&spans[name], "error"));
    assert_eq!(status("level"), (Some("ERROR"), Some("")));
    assert_eq!(status("plain"), (Some("ERROR"), Some("no space")));
    assert_eq!(status("value"), (Some("ERROR"), Some("loading failed")));
    assert_eq!(status("ok"), (Some("OK"), None));
    assert_eq!(status("warned"), (None, None));
    assert_eq!(status("no error"), (None, None));

    let (name, attributes) = event_of(annotations(&spans["value"])[0]);
    assert_eq!(name, "exception");
    assert_eq!(attributes["exception.message"], "loading failed");
    assert_eq!(attributes["exception.stacktrace"], json!(["disk on fire"]));
    assert_eq!(tag(&spans["value"], "exception.message"), Some("loading failed"));
    assert_eq!(event_of(annotations(&spans["plain"])[0]).0, "exception");
}

#[test]
fn parents_are_contextual_explicit_or_none() {
    let collector = Collector::bind();
    let spans = collector.spans_of(|| {
        let root = info_span!("root");
        let other = info_span!("other root");
        root.in_scope(|| {
            let child = info_span!("child");
            child.in_scope(|| drop(info_span!("grandchild")));
            drop(info_span!(parent: &other, "elsewhere"));
            drop(info_span!(parent: None, "free"));
        });
    });
    let parent = |name: &str| spans[name].get("parentId").and_then(Value::as_str);
    let id = |name: &str| Some(text(&spans[name], "id"));
    let trace = |name: &str| text(&spans[name], "traceId");
    assert_eq!(parent("root"), None);
    assert_eq!(parent("child"), id("root"));
    assert_eq!(parent("grandchild"), id("child"));
    assert_eq!(parent("elsewhere"), id("other root"));
    assert_eq!(parent("free"), None);
    assert_eq!(trace("grandchild"), trace("root"));
    assert_eq!(trace("elsewhere"), trace("other root"));
    let roots = [trace("root"), trace("other root"), trace("free")];
    assert_eq!(std::collections::BTreeSet::from(roots).len(), 3, "each root has a trace of its own");
}

#[test]
fn follows_from_names_the_linked_spans() {
    let collector = Collector::bind();
    let spans = collector.spans_of(|| {
        let (a, b) = (info_span!("a"), info_span!("b"));
        let after = info_span!("after");
        after.follows_from(&a);
        after.follows_from(&b);
        let closed = a.id();
        drop(a);
        after.follows_from(closed);
    });
    let link = |name: &str| format!("{}-{}", text(&spans[name], "traceId"), text(&spans[name], "id"));
    let expected = format!("{},{}", link("a"), link("b"));
    assert_eq!(tag(&spans["after"], "follows_from"), Some(&*expected));
    assert_eq!(tag(&spans["a"], "follows_from"), None);
}

#[test]
fn a_users_field_replaces_the_layers_tag_of_the_same_name() {
    let collector = Collector::bind();
    let layer = collector.builder().with_resource_attribute("busy_ns", "resource").build();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        drop(span!(Level::INFO, "mine", thread.id = "my own", busy_ns = ?(), idle_ns = %1));
    });
    let text = collector.drain_text().concat();
    // Searches the text, because a parser hides a key that occurs twice.
    for (key, value) in [("thread.id", "my own"), ("busy_ns", "()"), ("idle_ns", "1")] {
        assert_eq!(text.matches(&format!("\"{key}\":")).count(), 1, "{key} in {text}");
        assert!(text.contains(&format!("\"{key}\":\"{value}\"")), "{key} in {text}");
    }
}

#[test]
fn time_after_the_last_exit_is_not_in_the_duration() {
    let collector = Collector::bind();
    let pause = std::time::Duration::from_millis(30);
    let spans = collector.spans_of(|| {
        let parent = info_span!("parent");
        let child = parent.in_scope(|| info_span!("child"));
        drop(parent);
        child.in_scope(|| std::thread::sleep(pause));
    });
    let number = |name: &str, key: &str| spans[name][key].as_u64().unwrap();
    let end = |name: &str| number(name, "timestamp") + number(name, "duration");
    assert!(number("child", "duration") >= 30_000);
    assert!(
        end("parent") + 30_000 <= end("child") + 2,
        "the parent's duration includes the child's work: {spans:?}"
    );
}

#[test]
fn every_root_continues_the_given_traceparent() {
    let collector = Collector::bind();
    let remote = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let parent = tracing_usdt::SpanContext::from_traceparent(remote).unwrap();
    let layer = collector.builder().with_remote_parent(parent).build();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        info_span!("root").in_scope(|| drop(info_span!("child")));
    });
    let spans = collector.drain();
    let (child, root) = (&spans[0], &spans[1]);
    assert_eq!(text(root, "traceId"), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(text(root, "parentId"), "00f067aa0ba902b7");
    assert_eq!(text(child, "traceId"), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(text(child, "parentId"), text(root, "id"));
}

#[test]
fn resource_attributes_are_on_every_span() {
    let collector = Collector::bind();
    let builder = collector.builder();
    let layer =
        builder.with_resource_attribute("host.name", "box").with_resource_attribute("level", "no").build();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        drop(info_span!("one"));
    });
    let spans = collector.drain();
    assert_eq!(tag(&spans[0], "host.name"), Some("box"));
    assert_eq!(tag(&spans[0], "level"), Some("INFO"));
}

#[test]
fn otlp_carries_the_same_in_its_own_members() {
    let collector = Collector::bind();
    let layer = collector.builder().with_format(tracing_usdt::Format::OtlpJson).build();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let outer = info_span!("outer", otel.kind = "client", wide = u64::MAX, nan = f64::NAN, yes = true);
        outer.in_scope(|| {
            (0..200).for_each(|n| info!(n, "tick"));
            error!(error = "no space");
        });
        drop(info_span!(parent: &outer, "inner", otel.status_code = "ok", bytes = &b"\x01\xff"[..]));
    });
    let spans: Vec<Value> = collector
        .drain_text()
        .iter()
        .map(|text| serde_json::from_str::<Value>(text).unwrap())
        .map(|mut request| request["resourceSpans"][0]["scopeSpans"][0]["spans"][0].take())
        .collect();
    let (inner, outer) = (&spans[0], &spans[1]);
    assert_eq!((&inner["name"], &outer["name"]), (&json!("inner"), &json!("outer")));
    assert_eq!(inner["parentSpanId"], outer["spanId"]);
    assert_eq!(inner["traceId"], outer["traceId"]);
    assert_eq!((&inner["kind"], &outer["kind"]), (&json!(1), &json!(3)));
    assert_eq!(inner["status"], json!({"code": 1}));
    assert_eq!(outer["status"], json!({"message": "no space", "code": 2}));
    let attribute = |span: &Value, key: &str| {
        let all = span["attributes"].as_array().unwrap();
        all.iter().find(|attribute| attribute["key"] == key).map(|attribute| attribute["value"].clone())
    };
    assert_eq!(attribute(outer, "wide"), Some(json!({"stringValue": "18446744073709551615"})));
    assert_eq!(attribute(outer, "nan"), Some(json!({"doubleValue": "NaN"})));
    assert_eq!(attribute(outer, "yes"), Some(json!({"boolValue": true})));
    assert_eq!(attribute(inner, "bytes"), Some(json!({"stringValue": "01ff"})));
    for key in ["otel.kind", "otel.status_code", "error"] {
        assert_eq!(attribute(outer, key).or(attribute(inner, key)), None, "{key} has a member of its own");
    }
    let events = outer["events"].as_array().unwrap().len() as u64;
    assert_eq!(events + outer["droppedEventsCount"].as_u64().unwrap(), 201);
    let nanos = |key: &str| outer[key].as_str().unwrap().parse::<u64>().unwrap();
    assert!(nanos("startTimeUnixNano") < nanos("endTimeUnixNano"));
}

#[test]
fn otlp_reports_losses() {
    let collector = Collector::bind();
    let layer = collector.builder().with_format(tracing_usdt::Format::OtlpJson).build();
    let handle = layer.handle();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        while handle.stats().dropped.queue_full < 3 {
            drop(info_span!("span"));
        }
        collector.drain_text();
    });
    drop(handle);
    let last = collector.drain_text();
    assert_eq!(last.len(), 1);
    let request: Value = serde_json::from_str(&last[0]).unwrap();
    let span = &request["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(span["name"], "tracing_usdt.dropped");
    let lost = json!([{"key": "tracing_usdt.dropped.queue_full", "value": {"intValue": "3"}}]);
    assert_eq!(span["attributes"], lost);
}

/// The OTLP status of each span that `f` makes, by name.
fn otlp_statuses(f: impl Fn()) -> std::collections::BTreeMap<String, Value> {
    let collector = Collector::bind();
    let layer = collector
        .builder()
        .with_format(tracing_usdt::Format::OtlpJson)
        .with_delivery(Delivery::Background)
        .build();
    let handle = layer.handle();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), f);
    handle.flush(collector::TIMEOUT).unwrap();
    let requests = collector.drain_text();
    let spans = requests.iter().flat_map(|text| {
        let mut request: Value = serde_json::from_str(text).unwrap();
        let spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"].take();
        spans.as_array().unwrap().clone()
    });
    spans.map(|span| (span["name"].as_str().unwrap().to_owned(), span["status"].clone())).collect()
}

#[test]
fn an_error_field_that_means_no_error_fails_no_span() {
    let well = || {
        info_span!("bool", error = false);
        info_span!("display", error = %false);
        info_span!("debug", error = ?false);
        info_span!("text", error = "False");
        info_span!("zero", error = 0);
        info_span!("unsigned zero", error = 0_u8);
        info_span!("wide zero", error = 0_u128);
        info_span!("none", error = ?None::<std::io::Error>);
        info_span!("later", error = Empty).record("error", false);
        info_span!("last value", error = true).record("error", false);
        info_span!("attribute").record_attribute("error", false);
        info_span!("event").in_scope(|| info!(error = false));
        info_span!("event's text").in_scope(|| info!(error = %false, "went well"));
        info_span!("event's text alone").in_scope(|| info!(error = %false));
        info_span!("event's none").in_scope(|| info!(error = ?None::<u8>));
    };
    let collector = Collector::bind();
    for (name, span) in collector.spans_of(well) {
        assert_eq!((tag(&span, "error"), tag(&span, "otel.status_code")), (None, None), "{name}");
    }
    for (name, status) in otlp_statuses(well) {
        assert_eq!(status, Value::Null, "{name}");
    }
}

#[test]
fn an_error_field_that_means_an_error_fails_its_span() {
    let failed = || {
        let failure = Outer(std::io::Error::other("disk on fire"));
        info_span!("bool", error = true);
        info_span!("text", error = "no such user");
        info_span!("number", error = 13);
        info_span!("value", error = &failure as &dyn Error);
        info_span!("some", error = ?Some("x"));
        info_span!("last value", error = false).record("error", true);
        info_span!("reason", error = true).in_scope(|| error!(error = "no space"));
        info_span!("denied", error = false).in_scope(|| error!(error = "no space"));
        info_span!("event").in_scope(|| info!(error = true));
    };
    let zipkin = Collector::bind().spans_of(failed);
    let otlp = otlp_statuses(failed);
    for (name, tagged, described) in [
        ("bool", "true", ""),
        ("text", "no such user", "no such user"),
        ("number", "13", "13"),
        ("value", "loading failed", "loading failed"),
        ("some", "Some(\"x\")", "Some(\"x\")"),
        ("last value", "true", ""),
        ("reason", "no space", "no space"),
        ("denied", "no space", "no space"),
        ("event", "", ""),
    ] {
        assert_eq!(tag(&zipkin[name], "error"), Some(tagged), "{name}");
        let message = (!described.is_empty()).then_some(described);
        assert_eq!(
            (otlp[name]["code"].as_u64(), otlp[name]["message"].as_str()),
            (Some(2), message),
            "{name}"
        );
    }
    let explicit = || drop(info_span!("span", error = "retried", otel.status_code = "ok"));
    assert_eq!(
        otlp_statuses(explicit)["span"],
        json!({"code": 1}),
        "an explicit status overrides the error field"
    );
    assert_eq!(tag(&Collector::bind().spans_of(explicit)["span"], "otel.status_code"), Some("OK"));
}
