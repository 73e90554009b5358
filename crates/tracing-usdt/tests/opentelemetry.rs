//! Beside `tracing-opentelemetry`, the layer sends spans with the ids that are exported.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

mod collector;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use collector::{Collector, TIMEOUT, assert_stats_add_up, text};
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter, SpanProcessor, TracerProviderBuilder,
};
use tracing::dispatcher::{self, Dispatch};
use tracing::{debug_span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{Layer, prelude::*};
// Imports both extension traits: their methods have different names.
use tracing_usdt::{Delivery, Error, Handle, OtelTracer, SpanExt};

/// The layer that is added first is also called first.
#[derive(Clone, Copy, PartialEq, Debug)]
enum First {
    Ours,
    Theirs,
}

/// Trace id, span id, parent id.
type Lineage = (String, String, Option<String>);
type Lineages = BTreeMap<String, Lineage>;

/// Keeps the exported spans.
#[derive(Clone, Default, Debug)]
struct Exported(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Exported {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(spans);
        Ok(())
    }
}

struct Both {
    first: First,
    collector: Collector,
    exported: Exported,
    dispatch: Dispatch,
    handle: Handle,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Both {
    fn new(first: First) -> Self {
        Self::with(first, |provider| provider, true)
    }

    fn with(
        first: First,
        provider: impl FnOnce(TracerProviderBuilder) -> TracerProviderBuilder,
        activates_context: bool,
    ) -> Self {
        let collector = Collector::bind();
        let exported = Exported::default();
        let provider = provider(SdkTracerProvider::builder()).with_simple_exporter(exported.clone()).build();
        let errors = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&errors);
        let on_error = move |error: &Error| seen.lock().unwrap().push(error.to_string());
        let ours = collector
            .builder()
            .with_opentelemetry_ids(true)
            .with_delivery(Delivery::Background)
            .on_error(on_error)
            .build();
        let handle = ours.handle();
        let tracer = OtelTracer::new(provider.tracer("test"));
        macro_rules! theirs {
            () => {
                tracing_opentelemetry::layer()
                    .with_tracer(tracer)
                    .with_context_activation(activates_context)
                    .with_filter(LevelFilter::INFO)
            };
        }
        let registry = tracing_subscriber::registry();
        let dispatch = match first {
            First::Ours => Dispatch::new(registry.with(ours).with(theirs!())),
            First::Theirs => Dispatch::new(registry.with(theirs!()).with(ours)),
        };
        Self { first, collector, exported, dispatch, handle, errors }
    }

    /// Runs `f`, and returns the exported and the sent spans by name.
    fn run(&self, f: impl FnOnce()) -> (Lineages, Lineages) {
        dispatcher::with_default(&self.dispatch, f);
        let exported = self.exported.0.lock().unwrap();
        let exported: Lineages =
            exported.iter().map(|span| (span.name.to_string(), exported_lineage(span))).collect();
        self.handle.flush(TIMEOUT).unwrap();
        let sent = self.collector.drain().into_iter();
        let sent = sent.map(|span| {
            let parent = span.get("parentId").map(|id| id.as_str().unwrap().to_owned());
            (
                text(&span, "name").to_owned(),
                (text(&span, "traceId").to_owned(), text(&span, "id").to_owned(), parent),
            )
        });
        let sent = sent.collect();
        assert_stats_add_up(&self.handle);
        (exported, sent)
    }

    /// Runs `f`, and checks that the same spans are exported and sent.
    #[track_caller]
    fn agree(&self, names: &[&str], f: impl FnOnce()) -> Lineages {
        let (exported, sent) = self.run(f);
        assert_eq!(sent, exported, "{:?} first", self.first);
        let mut names = names.to_owned();
        names.sort_unstable();
        assert_eq!(sent.keys().collect::<Vec<_>>(), names);
        assert_eq!(self.errors.lock().unwrap().len(), 0);
        sent
    }
}

fn exported_lineage(span: &SpanData) -> Lineage {
    let parent = (span.parent_span_id != SpanId::INVALID).then(|| span.parent_span_id.to_string());
    (span.span_context.trace_id().to_string(), span.span_context.span_id().to_string(), parent)
}

fn remote(flags: TraceFlags) -> opentelemetry::Context {
    let trace_id = TraceId::from(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128);
    let state = TraceState::from_key_value([("a", "1")]).unwrap();
    let caller = SpanContext::new(trace_id, SpanId::from(0x00f0_67aa_0ba9_02b7), flags, true, state);
    opentelemetry::Context::new().with_remote_span_context(caller)
}

const REMOTE_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const REMOTE_SPAN: &str = "00f067aa0ba902b7";

#[test]
fn nested_spans_have_the_ids_that_are_exported() {
    for first in [First::Ours, First::Theirs] {
        for activates_context in [true, false] {
            let both = Both::with(first, |provider| provider, activates_context);
            let spans = both.agree(&["a", "b", "c", "d", "root"], || {
                let a = info_span!("a").entered();
                info_span!("b").in_scope(|| info_span!("c").in_scope(|| ()));
                drop(a);
                info_span!("root").in_scope(|| info_span!("d").in_scope(|| ()));
            });
            assert_eq!(spans["c"].2.as_ref(), Some(&spans["b"].1));
            assert_eq!(spans["a"].2, None);
        }
    }
}

/// Baggage is this layer's own, whoever gives the ids.
#[test]
fn baggage_is_passed_on_with_the_ids_that_are_exported() {
    for first in [First::Ours, First::Theirs] {
        let both = Both::new(first);
        both.agree(&["early", "late", "child", "remote"], || {
            let baggage = |text| tracing_usdt::Baggage::parse([text]);
            let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            let caller = tracing_usdt::SpanContext::from_traceparent(caller).unwrap();
            let caller = caller.with_baggage(baggage("a=1"));
            let early = caller.in_scope(|| info_span!("early"));
            let late = info_span!("late");
            late.set_remote_parent(caller.clone());
            let remote_parent = info_span!("remote");
            remote_parent.set_parent(remote(TraceFlags::SAMPLED)).unwrap();
            remote_parent.set_baggage(baggage("a=1"));
            for span in [&early, &late, &remote_parent] {
                span.in_scope(|| ());
                let context = span.trace_context().unwrap();
                assert_eq!((context.baggage(), &span.baggage()), (caller.baggage(), caller.baggage()));
            }
            let child = late.in_scope(|| info_span!("child"));
            assert_eq!(child.baggage(), *caller.baggage());
            child.in_scope(|| ());
        });
    }
}

#[test]
fn explicit_parents_agree() {
    for first in [First::Ours, First::Theirs] {
        Both::new(first).agree(&["above", "below", "beside", "alone"], || {
            // Never entered: tracing-opentelemetry starts it when its child starts.
            let above = info_span!("above");
            info_span!("beside").in_scope(|| {
                info_span!(parent: &above, "below").in_scope(|| ());
                info_span!(parent: None, "alone").in_scope(|| ());
            });
        });
    }
}

#[test]
fn spans_entered_on_several_threads_agree() {
    for first in [First::Ours, First::Theirs] {
        let both = Both::new(first);
        both.agree(&["task", "here", "there", "on its own"], || {
            let task = info_span!("task");
            let other = info_span!("on its own");
            task.in_scope(|| info_span!("here").in_scope(|| ()));
            let dispatch = &both.dispatch;
            std::thread::scope(|scope| {
                let task = task.clone();
                scope.spawn(move || {
                    dispatcher::with_default(dispatch, || {
                        task.in_scope(|| info_span!("there").in_scope(|| ()));
                        // Created on the other thread, and entered first on this one.
                        other.in_scope(|| ());
                    });
                });
            });
        });
    }
}

#[test]
fn a_remote_parent_set_by_opentelemetry_is_used() {
    for first in [First::Ours, First::Theirs] {
        let both = Both::new(first);
        let spans = both.agree(&["server", "query"], || {
            let server = info_span!("server");
            // Works only if our layer has not yet made OpenTelemetry start the span.
            server.set_parent(remote(TraceFlags::SAMPLED)).unwrap();
            server.in_scope(|| info_span!("query").in_scope(|| ()));
            let context = server.trace_context().unwrap();
            assert_eq!(context.trace_id().to_string(), REMOTE_TRACE);
            assert_eq!(context.trace_state().to_string(), "a=1");
        });
        assert_eq!((&*spans["server"].0, spans["server"].2.as_deref()), (REMOTE_TRACE, Some(REMOTE_SPAN)));
        assert_eq!(spans["query"].0, REMOTE_TRACE);
    }
}

/// Neither of the parents is a span of `tracing`.
#[test]
fn the_current_context_of_opentelemetry_is_the_parent() {
    for first in [First::Ours, First::Theirs] {
        let both = Both::new(first);
        let tracer: SdkTracer = SdkTracerProvider::builder().build().tracer("by hand");
        let spans = both.agree(&["attached", "by hand"], || {
            let caller = remote(TraceFlags::SAMPLED).attach();
            info_span!("attached").in_scope(|| ());
            drop(caller);
            tracer.in_span("not exported", |_| info_span!("by hand").in_scope(|| ()));
        });
        assert_eq!(spans["attached"].2.as_deref(), Some(REMOTE_SPAN));
        assert!(spans["by hand"].2.is_some());
    }
}

#[test]
fn spans_filtered_from_opentelemetry_are_sent_below_those_it_exports() {
    for first in [First::Ours, First::Theirs] {
        let both = Both::new(first);
        let (exported, sent) = both.run(|| {
            info_span!("above").in_scope(|| {
                debug_span!("left out").in_scope(|| {
                    debug_span!("too").in_scope(|| ());
                    info_span!("below").in_scope(|| ());
                });
            });
            debug_span!("root").in_scope(|| ());
        });
        assert_eq!(exported.keys().collect::<Vec<_>>(), ["above", "below"]);
        for name in exported.keys() {
            assert_eq!(sent[name], exported[name], "{name}");
        }
        let (above, left_out, too) = (&sent["above"], &sent["left out"], &sent["too"]);
        assert_eq!((&left_out.0, left_out.2.as_ref()), (&above.0, Some(&above.1)));
        assert_eq!((&too.0, too.2.as_ref()), (&above.0, Some(&left_out.1)));
        assert_eq!(sent["root"].2, None);
        assert_eq!(both.errors.lock().unwrap().len(), 0);
    }
}

#[test]
fn opentelemetry_decides_which_traces_are_sent() {
    for first in [First::Ours, First::Theirs] {
        let half = |provider: TracerProviderBuilder| provider.with_sampler(Sampler::TraceIdRatioBased(0.5));
        let both = Both::with(first, half, true);
        let names: Vec<String> = (0..64).map(|n| format!("{n}")).collect();
        let (exported, sent) = both.run(|| {
            for name in &names {
                info_span!("", otel.name = name).in_scope(|| {
                    let context = tracing::Span::current().trace_context().unwrap();
                    let theirs = tracing::Span::current().context();
                    assert_eq!(context.is_sampled(), theirs.span().span_context().is_sampled());
                    assert_eq!(
                        context.span_id().to_string(),
                        theirs.span().span_context().span_id().to_string()
                    );
                });
            }
            let off = info_span!("not sampled by the caller");
            off.set_parent(remote(TraceFlags::default())).unwrap();
            off.in_scope(|| ());
        });
        assert_eq!(sent, exported);
        assert!((1..64).contains(&sent.len()), "{} of 64 at a half", sent.len());
    }
}

#[test]
fn a_span_that_is_never_entered_agrees_if_our_layer_is_first() {
    let enter = || info_span!("entered").in_scope(|| ());
    Both::new(First::Ours).agree(&["entered", "never"], || {
        enter();
        info_span!("never").set_parent(remote(TraceFlags::SAMPLED)).unwrap();
    });
    let both = Both::new(First::Theirs);
    let (exported, sent) = both.run(|| {
        enter();
        drop(info_span!("never"));
        drop(info_span!("never"));
    });
    assert_eq!(sent["entered"], exported["entered"]);
    assert_ne!(sent["never"], exported["never"]);
    let errors = both.errors.lock().unwrap();
    assert!(errors.len() == 1 && errors[0].contains("add its layer after this one"), "{errors:?}");
}

#[test]
fn a_link_names_the_span_that_is_exported() {
    for first in [First::Ours, First::Theirs] {
        let both = Both::new(first);
        dispatcher::with_default(&both.dispatch, || {
            let cause = info_span!("cause");
            let effect = info_span!("effect");
            effect.follows_from(&cause);
            effect.in_scope(|| ());
        });
        let exported = both.exported.0.lock().unwrap();
        let cause = exported.iter().find(|span| span.name == "cause").unwrap();
        let effect = exported.iter().find(|span| span.name == "effect").unwrap();
        assert_eq!(effect.links.links[0].span_context.span_id(), cause.span_context.span_id());
        both.handle.flush(TIMEOUT).unwrap();
        let sent = both.collector.drain();
        let link = sent.iter().find_map(|span| collector::tag(span, "follows_from")).unwrap();
        let cause = (cause.span_context.trace_id(), cause.span_context.span_id());
        assert_eq!(link, format!("{}-{}", cause.0, cause.1));
    }
}

/// Without `OtelTracer`, the layer knows only parents that are spans of `tracing`.
#[test]
fn without_our_tracer_only_remote_parents_are_missing() {
    let (collector, exported) = (Collector::bind(), Exported::default());
    let provider = SdkTracerProvider::builder().with_simple_exporter(exported.clone()).build();
    let theirs = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry()
        .with(collector.builder().with_opentelemetry_ids(true).build())
        .with(theirs);
    tracing::subscriber::with_default(subscriber, || {
        let server = info_span!("server");
        server.set_parent(remote(TraceFlags::SAMPLED)).unwrap();
        server.in_scope(|| info_span!("query").in_scope(|| info_span!("rows").in_scope(|| ())));
    });
    let sent = collector.drain();
    let sent: BTreeMap<_, _> = sent.iter().map(|span| (text(span, "name"), span)).collect();
    for span in exported.0.lock().unwrap().iter() {
        let (trace_id, id, parent) = exported_lineage(span);
        let sent = sent[&*span.name];
        assert_eq!((text(sent, "traceId"), text(sent, "id")), (&*trace_id, &*id));
        let known = parent.filter(|_| span.name != "server");
        assert_eq!(sent.get("parentId").and_then(|id| id.as_str()), known.as_deref(), "{}", span.name);
    }
    assert_eq!(sent.len(), 3);
}

/// The processor is called while the lock of the starting span is held.
#[test]
fn a_processor_that_makes_spans_and_events_does_not_hang() {
    #[derive(Debug)]
    struct Noisy;
    impl SpanProcessor for Noisy {
        fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &opentelemetry::Context) {
            tracing::error!("a span starts");
            drop(debug_span!("of the processor"));
            debug_span!("entered").in_scope(|| tracing::info!("in it"));
            debug_span!("context is read").trace_context();
        }
        fn on_end(&self, _: SpanData) {}
        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }
        fn shutdown_with_timeout(&self, _: std::time::Duration) -> OTelSdkResult {
            Ok(())
        }
    }
    for first in [First::Ours, First::Theirs] {
        let both = Both::with(first, |provider| provider.with_span_processor(Noisy), true);
        let (exported, sent) = both.run(|| info_span!("a").in_scope(|| info_span!("b").in_scope(|| ())));
        assert_eq!((&sent["a"], &sent["b"]), (&exported["a"], &exported["b"]));
    }
}

