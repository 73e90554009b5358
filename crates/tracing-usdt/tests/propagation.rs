//! One trace across processes: what comes in with a request, and what goes out with one.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // a failing test is a panic

mod collector;

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use collector::{Collector, Span, assert_accounted, tag, text};
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

/// Runs `f` under the layer of `builder`, and gives what was sent, by name.
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
    assert_accounted(&handle);
    // Also of those that are sent although their trace was not sampled when they, or those above them, began.
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let during = since(begin - Duration::from_secs(1))..since(SystemTime::now() + Duration::from_secs(1));
    for span in &spans {
        assert!(during.contains(&span["timestamp"].as_u64().unwrap()), "{during:?}: {span:?}");
    }
    (spans.into_iter().map(|span| (text(&span, "name").to_owned(), span)).collect(), handle)
}

/// Whose child is it, and in which trace?
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
        late.set_parent(caller.clone());
        for span in [early, late] {
            let context = span.context().unwrap();
            assert_eq!((context.trace_id(), context.is_sampled()), (caller.trace_id(), true));
            assert_ne!(context.span_id(), caller.span_id());
            let child = span.in_scope(|| info_span!("child"));
            let of_child = child.context().unwrap();
            assert_eq!(
                (of_child.trace_id(), of_child.trace_state()),
                (caller.trace_id(), caller.trace_state())
            );
            assert!(of_child.to_traceparent().ends_with("-01"), "the random flag is the caller's to set");
        }
        let own = info_span!("own").context().unwrap();
        assert_ne!(own.trace_id(), caller.trace_id());
        assert!(own.to_traceparent().ends_with("-03"), "sampled, and random by level 2");
        assert!(own.trace_state().is_empty());
    });
    for name in ["early", "late"] {
        let expected = ("4bf92f3577b34da6a3ce929d0e0e4736", Some("00f067aa0ba902b7"));
        assert_eq!(lineage(&spans[name]), expected, "{name}");
    }
    assert_eq!(lineage(&spans["child"]), (text(&spans["late"], "traceId"), spans["late"]["id"].as_str()));
    assert_eq!(lineage(&spans["own"]).1, None);
}

/// Its context still travels.
#[test]
fn a_trace_that_is_not_sampled_is_continued_but_not_sent() {
    let collector = Collector::bind();
    let (spans, handle) = sent(&collector, collector.builder(), || {
        let span = remote(REMOTE_OFF, "a=1").in_scope(|| info_span!("early"));
        let child = span.in_scope(|| info_span!("child"));
        let context = child.context().unwrap();
        assert_eq!(&context.to_traceparent()[..36], &REMOTE[..36]);
        assert!(context.to_traceparent().ends_with("-00"));
        assert_eq!(context.trace_state().to_string(), "a=1");
        let late = info_span!("late", field = 1);
        late.set_parent(remote(REMOTE_OFF, ""));
        assert!(!late.context().unwrap().is_sampled());
    });
    assert_eq!(spans.len(), 0, "{spans:?}");
    assert_eq!((handle.stats().closed, handle.stats().dropped.sampled_out), (3, 3));
}

/// Not half of it without a word: what could not be recorded is counted.
#[test]
fn a_span_that_is_sampled_after_the_fact_is_sent() {
    let collector = Collector::bind();
    let off = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
    let (spans, _) = sent(&collector, collector.builder().sampler(off), || {
        let span = info_span!("late", a = 1, b = 2);
        span.set_parent(remote(REMOTE, ""));
        span.record("b", 3);
        span.in_scope(|| drop(info_span!("child", c = 1)));
    });
    let late = &spans["late"];
    assert_eq!(lineage(late), ("4bf92f3577b34da6a3ce929d0e0e4736", Some("00f067aa0ba902b7")));
    // Where OpenTelemetry may decide later, nothing is left out until then.
    let left_out = (!cfg!(feature = "tracing-opentelemetry")).then_some("2");
    assert_eq!((tag(late, "b"), tag(late, "otel.dropped_attributes_count")), (Some("3"), left_out));
    assert_eq!(tag(&spans["child"], "c"), Some("1"));
}

