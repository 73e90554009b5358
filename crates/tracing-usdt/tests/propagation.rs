//! One trace across processes: remote parents, contexts to propagate, and sampling decisions.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // a failing test is a panic

mod collector;

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use collector::{Collector, Span, assert_stats_add_up, tag, text};
use tracing::{Level, debug_span, info_span, subscriber::with_default};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{Layer, Registry, prelude::*};
use tracing_usdt::{
    Delivery, Format, Handle, Sampler, SamplingRequest, SpanContext, SpanExt, Status, TraceState,
};

const REMOTE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const REMOTE_OFF: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

fn remote(traceparent: &str, tracestate: &str) -> SpanContext {
    let state = TraceState::parse([tracestate]).unwrap();
    SpanContext::from_traceparent(traceparent).unwrap().with_trace_state(state)
}

/// Runs `f` under the layer of `builder`, and returns the sent spans by name.
fn sent(
    collector: &Collector,
    builder: tracing_usdt::Builder,
    f: impl FnOnce(),
) -> (HashMap<String, Span>, Handle) {
    let layer = builder.build();
    let handle = layer.handle();
    let begin = SystemTime::now();
    with_default(tracing_subscriber::registry().with(layer), f);
    handle.flush(Duration::from_secs(10)).unwrap();
    let spans = collector.drain();
    assert_stats_add_up(&handle);
    // Also holds for spans whose trace was sampled only after they, or their parents, began.
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let during = since(begin - Duration::from_secs(1))..since(SystemTime::now() + Duration::from_secs(1));
    for span in &spans {
        assert!(during.contains(&span["timestamp"].as_u64().unwrap()), "{during:?}: {span:?}");
    }
    (spans.into_iter().map(|span| (text(&span, "name").to_owned(), span)).collect(), handle)
}

/// The span's trace id and parent id.
fn lineage(span: &Span) -> (&str, Option<&str>) {
    (text(span, "traceId"), span.get("parentId").and_then(|id| id.as_str()))
}

#[test]
fn a_remote_parent_is_continued() {
    let collector = Collector::bind();
    let (spans, _) = sent(&collector, collector.builder(), || {
        let caller = remote(REMOTE, "a=1");
        let early = caller.in_scope(|| info_span!("early"));
        let late = info_span!("late");
        late.set_remote_parent(caller.clone());
        for span in [early, late] {
            let context = span.trace_context().unwrap();
            assert_eq!((context.trace_id(), context.is_sampled()), (caller.trace_id(), true));
            assert_ne!(context.span_id(), caller.span_id());
            let child = span.in_scope(|| info_span!("child"));
            let of_child = child.trace_context().unwrap();
            assert_eq!(
                (of_child.trace_id(), of_child.trace_state()),
                (caller.trace_id(), caller.trace_state())
            );
            assert!(of_child.to_traceparent().ends_with("-01"), "only the caller sets the random flag");
        }
        let own = info_span!("own").trace_context().unwrap();
        assert_ne!(own.trace_id(), caller.trace_id());
        assert!(own.to_traceparent().ends_with("-03"), "sampled, and random as in Trace Context level 2");
        assert!(own.trace_state().is_empty());
    });
    for name in ["early", "late"] {
        let expected = ("4bf92f3577b34da6a3ce929d0e0e4736", Some("00f067aa0ba902b7"));
        assert_eq!(lineage(&spans[name]), expected, "{name}");
    }
    assert_eq!(lineage(&spans["child"]), (text(&spans["late"], "traceId"), spans["late"]["id"].as_str()));
    assert_eq!(lineage(&spans["own"]).1, None);
}

/// Its context is still propagated.
#[test]
fn a_trace_that_is_not_sampled_is_continued_but_not_sent() {
    let collector = Collector::bind();
    let (spans, handle) = sent(&collector, collector.builder(), || {
        let span = remote(REMOTE_OFF, "a=1").in_scope(|| info_span!("early"));
        let child = span.in_scope(|| info_span!("child"));
        let context = child.trace_context().unwrap();
        assert_eq!(&context.to_traceparent()[..36], &REMOTE[..36]);
        assert!(context.to_traceparent().ends_with("-00"));
        assert_eq!(context.trace_state().to_string(), "a=1");
        let late = info_span!("late", field = 1);
        late.set_remote_parent(remote(REMOTE_OFF, ""));
        assert!(!late.trace_context().unwrap().is_sampled());
    });
    assert_eq!(spans.len(), 0, "{spans:?}");
    assert_eq!((handle.stats().closed, handle.stats().dropped.sampled_out), (3, 3));
}

