//! The caller of a request is also the parent of the span that `tracing-opentelemetry` exports.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

#[path = "../../tracing-usdt/tests/collector/mod.rs"]
mod collector;

use std::convert::Infallible;
use std::future::ready;
use std::sync::{Arc, Mutex};

use collector::{Collector, text};
use http::{Request, Response};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tower::{Layer as _, ServiceExt, service_fn};
use tracing::dispatcher::{self, Dispatch};
use tracing::info_span;
use tracing_subscriber::prelude::*;
use tracing_usdt_tower::ServerLayer;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER_SPAN: &str = "00f067aa0ba902b7";

#[derive(Clone, Default, Debug)]
struct Exported(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Exported {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(spans);
        Ok(())
    }
}

fn answer_one(layer: &ServerLayer) {
    let handler = service_fn(|_: Request<()>| {
        drop(info_span!("inside").entered());
        ready(Ok::<_, Infallible>(Response::new(())))
    });
    let request = Request::get("/")
        .header("traceparent", format!("00-{TRACE}-{CALLER_SPAN}-03"))
        .header("tracestate", "a=1");
    let answered = layer.layer(handler).oneshot(request.body(()).unwrap());
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(answered).unwrap();
}

#[test]
fn both_layers_continue_the_callers_trace() {
    for ours_is_first in [true, false] {
        let collector = Collector::bind();
        let exported = Exported::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exported.clone()).build();
        let tracer = provider.tracer("test");
        let ours = collector.builder().build();
        let dispatch = if ours_is_first {
            let registry = tracing_subscriber::registry().with(ours);
            Dispatch::new(registry.with(tracing_opentelemetry::layer().with_tracer(tracer)))
        } else {
            let registry = tracing_subscriber::registry();
            Dispatch::new(registry.with(tracing_opentelemetry::layer().with_tracer(tracer)).with(ours))
        };
        dispatcher::with_default(&dispatch, || {
            answer_one(&ServerLayer::new().with_opentelemetry_parent(true))
        });
        drop(dispatch);

        let exported = exported.0.lock().unwrap();
        let [inside, request] = &exported[..] else { panic!("{exported:?}") };
        assert_eq!((&*inside.name, &*request.name), ("inside", "GET"));
        let trace_of = |span: &SpanData| span.span_context.trace_id().to_string();
        assert_eq!([inside, request].map(trace_of), [TRACE; 2], "ours is first: {ours_is_first}");
        assert_eq!(request.parent_span_id.to_string(), CALLER_SPAN);
        assert!(request.parent_span_is_remote);
        assert_eq!(inside.parent_span_id, request.span_context.span_id());
        for span in [inside, request] {
            assert_eq!(span.span_context.trace_state().header(), "a=1");
        }

        let sent = collector.drain();
        let [inside, request] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!([inside, request].map(|span| text(span, "name")), ["inside", "GET"]);
        assert_eq!([inside, request].map(|span| text(span, "traceId")), [TRACE; 2]);
        assert_eq!(text(request, "parentId"), CALLER_SPAN);
        assert_eq!(inside["parentId"], request["id"]);
    }
}

/// Cargo gives all crates of a build the features that one of them asks for.
#[test]
fn the_feature_alone_gives_opentelemetry_no_parent() {
    for layer in [ServerLayer::new(), ServerLayer::new().with_opentelemetry_parent(false)] {
        let collector = Collector::bind();
        let exported = Exported::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exported.clone()).build();
        let registry = tracing_subscriber::registry().with(collector.builder().build());
        let tracer = provider.tracer("test");
        let dispatch = Dispatch::new(registry.with(tracing_opentelemetry::layer().with_tracer(tracer)));
        dispatcher::with_default(&dispatch, || answer_one(&layer));
        drop(dispatch);

        let exported = exported.0.lock().unwrap();
        let [_, request] = &exported[..] else { panic!("{exported:?}") };
        assert_ne!(request.span_context.trace_id().to_string(), TRACE);
        assert!(!request.parent_span_is_remote);

        let sent = collector.drain();
        let [_, request] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((text(request, "traceId"), text(request, "parentId")), (TRACE, CALLER_SPAN));
    }
}