/// There is no socket, and no probe has a consumer.
#[test]
fn contexts_travel_while_nobody_looks() {
    let layer = tracing_usdt::builder().no_socket().parent(None).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let caller = remote(REMOTE, "a=1");
        let early = caller.in_scope(|| info_span!("early"));
        let late = info_span!("late");
        late.set_parent(caller.clone());
        for span in [early, late] {
            let child = span.in_scope(|| info_span!("child"));
            let grandchild = child.in_scope(|| info_span!("grandchild"));
            for span in [&span, &child, &grandchild] {
                let context = span.context().unwrap();
                assert_eq!(
                    (context.trace_id(), context.trace_state()),
                    (caller.trace_id(), caller.trace_state())
                );
                assert_eq!(span.context().unwrap(), context, "it stays what it is");
            }
            let ids = [&span, &child, &grandchild].map(|span| span.context().unwrap().span_id());
            assert!(ids[0] != ids[1] && ids[1] != ids[2]);
        }
        let root = info_span!("root");
        let context = root.context().unwrap();
        assert_eq!(root.in_scope(|| info_span!("child")).context().unwrap().trace_id(), context.trace_id());
    });
}

#[test]
fn where_there_is_no_layer_there_is_no_context() {
    assert_eq!(info_span!("nobody").context(), None);
    with_default(Registry::default(), || assert_eq!(info_span!("registry only").context(), None));
    assert_eq!(tracing::Span::none().context(), None);
    // Nothing to be told either.
    let span = tracing::Span::none();
    span.set_parent(remote(REMOTE, ""));
    span.set_attribute("a", 1);
    span.set_status(Status::Ok);
}