/// No consumer is attached, and no socket is set.
#[test]
fn contexts_agree_while_nobody_listens() {
    let provider = SdkTracerProvider::builder().build();
    let theirs = tracing_opentelemetry::layer().with_tracer(OtelTracer::new(provider.tracer("test")));
    let ours =
        tracing_usdt::builder().without_socket().with_opentelemetry_ids(true).without_remote_parent().build();
    let subscriber = tracing_subscriber::registry().with(ours).with(theirs);
    tracing::subscriber::with_default(subscriber, || {
        let outer = info_span!("outer");
        outer.set_parent(remote(TraceFlags::SAMPLED)).unwrap();
        let inner = outer.in_scope(|| info_span!("inner"));
        for span in [&inner, &outer] {
            let (ours, theirs) = (span.trace_context().unwrap(), span.context());
            let theirs = theirs.span().span_context().clone();
            assert_eq!(ours.trace_id().to_string(), theirs.trace_id().to_string());
            assert_eq!(ours.span_id().to_string(), theirs.span_id().to_string());
            assert_eq!(ours.trace_id().to_string(), REMOTE_TRACE);
        }
    });
}

/// Our layer's filter hides the span, so it is not sent. Its context, which may be injected, has the exported
/// ids.
#[test]
fn a_span_hidden_from_our_layer_has_the_exported_context() {
    let provider = SdkTracerProvider::builder().build();
    let theirs = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let ours = tracing_usdt::builder()
        .without_socket()
        .with_opentelemetry_ids(true)
        .build()
        .with_filter(LevelFilter::INFO);
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(ours).with(theirs));
    dispatcher::with_default(&dispatch, || {
        let hidden = debug_span!("hidden");
        let context = hidden.trace_context().unwrap();
        let theirs = hidden.context();
        let theirs = theirs.span().span_context().clone();
        assert_eq!(context.span_id().to_string(), theirs.span_id().to_string());
        assert_eq!(context.trace_id().to_string(), theirs.trace_id().to_string());
        // A span below the hidden one is in the same trace.
        let shown = info_span!(parent: &hidden, "shown");
        assert_eq!(shown.trace_context().unwrap().trace_id(), context.trace_id());
    });
}

