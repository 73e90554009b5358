//! The lines that `tracing_subscriber::fmt` writes, with the ids of their spans.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

mod collector;

use std::io;
use std::sync::{Arc, Mutex};

use collector::{Collector, text};
use serde_json::Value;
use tracing::{Span, Subscriber, debug_span, info, info_span, subscriber::with_default};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{self, DefaultFields, FmtSpan, Format, FormatEvent, Json, JsonFields};
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, prelude::*};
use tracing_usdt::{Sampler, SpanContext, SpanExt, UsdtLayer, with_trace_ids};

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl io::Write for &Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Log;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

fn idle() -> UsdtLayer {
    tracing_usdt::builder().without_socket().without_remote_parent().build()
}

fn plain() -> Format<format::Full, ()> {
    tracing_subscriber::fmt::format().without_time()
}

fn json() -> Format<Json, ()> {
    plain().json()
}

/// A `fmt` layer without colours.
fn to<S, N, E>(log: &Log, fields: N, event_format: E) -> impl Layer<S> + use<S, N, E>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    E: FormatEvent<S, N> + Send + Sync + 'static,
    N: Send + Sync,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(false);
    layer.fmt_fields(fields).event_format(event_format)
}

/// The ids of the span as a text has them.
#[track_caller]
fn ids(span: &Span) -> String {
    let context = span.trace_context().unwrap();
    format!("trace_id={} span_id={}", context.trace_id(), context.span_id())
}

/// The same in JSON.
#[track_caller]
fn json_ids(span: &Span) -> String {
    let context = span.trace_context().unwrap();
    format!(r#""trace_id":"{}","span_id":"{}""#, context.trace_id(), context.span_id())
}

#[test]
fn a_full_line_ends_with_the_ids() {
    let log = Log::default();
    let layer = to(&log, DefaultFields::new(), with_trace_ids(plain()));
    with_default(tracing_subscriber::registry().with(idle()).with(layer), || {
        let span = info_span!("request", n = 1);
        span.in_scope(|| info!(m = 2, "found"));
        assert_eq!(log.take(), format!(" INFO request{{n=1}}: log_lines: found m=2 {}\n", ids(&span)));
        span.in_scope(|| info!("two\nlines\n"));
        assert_eq!(log.take(), format!(" INFO request{{n=1}}: log_lines: two\nlines\n {}\n", ids(&span)));
    });
}

#[test]
fn a_compact_line_ends_with_the_ids() {
    let log = Log::default();
    let layer = to(&log, DefaultFields::new(), with_trace_ids(plain().compact()));
    with_default(tracing_subscriber::registry().with(idle()).with(layer), || {
        let span = info_span!("request", n = 1);
        span.in_scope(|| info!(m = 2, "found"));
        assert_eq!(log.take(), format!(" INFO request: log_lines: found m=2 n=1 {}\n", ids(&span)));
    });
    let layer = to(&log, DefaultFields::new(), with_trace_ids(plain().with_level(false).with_target(false)));
    with_default(tracing_subscriber::registry().with(idle()).with(layer), || {
        let span = info_span!("request");
        info!(parent: &span, "");
        assert_eq!(log.take(), format!("request: {}\n", ids(&span)), "no second space");
    });
}

#[test]
fn a_json_object_has_the_ids_as_its_last_members() {
    let log = Log::default();
    let layer = to(&log, JsonFields::new(), with_trace_ids(json()));
    with_default(tracing_subscriber::registry().with(idle()).with(layer), || {
        let span = info_span!("request", n = 1);
        span.in_scope(|| info!(m = 2, "found }}"));
        let expected = r#"{"level":"INFO","fields":{"message":"found }","m":2},"target":"log_lines","span":{"n":1,"name":"request"},"spans":[{"n":1,"name":"request"}],"#;
        let line = log.take();
        assert_eq!(line, format!("{expected}{}}}\n", json_ids(&span)));
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["span_id"], span.trace_context().unwrap().span_id().to_string());
    });
    // Nothing but the ids.
    let bare = json().with_level(false).with_target(false).flatten_event(true);
    let layer =
        to(&log, JsonFields::new(), with_trace_ids(bare.with_current_span(false).with_span_list(false)));
    with_default(tracing_subscriber::registry().with(idle()).with(layer), || {
        let span = info_span!("request");
        let nothing: Option<u8> = None;
        span.in_scope(|| info!(nothing));
        assert_eq!(log.take(), format!("{{{}}}\n", json_ids(&span)));
        span.in_scope(|| info!(n = 1));
        assert_eq!(log.take(), format!("{{\"n\":1,{}}}\n", json_ids(&span)));
    });
}