/// Fields from before the decision were not recorded. They are counted as dropped.
#[test]
fn a_span_that_is_sampled_after_it_began_is_sent() {
    let collector = Collector::bind();
    let off = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
    let (spans, _) = sent(&collector, collector.builder().with_sampler(off), || {
        let span = info_span!("late", a = 1, b = 2);
        span.set_remote_parent(remote(REMOTE, ""));
        span.record("b", 3);
        span.in_scope(|| drop(info_span!("child", c = 1)));
    });
    let late = &spans["late"];
    assert_eq!(lineage(late), ("4bf92f3577b34da6a3ce929d0e0e4736", Some("00f067aa0ba902b7")));
    assert_eq!((tag(late, "b"), tag(late, "otel.dropped_attributes_count")), (Some("3"), Some("2")));
    assert_eq!(tag(&spans["child"], "c"), Some("1"));
}

/// No socket is set, and no consumer is attached.
#[test]
fn contexts_are_propagated_while_nobody_listens() {
    let layer = tracing_usdt::builder().without_socket().without_remote_parent().build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let caller = remote(REMOTE, "a=1");
        let early = caller.in_scope(|| info_span!("early"));
        let late = info_span!("late");
        late.set_remote_parent(caller.clone());
        for span in [early, late] {
            let child = span.in_scope(|| info_span!("child"));
            let grandchild = child.in_scope(|| info_span!("grandchild"));
            for span in [&span, &child, &grandchild] {
                let context = span.trace_context().unwrap();
                assert_eq!(
                    (context.trace_id(), context.trace_state()),
                    (caller.trace_id(), caller.trace_state())
                );
                assert_eq!(span.trace_context().unwrap(), context, "the context changed");
            }
            let ids = [&span, &child, &grandchild].map(|span| span.trace_context().unwrap().span_id());
            assert!(ids[0] != ids[1] && ids[1] != ids[2]);
        }
        let root = info_span!("root");
        let context = root.trace_context().unwrap();
        assert_eq!(
            root.in_scope(|| info_span!("child")).trace_context().unwrap().trace_id(),
            context.trace_id()
        );
    });
}

#[test]
fn without_the_layer_there_is_no_context() {
    assert_eq!(info_span!("nobody").trace_context(), None);
    with_default(Registry::default(), || assert_eq!(info_span!("registry only").trace_context(), None));
    assert_eq!(tracing::Span::none().trace_context(), None);
    // These calls do nothing.
    let span = tracing::Span::none();
    span.set_remote_parent(remote(REMOTE, ""));
    span.record_attribute("a", 1);
    span.record_status(Status::Ok);
}

#[test]
fn contexts_work_through_filters_and_boxed_layers() {
    let layer = || tracing_usdt::builder().without_socket().without_remote_parent().build();
    let check = || {
        let caller = remote(REMOTE, "");
        let span = caller.in_scope(|| info_span!("span"));
        assert_eq!(span.trace_context().unwrap().trace_id(), caller.trace_id());
        // Our layer may not see this span. It may still have a context.
        let debug = span.in_scope(|| debug_span!("debug"));
        if let Some(context) = debug.trace_context() {
            assert_eq!(context.trace_id(), caller.trace_id());
        }
    };
    macro_rules! fmt {
        () => {
            tracing_subscriber::fmt::layer().with_writer(std::io::sink)
        };
    }
    with_default(
        tracing_subscriber::registry().with(fmt!()).with(layer().with_filter(LevelFilter::INFO)),
        check,
    );
    with_default(tracing_subscriber::registry().with(layer().boxed()).with(fmt!()), check);
    with_default(tracing_subscriber::registry().with(Some(layer())), check);
    with_default(tracing_subscriber::registry().with(vec![layer()]), check);
    with_default(tracing_subscriber::registry().with(layer()).with(layer()), check);
}

/// The hidden span is not sent, so its context is that of a span that is.
#[test]
fn a_span_hidden_by_a_filter_has_the_context_of_its_parent() {
    let collector = Collector::bind();
    let layer = collector.builder().build().with_filter(LevelFilter::INFO);
    let fmt = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
    with_default(tracing_subscriber::registry().with(fmt).with(layer), || {
        let shown = info_span!("shown");
        let hidden = shown.in_scope(|| debug_span!("hidden"));
        assert_eq!(hidden.trace_context(), shown.trace_context());
        let alone = debug_span!(parent: None, "alone");
        assert_eq!(alone.trace_context(), alone.trace_context());
    });
}