/// Cargo gives all crates of a build the features that one of them asks for.
#[test]
fn the_feature_alone_leaves_the_ids_of_both_layers_unchanged() {
    for enabled in [None, Some(false), Some(true)] {
        let (collector, exported) = (Collector::bind(), Exported::default());
        let provider = SdkTracerProvider::builder().with_simple_exporter(exported.clone()).build();
        let theirs = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let ours = match enabled {
            Some(enabled) => collector.builder().with_opentelemetry_ids(enabled),
            None => collector.builder(),
        };
        let subscriber = tracing_subscriber::registry().with(ours.build()).with(theirs);
        tracing::subscriber::with_default(subscriber, || {
            let server = info_span!("server");
            assert!(server.trace_context().is_some());
            // Works until OpenTelemetry has started the span, which it does if it is asked for the ids.
            let parent_is_set = server.set_parent(remote(TraceFlags::SAMPLED)).is_ok();
            assert_eq!(parent_is_set, enabled != Some(true), "{enabled:?}");
            server.in_scope(|| ());
        });
        let (exported, sent) = (exported.0.lock().unwrap(), collector.drain());
        let ([exported], [sent]) = (&exported[..], &sent[..]) else { panic!("{exported:?} {sent:?}") };
        let (trace_id, id, _) = exported_lineage(exported);
        let is_equal = [text(sent, "traceId") == trace_id, text(sent, "id") == id];
        assert_eq!(is_equal, [enabled == Some(true); 2], "{enabled:?}");
        assert_eq!(trace_id == REMOTE_TRACE, enabled != Some(true), "{enabled:?}");
    }
}