#[test]
fn a_pretty_event_has_a_line_with_the_ids() {
    let log = Log::default();
    let pretty = plain().pretty().with_source_location(false);
    let layer = to(&log, format::PrettyFields::new(), with_trace_ids(pretty));
    with_default(tracing_subscriber::registry().with(idle()).with(layer), || {
        let span = info_span!("request", n = 1);
        span.in_scope(|| info!(m = 2, "found"));
        let ids = ids(&span).replace('=', ": ").replace(" span", ", span");
        let expected =
            format!("   INFO log_lines: found, m: 2\n    in log_lines::request with n: 1\n    {ids}\n\n");
        assert_eq!(log.take(), expected);
    });
}

#[test]
fn the_ids_are_dimmed_if_the_writer_has_colours() {
    let log = Log::default();
    macro_rules! line {
        ($format:expr) => {{
            let layer = tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(true);
            let layer = layer.event_format($format);
            with_default(tracing_subscriber::registry().with(idle()).with(layer), || {
                let span = info_span!("request", n = 1);
                span.in_scope(|| info!(m = 2, "found"));
                (log.take(), ids(&span))
            })
        }};
    }
    macro_rules! check {
        ($format:expr) => {
            let (with, ids) = line!(with_trace_ids($format));
            let (without, _) = line!($format);
            assert!(without.contains('\u{1b}'), "{without:?}");
            let expected = without.replace('\n', &format!(" \u{1b}[2m{ids}\u{1b}[0m\n"));
            assert_eq!(with, expected);
        };
    }
    check!(plain());
    check!(plain().compact());
    let (pretty, _) = line!(with_trace_ids(plain().pretty()));
    assert!(pretty.contains("\n    \u{1b}[2mtrace_id: ") && pretty.ends_with("\u{1b}[0m\n\n"), "{pretty:?}");
    let layer = tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(true);
    let layer = layer.fmt_fields(JsonFields::new()).event_format(with_trace_ids(json()));
    with_default(tracing_subscriber::registry().with(idle()).with(layer), || {
        info_span!("request", n = 1).in_scope(|| info!(m = 2, "found"));
        let log = log.take();
        assert!(log.contains("trace_id") && !log.contains('\u{1b}'), "{log:?}");
    });
}

/// Logs all kinds of events.
fn log_everything() {
    info!("outside");
    let outer = info_span!("outer", n = 1);
    let inner = outer.in_scope(|| info_span!("inner", text = "{}\n"));
    inner.in_scope(|| {
        info!("inside");
        info!(parent: &outer, a = ?[1, 2], "with a parent");
        info!(parent: None, "without a parent");
        info!(text = "}\n", "{{ }}\n");
        info!("");
        tracing::error!(error = &io::Error::other("failed") as &dyn std::error::Error);
        tracing::warn!(target: "another", "message with \u{1b}[31m colours");
    });
}

/// Everything but the ids.
fn without_ids(log: &str) -> String {
    let digits =
        |text: &str, count| text.len() >= count && text[..count].bytes().all(|b| b.is_ascii_hexdigit());
    let mut rest = log.to_owned();
    for (before, between, after) in [
        (" trace_id=", " span_id=", ""),
        (",\"trace_id\":\"", "\",\"span_id\":\"", "\""),
        ("    trace_id: ", ", span_id: ", "\n"),
    ] {
        while let Some(at) = rest.find(before) {
            let trace = at + before.len();
            assert!(digits(&rest[trace..], 32), "{rest:?}");
            let span = trace + 32 + between.len();
            assert_eq!(&rest[trace + 32..span], between);
            assert!(digits(&rest[span..], 16), "{rest:?}");
            let end = span + 16 + after.len();
            assert_eq!(&rest[span + 16..end], after);
            rest.replace_range(at..end, "");
        }
    }
    rest
}