/// A span around the scope, whose context has not been read yet, is not affected.
#[test]
fn a_scope_is_the_parent_only_of_roots_that_begin_in_it() {
    let layer = tracing_usdt::builder().without_socket().without_remote_parent().build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let caller = remote(REMOTE, "a=1");
        let consumer = info_span!("consumer");
        let message =
            consumer.in_scope(|| caller.in_scope(|| info_span!("message").trace_context().unwrap()));
        assert_ne!(message.trace_id(), caller.trace_id());
        assert_eq!(consumer.trace_context().unwrap().trace_id(), message.trace_id());
        let own = consumer
            .in_scope(|| caller.in_scope(|| info_span!(parent: None, "message").trace_context().unwrap()));
        assert_eq!((own.trace_id(), own.trace_state()), (caller.trace_id(), caller.trace_state()));
    });
}

/// The parent is already counted as sampled out, so a child that is sent would lack its parent. (Beside
/// OpenTelemetry, which decides later, the span is kept.)
#[test]
fn a_span_below_one_that_is_not_sampled_is_not_sampled() {
    let collector = Collector::bind();
    let (spans, handle) = sent(&collector, collector.builder().with_sampler(Sampler::default()), || {
        let poll = remote(REMOTE_OFF, "").in_scope(|| info_span!("poll"));
        let message = poll.in_scope(|| info_span!("message"));
        message.set_remote_parent(remote(REMOTE, "a=1"));
        let context = message.trace_context().unwrap();
        assert_eq!((context.is_sampled(), context.trace_state().to_string()), (false, "a=1".to_owned()));
        let below = message.in_scope(|| info_span!("below")).trace_context().unwrap();
        assert!(!below.is_sampled());
        assert_eq!(below.trace_id(), context.trace_id());
    });
    assert_eq!((spans.len(), handle.stats().dropped.sampled_out), (0, 3));
}

#[test]
fn values_recorded_after_the_creation_are_sent() {
    for delivery in [Delivery::Inline, Delivery::Background] {
        assert_recorded_values_are_sent(delivery);
    }
}

fn assert_recorded_values_are_sent(delivery: Delivery) {
    let collector = Collector::bind();
    let (spans, _) = sent(&collector, collector.builder().with_delivery(delivery), || {
        let span = info_span!("span", known = 1, otel.kind = "server");
        span.record_attribute("text", "t");
        span.record_attribute("number", 7);
        span.record_attribute("length", "four".len());
        span.record_attribute("greatest", u64::MAX);
        span.record_attribute("least", i128::MIN);
        span.record_attribute("ratio", 0.5);
        span.record_attribute("truth", true);
        span.record_attribute("known", "again");
        span.record_attribute("level", "mine");
        span.record_attribute("otel.name", "given");
        span.link_to(&remote(REMOTE, ""));
        span.record_status(Status::error("it broke"));
        let again = info_span!("again");
        again.record_status(Status::error("first"));
        again.record_status(Status::error(""));
        let fine = info_span!("fine");
        fine.record_status(Status::error("not yet known"));
        fine.in_scope(|| tracing::error!("not so bad"));
        fine.record_status(Status::Ok);
    });
    let span = &spans["given"];
    for (key, value) in [
        ("text", "t"),
        ("number", "7"),
        ("length", "4"),
        ("greatest", "18446744073709551615"),
        ("least", "-170141183460469231731687303715884105728"),
        ("ratio", "0.5"),
        ("truth", "true"),
        ("known", "again"),
        ("level", "mine"),
        ("error", "it broke"),
        ("follows_from", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"),
    ] {
        assert_eq!(tag(span, key), Some(value), "{key}");
    }
    assert_eq!(span["kind"].as_str(), Some("SERVER"));
    assert_eq!(
        (tag(&spans["again"], "otel.status_code"), tag(&spans["again"], "error")),
        (Some("ERROR"), Some(""))
    );
    assert_eq!((tag(&spans["fine"], "otel.status_code"), tag(&spans["fine"], "error")), (Some("OK"), None));
}

#[test]
fn otlp_has_the_flags_and_state_of_parents_and_links() {
    for delivery in [Delivery::Inline, Delivery::Background] {
        assert_otlp_flags_and_states(delivery);
    }
}

fn assert_otlp_flags_and_states(delivery: Delivery) {
    let collector = Collector::bind();
    let layer = collector.builder().with_format(Format::OtlpJson).with_delivery(delivery).build();
    let handle = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        let span = remote(REMOTE, "a=1,b=2").in_scope(|| info_span!("remote"));
        span.in_scope(|| drop(info_span!("local")));
        drop(info_span!("root"));
        let links = info_span!("links");
        links.link_to(&remote(REMOTE_OFF, "c=\"3\""));
        links.link_to(&remote(REMOTE, ""));
        links.follows_from(&span);
        let full = info_span!("full");
        let state = format!("k={}", "v".repeat(256));
        (0..1000).for_each(|_| full.link_to(&remote(REMOTE, &state)));
    });
    handle.flush(Duration::from_secs(10)).unwrap();
    assert_stats_add_up(&handle);
    let mut found = HashMap::new();
    for text in collector.drain_text() {
        let mut request: serde_json::Value = serde_json::from_str(&text).unwrap();
        for span in request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array_mut().unwrap() {
            found.insert(span["name"].as_str().unwrap().to_owned(), span.take());
        }
    }
    let of = |name: &str| (found[name]["flags"].as_u64(), found[name]["traceState"].as_str());
    // Bit 8: the flags tell whether the parent is remote. Bit 9: the parent is remote. The lower bits are W3C's.
    assert_eq!(of("remote"), (Some(0x301), Some("a=1,b=2")));
    assert_eq!(of("local"), (Some(0x101), Some("a=1,b=2")));
    assert_eq!(of("root"), (Some(0x103), None));
    // A link that was added by its context may be local or remote, so bits 8 and 9 are not set.
    let links = found["links"]["links"].as_array().unwrap();
    let of =
        |link: &serde_json::Value| (link["flags"].as_u64(), link["traceState"].as_str().map(str::to_owned));
    assert_eq!(of(&links[0]), (Some(0x00), Some("c=\"3\"".to_owned())));
    assert_eq!(of(&links[1]), (Some(0x01), None));
    assert_eq!(of(&links[2]), (Some(0x101), Some("a=1,b=2".to_owned())));
    assert_eq!(links[2]["spanId"], found["remote"]["spanId"]);
    // Their length limits the links, and the others are counted as dropped.
    let (kept, dropped) =
        (found["full"]["links"].as_array().unwrap().len(), &found["full"]["droppedLinksCount"]);
    assert!((10..128).contains(&kept), "{kept}");
    assert_eq!(dropped.as_u64(), Some(1000 - kept as u64));
}