#[test]
fn filters_and_boxes_are_seen_through() {
    let layer = || tracing_usdt::builder().no_socket().parent(None).build();
    let check = || {
        let caller = remote(REMOTE, "");
        let span = caller.in_scope(|| info_span!("span"));
        assert_eq!(span.context().unwrap().trace_id(), caller.trace_id());
        // Only others want this one; who it is can be asked all the same.
        let debug = span.in_scope(|| debug_span!("debug"));
        if let Some(context) = debug.context() {
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

/// What is asked of it is answered by what is sent.
#[test]
fn a_span_that_a_filter_hides_answers_with_the_one_above() {
    let collector = Collector::bind();
    let layer = collector.builder().build().with_filter(LevelFilter::INFO);
    let fmt = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
    with_default(tracing_subscriber::registry().with(fmt).with(layer), || {
        let shown = info_span!("shown");
        let hidden = shown.in_scope(|| debug_span!("hidden"));
        assert_eq!(hidden.context(), shown.context());
        let alone = debug_span!(parent: None, "alone");
        assert_eq!(alone.context(), alone.context());
    });
}

/// Only spans that begin in it, and not those around it that nobody had asked for yet.
#[test]
fn a_scope_is_for_what_begins_in_it() {
    let layer = tracing_usdt::builder().no_socket().parent(None).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let caller = remote(REMOTE, "a=1");
        let consumer = info_span!("consumer");
        let message = consumer.in_scope(|| caller.in_scope(|| info_span!("message").context().unwrap()));
        assert_ne!(message.trace_id(), caller.trace_id());
        assert_eq!(consumer.context().unwrap().trace_id(), message.trace_id());
        let own =
            consumer.in_scope(|| caller.in_scope(|| info_span!(parent: None, "message").context().unwrap()));
        assert_eq!((own.trace_id(), own.trace_state()), (caller.trace_id(), caller.trace_state()));
    });
}

/// It was counted, and what is below it would have no parent. (Beside OpenTelemetry, which decides later, it is kept.)
#[cfg(not(feature = "tracing-opentelemetry"))]
#[test]
fn a_span_below_one_that_is_not_sampled_stays_so() {
    let collector = Collector::bind();
    let (spans, handle) = sent(&collector, collector.builder().sampler(Sampler::default()), || {
        let poll = remote(REMOTE_OFF, "").in_scope(|| info_span!("poll"));
        let message = poll.in_scope(|| info_span!("message"));
        message.set_parent(remote(REMOTE, "a=1"));
        let context = message.context().unwrap();
        assert_eq!((context.is_sampled(), context.trace_state().to_string()), (false, "a=1".to_owned()));
        let below = message.in_scope(|| info_span!("below")).context().unwrap();
        assert!(!below.is_sampled());
        assert_eq!(below.trace_id(), context.trace_id());
    });
    assert_eq!((spans.len(), handle.stats().dropped.sampled_out), (0, 3));
}

#[test]
fn what_is_said_after_the_fact_is_sent() {
    for delivery in [Delivery::Inline, Delivery::Background] {
        what_is_said_is_sent_however_it_is_delivered(delivery);
    }
}

fn what_is_said_is_sent_however_it_is_delivered(delivery: Delivery) {
    let collector = Collector::bind();
    let (spans, _) = sent(&collector, collector.builder().delivery(delivery), || {
        let span = info_span!("span", known = 1, otel.kind = "server");
        span.set_attribute("text", "t");
        span.set_attribute("number", 7);
        span.set_attribute("ratio", 0.5);
        span.set_attribute("truth", true);
        span.set_attribute("known", "again");
        span.set_attribute("level", "mine");
        span.set_attribute("otel.name", "given");
        span.add_link(remote(REMOTE, ""));
        span.set_status(Status::error("it broke"));
        let again = info_span!("again");
        again.set_status(Status::error("first"));
        again.set_status(Status::error(""));
        let fine = info_span!("fine");
        fine.set_status(Status::error("not yet known"));
        fine.in_scope(|| tracing::error!("not so bad"));
        fine.set_status(Status::Ok);
    });
    let span = &spans["given"];
    for (key, value) in [
        ("text", "t"),
        ("number", "7"),
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
fn otlp_says_where_the_parent_is_and_passes_the_state_on() {
    for delivery in [Delivery::Inline, Delivery::Background] {
        otlp_says_it_however_it_is_delivered(delivery);
    }
}

fn otlp_says_it_however_it_is_delivered(delivery: Delivery) {
    let collector = Collector::bind();
    let layer = collector.builder().format(Format::Otlp).delivery(delivery).build();
    let handle = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || {
        let span = remote(REMOTE, "a=1,b=2").in_scope(|| info_span!("remote"));
        span.in_scope(|| drop(info_span!("local")));
        drop(info_span!("root"));
        let links = info_span!("links");
        links.add_link(remote(REMOTE_OFF, "c=\"3\""));
        links.add_link(remote(REMOTE, ""));
        links.follows_from(&span);
        let full = info_span!("full");
        let state = format!("k={}", "v".repeat(256));
        (0..1000).for_each(|_| full.add_link(remote(REMOTE, &state)));
    });
    handle.flush(Duration::from_secs(10)).unwrap();
    assert_accounted(&handle);
    let mut found = HashMap::new();
    for text in collector.drain_text() {
        let mut request: serde_json::Value = serde_json::from_str(&text).unwrap();
        for span in request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array_mut().unwrap() {
            found.insert(span["name"].as_str().unwrap().to_owned(), span.take());
        }
    }
    let of = |name: &str| (found[name]["flags"].as_u64(), found[name]["traceState"].as_str());
    // Bit 8: it is known whether the parent is remote, bit 9: it is. The rest is W3C's.
    assert_eq!(of("remote"), (Some(0x301), Some("a=1,b=2")));
    assert_eq!(of("local"), (Some(0x101), Some("a=1,b=2")));
    assert_eq!(of("root"), (Some(0x103), None));
    // What was added by its context may be of any process.
    let links = found["links"]["links"].as_array().unwrap();
    let of =
        |link: &serde_json::Value| (link["flags"].as_u64(), link["traceState"].as_str().map(str::to_owned));
    assert_eq!(of(&links[0]), (Some(0x00), Some("c=\"3\"".to_owned())));
    assert_eq!(of(&links[1]), (Some(0x01), None));
    assert_eq!(of(&links[2]), (Some(0x101), Some("a=1,b=2".to_owned())));
    assert_eq!(links[2]["spanId"], found["remote"]["spanId"]);
    // Bounded by their length, and counted.
    let (kept, left_out) =
        (found["full"]["links"].as_array().unwrap().len(), &found["full"]["droppedLinksCount"]);
    assert!((10..128).contains(&kept), "{kept}");
    assert_eq!(left_out.as_u64(), Some(1000 - kept as u64));
}

#[test]
fn a_span_says_itself_whether_it_is_sent() {
    let collector = Collector::bind();
    let (spans, handle) = sent(&collector, collector.builder(), || {
        let noisy = info_span!("noisy", sampling.priority = 0);
        noisy.in_scope(|| drop(info_span!("in noise")));
        assert!(!noisy.context().unwrap().is_sampled());
        drop(info_span!("as ever", sampling.priority = 1));
    });
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["as ever"]);
    assert_eq!(handle.stats().dropped.sampled_out, 2);
    let (spans, _) = sent(&collector, collector.builder().sampler(Sampler::AlwaysOff), || {
        let root = info_span!("root");
        let asked = root.in_scope(|| info_span!("asked for", sampling.priority = true, n = 1));
        asked.in_scope(|| drop(info_span!("below")));
    });
    assert_eq!(spans.len(), 2);
    assert_eq!(tag(&spans["asked for"], "n"), Some("1"));
    assert_eq!(spans["below"]["parentId"], spans["asked for"]["id"]);
}

#[cfg(not(feature = "tracing-opentelemetry"))]
#[test]
fn a_span_that_continues_another_says_itself_whether_it_is_sampled_while_nobody_listens() {
    let layer = tracing_usdt::builder().no_socket().parent(None).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let continued = remote(REMOTE, "").in_scope(|| info_span!("continued", sampling.priority = false));
        let context = continued.context().unwrap();
        assert_eq!((context.is_sampled(), context.trace_id()), (false, remote(REMOTE, "").trace_id()));
    });
}