#[test]
fn the_rest_of_all_lines_stays_as_it_is() {
    let log = Log::default();
    macro_rules! check {
        ($format:expr, $fields:expr) => {
            let layer = to(&log, $fields, $format);
            with_default(tracing_subscriber::registry().with(layer), log_everything);
            let expected = log.take();
            // Without the layer.
            let layer = to(&log, $fields, with_trace_ids($format));
            with_default(tracing_subscriber::registry().with(layer), log_everything);
            assert_eq!(log.take(), expected);
            let layer = to(&log, $fields, with_trace_ids($format));
            with_default(tracing_subscriber::registry().with(None::<UsdtLayer>).with(layer), log_everything);
            assert_eq!(log.take(), expected);
            let layer = to(&log, $fields, with_trace_ids($format));
            with_default(tracing_subscriber::registry().with(idle()).with(layer), log_everything);
            let with_ids = log.take();
            assert_eq!(with_ids.matches("span_id").count(), 6, "{with_ids}");
            // A message that ends with a space, as an empty one does, has no second one before the ids.
            let expected = expected.replace(": \n", ":\n");
            let found = without_ids(&with_ids).replace(": \n", ":\n");
            assert_eq!(found, expected);
        };
    }
    check!(plain(), DefaultFields::new());
    check!(plain().with_thread_names(true).with_file(true).with_line_number(false), DefaultFields::new());
    check!(plain().compact(), DefaultFields::new());
    check!(plain().pretty(), format::PrettyFields::new());
    check!(json(), JsonFields::new());
    check!(json().flatten_event(true), JsonFields::new());
    check!(json().with_current_span(false).with_span_list(false), JsonFields::new());
}

/// The lines of a JSON log, as their message, and the trace id and the span id if there are any.
fn lines(log: &Log) -> Vec<(String, Option<(String, String)>)> {
    let id = |object: &Value, key: &str| object.get(key).map(|id| id.as_str().unwrap().to_owned());
    log.take()
        .lines()
        .map(|line| {
            let object: Value = serde_json::from_str(line).unwrap();
            let ids = id(&object, "trace_id").zip(id(&object, "span_id"));
            (object["fields"]["message"].as_str().unwrap().to_owned(), ids)
        })
        .collect()
}

#[track_caller]
fn ids_of(span: &Span) -> Option<(String, String)> {
    let context = span.trace_context()?;
    Some((context.trace_id().to_string(), context.span_id().to_string()))
}

fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(log: &Log) -> impl Layer<S> + use<S> {
    to(log, JsonFields::new(), with_trace_ids(json()))
}

#[test]
fn each_line_has_the_ids_of_the_span_of_its_event() {
    let log = Log::default();
    let check = || {
        info!("outside");
        let outer = info_span!("outer");
        let inner = outer.in_scope(|| info_span!("inner"));
        inner.in_scope(|| {
            info!("inner");
            info!(parent: &outer, "outer");
            info!(parent: None, "no parent");
        });
        outer.in_scope(|| info!("outer"));
        let line = |message: &str, span: &Span| (message.to_owned(), ids_of(span));
        let none = |message: &str| (message.to_owned(), None);
        let expected = [
            none("outside"),
            line("inner", &inner),
            line("outer", &outer),
            none("no parent"),
            line("outer", &outer),
        ];
        assert_ne!(ids_of(&inner), ids_of(&outer));
        assert_eq!(lines(&log), expected);
    };
    with_default(tracing_subscriber::registry().with(idle()).with(layer(&log)), check);
    with_default(tracing_subscriber::registry().with(layer(&log)).with(idle()), check);
    with_default(tracing_subscriber::registry().with(layer(&log)).with(idle().boxed()), check);
    let filtered = layer(&log).with_filter(LevelFilter::INFO);
    with_default(
        tracing_subscriber::registry().with(filtered).with(idle().with_filter(LevelFilter::INFO)),
        check,
    );
    let collector = Collector::bind();
    with_default(tracing_subscriber::registry().with(collector.builder().build()).with(layer(&log)), check);
    with_default(tracing_subscriber::registry().with(layer(&log)).with(collector.builder().build()), check);
    let sampled_out = collector.builder().with_sampler(Sampler::AlwaysOff).build();
    with_default(tracing_subscriber::registry().with(layer(&log)).with(sampled_out), check);
}