#[test]
fn sampling_priority_overrides_the_sampler() {
    let collector = Collector::bind();
    let (spans, handle) = sent(&collector, collector.builder(), || {
        let noisy = info_span!("noisy", sampling.priority = 0);
        noisy.in_scope(|| drop(info_span!("in noise")));
        assert!(!noisy.trace_context().unwrap().is_sampled());
        drop(info_span!("as ever", sampling.priority = 1));
    });
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["as ever"]);
    assert_eq!(handle.stats().dropped.sampled_out, 2);
    let (spans, _) = sent(&collector, collector.builder().with_sampler(Sampler::AlwaysOff), || {
        let root = info_span!("root");
        let asked = root.in_scope(|| info_span!("asked for", sampling.priority = true, n = 1));
        asked.in_scope(|| drop(info_span!("below")));
    });
    assert_eq!(spans.len(), 2);
    assert_eq!(tag(&spans["asked for"], "n"), Some("1"));
    assert_eq!(spans["below"]["parentId"], spans["asked for"]["id"]);
}

#[test]
fn sampling_priority_overrides_a_remote_parent_while_nobody_listens() {
    let layer = tracing_usdt::builder().without_socket().without_remote_parent().build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let continued = remote(REMOTE, "").in_scope(|| info_span!("continued", sampling.priority = false));
        let context = continued.trace_context().unwrap();
        assert_eq!((context.is_sampled(), context.trace_id()), (false, remote(REMOTE, "").trace_id()));
    });
}

#[test]
fn a_custom_sampler_decides() {
    let collector = Collector::bind();
    let own = Sampler::custom(|trace: &SamplingRequest| {
        trace.parent_sampled != Some(false) && *trace.metadata.level() <= Level::INFO
    });
    let (spans, _) = sent(&collector, collector.builder().with_sampler(own), || {
        debug_span!("left out").in_scope(|| drop(info_span!("with it")));
        info_span!("sent").in_scope(|| drop(debug_span!("too")));
        remote(REMOTE_OFF, "").in_scope(|| drop(info_span!("not for the parent's sake")));
    });
    let mut names: Vec<_> = spans.keys().collect();
    names.sort();
    assert_eq!(names, ["sent", "too"]);
}