#[test]
fn a_sampler_of_ones_own_decides() {
    let collector = Collector::bind();
    let own = Sampler::custom(|trace: &SamplingRequest| {
        trace.parent_sampled != Some(false) && *trace.metadata.level() <= Level::INFO
    });
    let (spans, _) = sent(&collector, collector.builder().sampler(own), || {
        debug_span!("left out").in_scope(|| drop(info_span!("with it")));
        info_span!("sent").in_scope(|| drop(debug_span!("too")));
        remote(REMOTE_OFF, "").in_scope(|| drop(info_span!("not for the parent's sake")));
    });
    let mut names: Vec<_> = spans.keys().collect();
    names.sort();
    assert_eq!(names, ["sent", "too"]);
}

#[test]
fn the_parent_of_the_environment_has_its_state() {
    let collector = Collector::bind();
    let builder = collector.builder().parent(Some(remote(REMOTE, "a=1")));
    sent(&collector, builder, || {
        let child = info_span!("root").in_scope(|| info_span!("child"));
        assert_eq!(child.context().unwrap().trace_state().to_string(), "a=1");
        let other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let other = remote(other, "").in_scope(|| info_span!("other"));
        assert!(other.context().unwrap().trace_state().is_empty(), "of another trace");
    });
}

/// How a process with that sampler decides on each of the traces.
fn decisions(builder: tracing_usdt::Builder, parents: impl Iterator<Item = SpanContext>) -> String {
    let layer = builder.no_socket().parent(None).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let sampled = |parent: SpanContext| {
            parent.in_scope(|| info_span!("span")).context().is_some_and(|context| context.is_sampled())
        };
        parents.map(|parent| if sampled(parent) { '1' } else { '0' }).collect()
    })
}

/// The other process of the test below: it knows no more than its environment, and reads the parents.
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
    // Whatever the parent says: it is the trace id that decides.
    let draw = |n: usize| {
        let context = info_span!("root").context().unwrap();
        SpanContext::new(context.trace_id(), context.span_id(), n % 2 == 0)
    };
    let layer = tracing_usdt::builder().no_socket().parent(None).build();
    let parents: Vec<SpanContext> =
        with_default(tracing_subscriber::registry().with(layer), || (0..TRACES).map(draw).collect());
    let here =
        decisions(tracing_usdt::builder().sampler(Sampler::TraceIdRatio(RATIO)), parents.iter().cloned());

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
    // Six standard deviations of a binomial.
    let deviation = (TRACES as f64 * RATIO * (1.0 - RATIO)).sqrt();
    assert!((sampled - TRACES as f64 * RATIO).abs() < 6.0 * deviation, "{sampled} of {TRACES}");
}

/// What `SpanContext::env` gives is what a child reads.
#[test]
fn a_child_process_continues_the_trace() {
    let layer = tracing_usdt::builder().no_socket().parent(Some(remote(REMOTE, "a=1,b=2"))).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        let span = info_span!("parent");
        let context = span.context().unwrap();
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "continues", "--ignored", "--nocapture", "--test-threads=1"])
            .envs(context.env())
            .output()
            .unwrap();
        let output = String::from_utf8(child.stdout).unwrap();
        let said = output.split_whitespace().skip_while(|word| *word != "continued").skip(1);
        let said: Vec<&str> = said.take(2).collect();
        assert_eq!(said[0][..36], context.to_traceparent()[..36]);
        assert_ne!(said[0][36..52], context.to_traceparent()[36..52], "a span of its own");
        assert_eq!(said[1], "a=1,b=2");
    });
}

#[test]
#[ignore = "run by a_child_process_continues_the_trace"]
fn continues() {
    with_default(tracing_subscriber::registry().with(tracing_usdt::builder().no_socket().build()), || {
        let context = info_span!("root").context().unwrap();
        println!("continued {} {}", context.to_traceparent(), context.trace_state());
    });
}