#[test]
fn the_ids_are_those_of_the_spans_that_are_sent() {
    let (log, collector) = (Log::default(), Collector::bind());
    with_default(tracing_subscriber::registry().with(collector.builder().build()).with(layer(&log)), || {
        info_span!("outer").in_scope(|| info_span!("inner").in_scope(|| info!("inside")));
    });
    let spans = collector.drain();
    let ids = (text(&spans[0], "traceId").to_owned(), text(&spans[0], "id").to_owned());
    assert_eq!((text(&spans[0], "name"), lines(&log)), ("inner", vec![("inside".to_owned(), Some(ids))]));
}

/// As `SpanExt::trace_context` has it.
#[test]
fn a_line_in_a_span_that_a_filter_hides_has_the_ids_of_the_span_above() {
    let (log, collector) = (Log::default(), Collector::bind());
    let usdt = collector.builder().build().with_filter(LevelFilter::INFO);
    with_default(tracing_subscriber::registry().with(usdt).with(layer(&log)), || {
        let shown = info_span!("shown");
        let hidden = shown.in_scope(|| debug_span!("hidden"));
        hidden.in_scope(|| info!("inside"));
        assert_eq!(lines(&log), [("inside".to_owned(), ids_of(&shown))]);
    });
}

/// Spans of different subscribers have the same ids in their registries.
#[test]
fn a_line_never_has_the_ids_of_another_subscriber() {
    let (log, other) = (Log::default(), Log::default());
    let with_layer = tracing::Dispatch::new(tracing_subscriber::registry().with(idle()).with(layer(&other)));
    let without = tracing::Dispatch::new(tracing_subscriber::registry().with(layer(&log)));
    let within = |dispatch: &tracing::Dispatch| {
        tracing::dispatcher::with_default(dispatch, || {
            let span = info_span!("span");
            span.in_scope(|| info!("inside"));
            span
        })
    };
    let spans = [within(&with_layer), within(&without)];
    assert_eq!(spans[0].id(), spans[1].id(), "the test needs the same ids");
    assert_eq!(lines(&other), [("inside".to_owned(), ids_of(&spans[0]))]);
    assert_eq!(lines(&log), [("inside".to_owned(), None)]);
}

#[test]
fn an_event_with_ids_of_its_own_keeps_them() {
    let log = Log::default();
    let format = with_trace_ids(plain());
    with_default(
        tracing_subscriber::registry().with(idle()).with(to(&log, DefaultFields::new(), format)),
        || {
            let _span = info_span!("span", trace_id = 1).entered();
            info!(trace_id = "own", "one");
            info!(span_id = "own", "another");
            assert_eq!(
                log.take(),
                " INFO span{trace_id=1}: log_lines: one trace_id=\"own\"\n INFO span{trace_id=1}: log_lines: another span_id=\"own\"\n"
            );
            info!("neither");
            assert_eq!(
                log.take().matches("span_id").count(),
                1,
                "a field of the span is no field of the event"
            );
        },
    );
}

/// The `fmt` layer writes these itself. At the last one, our layer has seen the close.
#[test]
fn lines_about_a_span_have_its_ids() {
    let log = Log::default();
    macro_rules! lifecycle {
        () => {{
            let layer =
                tracing_subscriber::fmt::layer().with_writer(log.clone()).with_span_events(FmtSpan::FULL);
            layer.fmt_fields(JsonFields::new()).event_format(with_trace_ids(json()))
        }};
    }
    // Ids are known once a span is sent. While nobody listens, this asks for them after the line "new".
    let check = |new_has_ids, is_idle: bool| {
        let outer = info_span!("outer");
        let of_outer = ids_of(&outer);
        let mut expected =
            vec![("new", if new_has_ids { of_outer.clone() } else { None }), ("enter", of_outer.clone())];
        let of_inner = outer.in_scope(|| {
            let inner = info_span!("inner", trace_id = 1).entered();
            ids_of(&inner)
        });
        expected.push(("new", if new_has_ids { of_inner.clone() } else { None }));
        expected.push(("enter", if is_idle { None } else { of_inner.clone() }));
        expected.extend(["exit", "close"].map(|message| (message, of_inner.clone())));
        expected.extend(["exit", "close"].map(|message| (message, of_outer.clone())));
        drop(outer);
        let lines = lines(&log);
        let lines: Vec<_> = lines.iter().map(|(message, ids)| (&**message, ids.clone())).collect();
        assert_eq!(lines, expected);
    };
    let collector = Collector::bind();
    let sending = || collector.builder().build();
    with_default(tracing_subscriber::registry().with(idle()).with(lifecycle!()), || check(false, true));
    with_default(tracing_subscriber::registry().with(lifecycle!()).with(idle()), || check(false, true));
    with_default(tracing_subscriber::registry().with(sending()).with(lifecycle!()), || check(true, false));
    with_default(tracing_subscriber::registry().with(lifecycle!()).with(sending()), || check(false, false));
}