#[test]
fn a_parent_from_the_environment_keeps_its_trace_state() {
    let collector = Collector::bind();
    let builder = collector.builder().with_remote_parent(remote(REMOTE, "a=1"));
    sent(&collector, builder, || {
        let child = info_span!("root").in_scope(|| info_span!("child"));
        assert_eq!(child.trace_context().unwrap().trace_state().to_string(), "a=1");
        let other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let other = remote(other, "").in_scope(|| info_span!("other"));
        assert!(other.trace_context().unwrap().trace_state().is_empty(), "of another trace");
    });
}

/// The layer's decision for each trace, as `1` or `0`.
fn decisions(builder: tracing_usdt::Builder, parents: impl Iterator<Item = SpanContext>) -> String {
    let layer = builder.without_socket().without_remote_parent().build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let sampled = |parent: SpanContext| {
            parent.in_scope(|| info_span!("span")).trace_context().is_some_and(|context| context.is_sampled())
        };
        parents.map(|parent| if sampled(parent) { '1' } else { '0' }).collect()
    })
}

/// The other process of `two_processes_decide_alike`. Its sampler comes from the environment, and it reads the
/// parents from stdin.
#[test]
#[ignore = "run by two_processes_decide_alike"]
fn decides() {
    let parents = std::io::stdin().lines().map(|line| SpanContext::from_traceparent(&line.unwrap()).unwrap());
    println!("decided {}", decisions(tracing_usdt::builder(), parents));
}

#[test]
fn two_processes_decide_alike() {
    const TRACES: usize = 100_000;
    const RATIO: f64 = 0.3;
    // Half of the parents are sampled. Only the trace id decides.
    let draw = |n: usize| {
        let context = info_span!("root").trace_context().unwrap();
        SpanContext::new(context.trace_id(), context.span_id(), n % 2 == 0)
    };
    let layer = tracing_usdt::builder().without_socket().without_remote_parent().build();
    let parents: Vec<SpanContext> =
        with_default(tracing_subscriber::registry().with(layer), || (0..TRACES).map(draw).collect());
    let here = decisions(
        tracing_usdt::builder().with_sampler(Sampler::TraceIdRatio(RATIO)),
        parents.iter().cloned(),
    );

    let mut other = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "decides", "--ignored", "--nocapture", "--test-threads=1"])
        .env("OTEL_TRACES_SAMPLER", "traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", RATIO.to_string())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let text: String = parents.iter().map(|parent| parent.to_traceparent() + "\n").collect();
    std::io::Write::write_all(&mut other.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = String::from_utf8(other.wait_with_output().unwrap().stdout).unwrap();
    let there = output.split_whitespace().skip_while(|word| *word != "decided").nth(1).unwrap();
    assert!(there == here, "they decide differently");

    let sampled = here.bytes().filter(|decision| *decision == b'1').count() as f64;
    // At most six standard deviations of the binomial distribution.
    let deviation = (TRACES as f64 * RATIO * (1.0 - RATIO)).sqrt();
    assert!((sampled - TRACES as f64 * RATIO).abs() < 6.0 * deviation, "{sampled} of {TRACES}");
}

/// A child reads the variables that `SpanContext::env` returns.
#[test]
fn a_child_process_continues_the_trace() {
    let layer =
        tracing_usdt::builder().without_socket().with_remote_parent(remote(REMOTE, "a=1,b=2")).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let span = info_span!("parent");
        span.set_baggage_entry("k", "v w");
        let context = span.trace_context().unwrap();
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "continues", "--ignored", "--nocapture", "--test-threads=1"])
            .envs(context.env())
            .output()
            .unwrap();
        let output = String::from_utf8(child.stdout).unwrap();
        let words = output.split_whitespace().skip_while(|word| *word != "continued").skip(1);
        let words: Vec<&str> = words.take(3).collect();
        assert_eq!(words[0][..36], context.to_traceparent()[..36]);
        assert_ne!(words[0][36..52], context.to_traceparent()[36..52], "the child's span has another id");
        assert_eq!(words[1..], ["a=1,b=2", "k=v%20w"]);
    });
}

#[test]
#[ignore = "run by a_child_process_continues_the_trace"]
fn continues() {
    with_default(
        tracing_subscriber::registry().with(tracing_usdt::builder().without_socket().build()),
        || {
            let context = info_span!("root").trace_context().unwrap();
            let (parent, state, baggage) =
                (context.to_traceparent(), context.trace_state(), context.baggage());
            println!("continued {parent} {state} {baggage}");
        },
    );
}