/// A line about a span may come before `tracing-opentelemetry` has seen the span.
#[cfg(feature = "fmt")]
#[test]
fn a_log_line_about_a_span_does_not_decide_its_ids() {
    use tracing_subscriber::fmt::{self, format::FmtSpan};

    let (collector, exported) = (Collector::bind(), Exported::default());
    let provider = SdkTracerProvider::builder().with_simple_exporter(exported.clone()).build();
    let ours = collector.builder().with_opentelemetry_ids(true).build();
    let lines = fmt::layer().with_writer(std::io::sink).with_span_events(FmtSpan::FULL);
    let theirs = tracing_opentelemetry::layer().with_tracer(OtelTracer::new(provider.tracer("test")));
    let subscriber = tracing_subscriber::registry()
        .with(ours)
        .with(lines.map_event_format(tracing_usdt::with_trace_ids))
        .with(theirs);
    tracing::subscriber::with_default(subscriber, || {
        let span = info_span!("span");
        span.set_parent(remote(TraceFlags::SAMPLED)).unwrap();
        span.in_scope(|| ());
    });
    let (sent, exported) = (collector.drain().pop().unwrap(), exported.0.lock().unwrap());
    let (trace_id, id, _) = exported_lineage(&exported[0]);
    assert_eq!((text(&sent, "traceId"), text(&sent, "id")), (&*trace_id, &*id));
    assert_eq!(exported[0].parent_span_id, remote(TraceFlags::SAMPLED).span().span_context().span_id());
}