/// Such a line may come before this crate's layer has seen the span.
#[test]
fn a_line_about_a_span_does_not_separate_it_from_its_remote_parent() {
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let caller = SpanContext::from_traceparent(traceparent).unwrap();
    let log = Log::default();
    macro_rules! lifecycle {
        () => {
            tracing_subscriber::fmt::layer()
                .with_writer(log.clone())
                .with_span_events(FmtSpan::FULL)
                .fmt_fields(JsonFields::new())
                .event_format(with_trace_ids(json()))
        };
    }
    let check = || {
        let early = caller.in_scope(|| info_span!("early"));
        let late = info_span!("late");
        late.in_scope(|| ());
        late.set_remote_parent(caller.clone());
        for span in [&early, &late] {
            assert_eq!(span.trace_context().unwrap().trace_id(), caller.trace_id(), "{span:?}");
            drop(span.clone().entered());
        }
        let known: Vec<_> = lines(&log).into_iter().filter_map(|(_, ids)| ids).collect();
        assert!(known.len() >= 4, "{known:?}");
        known
    };
    let collector = Collector::bind();
    let sending = || collector.builder().build();
    for known in [
        with_default(tracing_subscriber::registry().with(lifecycle!()).with(idle()), check),
        with_default(tracing_subscriber::registry().with(idle()).with(lifecycle!()), check),
    ] {
        assert!(known.iter().all(|(trace_id, _)| *trace_id == caller.trace_id().to_string()), "{known:?}");
    }
    with_default(tracing_subscriber::registry().with(lifecycle!()).with(sending()), check);
}

/// As programs write it.
#[test]
fn the_format_of_a_layer_or_of_a_subscriber_is_wrapped_in_place() {
    let log = Log::default();
    let check = || {
        let span = info_span!("span");
        span.in_scope(|| info!("inside"));
        let line = log.take();
        assert!(line.contains(&span.trace_context().unwrap().span_id().to_string()), "{line}");
    };
    macro_rules! check {
        ($($format:ident)?) => {
            let layer = tracing_subscriber::fmt::layer().with_writer(log.clone())$(.$format())?;
            with_default(Registry::default().with(idle()).with(layer.map_event_format(with_trace_ids)), check);
            let subscriber = tracing_subscriber::fmt().with_writer(log.clone())$(.$format())?;
            with_default(subscriber.map_event_format(with_trace_ids).finish().with(idle()), check);
        };
    }
    check!();
    check!(compact);
    check!(json);
    check!(pretty);
}

#[test]
fn a_subscriber_without_the_layer_can_be_replaced_by_one_with_it() {
    let log = Log::default();
    with_default(Registry::default().with(layer(&log)), || info_span!("span").in_scope(|| info!("one")));
    with_default(Registry::default().with(layer(&log)).with(idle()), || {
        info_span!("span").in_scope(|| info!("two"));
    });
    let lines = lines(&log);
    assert_eq!((&lines[0].1, lines[1].1.is_some()), (&None, true));
}

#[test]
fn threads_that_log_at_the_same_time_get_their_own_ids() {
    let log = Log::default();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(idle()).with(layer(&log)));
    let expected: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let dispatch = dispatch.clone();
                scope.spawn(move || {
                    tracing::dispatcher::with_default(&dispatch, || {
                        let span = info_span!("span");
                        span.in_scope(|| (0..50).for_each(|_| info!("{n}")));
                        (n.to_string(), ids_of(&span))
                    })
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let lines = lines(&log);
    assert_eq!(lines.len(), 400);
    assert!(lines.iter().all(|line| expected.contains(line)));
}
