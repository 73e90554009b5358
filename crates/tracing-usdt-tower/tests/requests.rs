//! The spans of HTTP requests as a collector receives them, and the contexts in the headers.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

#[path = "../../tracing-usdt/tests/collector/mod.rs"]
mod collector;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Future, Ready, pending, poll_fn, ready};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use collector::{Collector, Span, assert_stats_add_up, tag, text};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use tower::util::ServiceExt;
use tower::{Layer as _, Service, service_fn};
use tracing::{Level, info_span, subscriber::with_default};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::prelude::*;
use tracing_usdt::{Sampler, SpanContext, SpanExt};
use tracing_usdt_tower::{ClientLayer, ServerLayer};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER_SPAN: &str = "00f067aa0ba902b7";

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// The spans that are sent while `future` runs under the layer, by name.
fn sent<T>(future: impl Future<Output = T>) -> BTreeMap<String, Span> {
    let collector = Collector::bind();
    let layer = collector.builder().build();
    let handle = layer.handle();
    with_default(tracing_subscriber::registry().with(layer), || block_on(future));
    assert_stats_add_up(&handle);
    let spans = collector.drain();
    let count = spans.len();
    let by_name: BTreeMap<_, _> = spans.into_iter().map(|s| (text(&s, "name").to_owned(), s)).collect();
    assert_eq!(by_name.len(), count, "each span of a test has a name of its own");
    by_name
}

/// The only span.
#[track_caller]
fn only(spans: BTreeMap<String, Span>) -> Span {
    assert_eq!(spans.len(), 1, "{spans:?}");
    spans.into_values().next().unwrap()
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let builder = Request::builder().method(method).uri(uri);
    headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
}

fn answer(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

/// A service that always responds with the same status.
fn always(
    status: u16,
) -> impl Service<Request<()>, Response = Response<()>, Error = Infallible, Future: Send> + Clone {
    service_fn(move |_| ready(Ok(answer(status))))
}

/// The headers of the requests that a [`keeper`] got.
type Headers = Arc<Mutex<Vec<HeaderMap>>>;

/// A service that keeps the headers of its requests.
fn keeper(
    headers: &Headers,
) -> impl Service<
    Request<()>,
    Response = Response<()>,
    Error = Infallible,
    Future = Ready<Result<Response<()>, Infallible>>,
> + Clone
+ use<> {
    let headers = headers.clone();
    service_fn(move |request: Request<()>| {
        headers.lock().unwrap().push(request.headers().clone());
        ready(Ok(answer(200)))
    })
}

#[track_caller]
fn assert_tags(span: &Span, expected: &[(&str, Option<&str>)]) {
    for (key, value) in expected {
        assert_eq!(tag(span, key), *value, "{key} of {span:?}");
    }
}

#[test]
fn a_server_span_continues_the_callers_trace() {
    let spans = sent(async {
        // The current span, for example of a connection, must not become the parent.
        let _connection = info_span!("connection").entered();
        let handler = service_fn(async |_: Request<()>| {
            let inner = info_span!("handler");
            assert_eq!(inner.trace_context().unwrap().trace_state().to_string(), "a=1,b=2");
            drop(inner);
            Ok::<_, Infallible>(answer(200))
        });
        let headers = [("traceparent", CALLER), ("tracestate", "a=1"), ("tracestate", "b=2")];
        ServerLayer::new().layer(handler).oneshot(request("GET", "/", &headers)).await
    });
    let of = |name: &str| {
        let span = &spans[name];
        (text(span, "traceId").to_owned(), span.get("parentId").and_then(|id| id.as_str()).map(str::to_owned))
    };
    assert_eq!(of("GET"), (TRACE.to_owned(), Some(CALLER_SPAN.to_owned())));
    assert_eq!(of("handler"), (TRACE.to_owned(), Some(text(&spans["GET"], "id").to_owned())));
    assert_ne!(of("connection").0, TRACE);
}

#[test]
fn an_invalid_context_begins_a_new_trace() {
    let cases: [&[(&str, &str)]; 4] = [
        &[],
        &[("traceparent", "rubbish")],
        &[("traceparent", CALLER), ("traceparent", CALLER)],
        &[("tracestate", "a=1")],
    ];
    for headers in cases {
        let span = only(sent(ServerLayer::new().layer(always(200)).oneshot(request("GET", "/", headers))));
        assert_ne!(text(&span, "traceId"), TRACE);
        assert_eq!(span.get("parentId"), None, "{headers:?}");
    }
    // Without a caller, the current span is the parent.
    let spans = sent(async {
        let _connection = info_span!("connection").entered();
        ServerLayer::new().layer(always(200)).oneshot(request("GET", "/", &[])).await
    });
    assert_eq!(spans["GET"]["parentId"], spans["connection"]["id"]);
}

#[test]
fn a_server_span_describes_request_and_response() {
    let headers = [("host", "shop.example:8080"), ("user-agent", "curl/8")];
    let request = request("POST", "/items/7?page=2&sig=secret", &headers);
    let span = only(sent(ServerLayer::new().layer(always(201)).oneshot(request)));
    assert_eq!((text(&span, "name"), text(&span, "kind")), ("POST", "SERVER"));
    assert_tags(
        &span,
        &[
            ("http.request.method", Some("POST")),
            ("http.request.method_original", None),
            ("http.route", None),
            ("url.path", Some("/items/7")),
            ("url.query", Some("page=2&sig=REDACTED")),
            ("url.scheme", Some("http")),
            ("server.address", Some("shop.example")),
            ("server.port", Some("8080")),
            ("user_agent.original", Some("curl/8")),
            ("network.protocol.version", Some("1.1")),
            ("http.response.status_code", Some("201")),
            ("error.type", None),
            ("error", None),
            ("level", Some("INFO")),
            ("target", Some("tracing_usdt_tower::server")),
        ],
    );
}

/// hyper represents HTTP/2 requests like this.
#[test]
fn a_server_reads_the_authority_if_there_is_no_host_header() {
    let mut request = request("GET", "https://[2001:db8::1]/", &[]);
    *request.version_mut() = Version::HTTP_2;
    let span = only(sent(ServerLayer::new().layer(always(200)).oneshot(request)));
    assert_tags(
        &span,
        &[
            ("url.scheme", Some("https")),
            ("server.address", Some("2001:db8::1")),
            ("server.port", None),
            ("url.query", None),
            ("user_agent.original", None),
            ("network.protocol.version", Some("2")),
        ],
    );
}

#[test]
fn a_client_span_describes_request_and_response() {
    let mut response = answer(200);
    *response.version_mut() = Version::HTTP_2;
    let service = service_fn(move |_| ready(Ok::<_, Infallible>(response.clone())));
    let request = request("GET", "https://me:password@shop.example/items?page=2&X-Amz-Signature=abc", &[]);
    let span = only(sent(ClientLayer::new().layer(service).oneshot(request)));
    assert!(!format!("{span:?}").contains("password"), "{span:?}");
    assert_eq!((text(&span, "name"), text(&span, "kind")), ("GET", "CLIENT"));
    let url = "https://REDACTED:REDACTED@shop.example/items?page=2&X-Amz-Signature=REDACTED";
    assert_tags(
        &span,
        &[
            ("http.request.method", Some("GET")),
            ("url.full", Some(url)),
            ("server.address", Some("shop.example")),
            ("server.port", Some("443")),
            ("network.protocol.version", Some("2")),
            ("http.response.status_code", Some("200")),
            ("error.type", None),
            ("error", None),
            ("target", Some("tracing_usdt_tower::client")),
        ],
    );
}

#[test]
fn a_server_span_fails_from_status_500_and_a_client_span_from_400() {
    for (status, server_fails, client_fails) in [
        (101, false, false),
        (200, false, false),
        (399, false, false),
        (400, false, true),
        (404, false, true),
    ]
    .into_iter()
    .chain([
        (499, false, true),
        (500, true, true),
        (503, true, true),
        (599, true, true),
        (600, false, false),
    ]) {
        let text = StatusCode::from_u16(status).unwrap().as_str().to_owned();
        let server = sent(ServerLayer::new().layer(always(status)).oneshot(request("GET", "/", &[])));
        let client = sent(ClientLayer::new().layer(always(status)).oneshot(request("GET", "http://a/", &[])));
        for (span, fails) in [(only(server), server_fails), (only(client), client_fails)] {
            let expected = fails.then_some(&*text);
            assert_tags(&span, &[("http.response.status_code", Some(&text)), ("error.type", expected)]);
            assert_eq!(tag(&span, "error").is_some(), fails, "{status}: {span:?}");
        }
    }
}

#[test]
fn an_error_of_the_service_fails_the_span() {
    let broken = || service_fn(|_: Request<()>| ready(Err::<Response<()>, _>(io::Error::other("it broke"))));
    let server = sent(async {
        let error = ServerLayer::new().layer(broken()).oneshot(request("GET", "/", &[])).await.unwrap_err();
        assert_eq!(error.to_string(), "it broke", "the caller gets it");
    });
    let client = sent(ClientLayer::new().layer(broken()).oneshot(request("GET", "http://a/", &[])));
    for span in [only(server), only(client)] {
        assert_tags(
            &span,
            &[
                ("error.type", Some("std::io::error::Error")),
                ("error", Some("it broke")),
                ("http.response.status_code", None),
            ],
        );
    }
}

#[test]
fn unknown_methods_are_recorded_as_other() {
    for (method, known) in [
        ("DELETE", true),
        ("PATCH", true),
        ("TRACE", true),
        ("get", false),
        ("PURGE", false),
        ("QUERY", false),
    ] {
        let server = sent(ServerLayer::new().layer(always(200)).oneshot(request(method, "/", &[])));
        let client = sent(ClientLayer::new().layer(always(200)).oneshot(request(method, "http://a/", &[])));
        for span in [only(server), only(client)] {
            let (name, attribute, original) =
                if known { (method, method, None) } else { ("HTTP", "_OTHER", Some(method)) };
            assert_eq!(text(&span, "name"), name);
            assert_tags(
                &span,
                &[("http.request.method", Some(attribute)), ("http.request.method_original", original)],
            );
        }
    }
}

#[test]
fn the_route_function_names_the_route() {
    #[derive(Clone)]
    struct Matched(&'static str);
    let layer =
        ServerLayer::new().with_route(|request| Some(request.extensions.get::<Matched>()?.0.to_owned()));
    let mut known = request("GET", "/items/7", &[]);
    known.extensions_mut().insert(Matched("/items/{id}"));
    let mut odd = request("BREW", "/items/7", &[]);
    odd.extensions_mut().insert(Matched("/items/{id}"));
    let spans = sent(async {
        let service = layer.layer(always(200));
        for request in [known, odd, request("GET", "/nowhere", &[])] {
            service.clone().oneshot(request).await.unwrap();
        }
        // Some routers know the route only later.
        let router = service_fn(async |_: Request<()>| {
            let span = tracing::Span::current();
            span.record("http.route", "/late");
            span.record("otel.name", "GET /late");
            Ok::<_, Infallible>(answer(200))
        });
        ServerLayer::new().layer(router).oneshot(request("GET", "/late", &[])).await
    });
    let routes: Vec<_> = spans.iter().map(|(name, span)| (&**name, tag(span, "http.route"))).collect();
    assert_eq!(
        routes,
        [
            ("GET", None),
            ("GET /items/{id}", Some("/items/{id}")),
            ("GET /late", Some("/late")),
            ("HTTP /items/{id}", Some("/items/{id}")),
        ]
    );
}

#[test]
fn outgoing_headers_have_the_client_spans_context() {
    let headers = Headers::default();
    let spans = sent(async {
        let work = info_span!("work").entered();
        let old =
            [("traceparent", CALLER), ("Traceparent", "rubbish"), ("tracestate", "old=1"), ("x", "stays")];
        let client = ClientLayer::new().layer(keeper(&headers));
        client.oneshot(request("GET", "http://a/", &old)).await.unwrap();
        drop(work);
    });
    let headers = headers.lock().unwrap();
    let context = SpanContext::extract(&headers[0]).expect("a valid context");
    assert_eq!(context.span_id().to_string(), text(&spans["GET"], "id"));
    assert_eq!(context.trace_id().to_string(), text(&spans["work"], "traceId"));
    assert_eq!(spans["GET"]["parentId"], spans["work"]["id"]);
    assert!(context.is_sampled() && context.trace_state().is_empty());
    assert_eq!((headers[0].len(), headers[0]["x"].to_str().unwrap()), (2, "stays"));
}

#[test]
fn a_trace_continues_through_a_chain_of_servers() {
    let headers = Headers::default();
    let spans = sent(async {
        let last = ServerLayer::new().with_route(|_| Some("/last".to_owned())).layer(keeper(&headers));
        let call = ClientLayer::new().layer(last);
        let middle =
            service_fn(move |_: Request<()>| call.clone().oneshot(request("PUT", "http://last/", &[])));
        let state = [("traceparent", CALLER), ("tracestate", "a=1")];
        ServerLayer::new().layer(middle).oneshot(request("GET", "/", &state)).await
    });
    let chain = ["GET", "PUT", "PUT /last"].map(|name| &spans[name]);
    assert_eq!(text(chain[0], "parentId"), CALLER_SPAN);
    for pair in chain.windows(2) {
        assert_eq!(pair[1]["parentId"], pair[0]["id"]);
        assert_eq!(text(pair[1], "traceId"), TRACE);
    }
    assert_eq!(headers.lock().unwrap()[0]["tracestate"], "a=1");
}

#[test]
fn a_trace_that_is_not_sampled_is_passed_on_and_not_sent() {
    let headers = Headers::default();
    let spans = sent(async {
        let call = ClientLayer::new().layer(keeper(&headers));
        let handler =
            service_fn(move |_: Request<()>| call.clone().oneshot(request("GET", "http://a/", &[])));
        let caller = CALLER.replace("-01", "-00");
        ServerLayer::new().layer(handler).oneshot(request("GET", "/", &[("traceparent", &caller)])).await
    });
    assert_eq!(spans.len(), 0, "{spans:?}");
    let traceparent = headers.lock().unwrap()[0]["traceparent"].to_str().unwrap().to_owned();
    assert!(traceparent.starts_with(&CALLER[..36]) && traceparent.ends_with("-00"), "{traceparent}");
    assert!(!traceparent.contains(CALLER_SPAN), "the id is not the client span's");
}

/// The sampler runs after the caller is known.
#[test]
fn a_sampler_can_follow_the_callers_decision() {
    let collector = Collector::bind();
    let sampler = Sampler::custom(|trace: &tracing_usdt::SamplingRequest| trace.parent_sampled == Some(true));
    let layer = collector.builder().with_sampler(sampler).build();
    with_default(tracing_subscriber::registry().with(layer), || {
        // The current span is in another trace.
        let _connection = info_span!("connection").entered();
        let service = ServerLayer::new().layer(always(200));
        block_on(service.clone().oneshot(request("GET", "/", &[("traceparent", CALLER)]))).unwrap();
        block_on(service.oneshot(request("PUT", "/", &[]))).unwrap();
    });
    let spans = collector.drain();
    assert_eq!(spans.iter().map(|span| text(span, "name")).collect::<Vec<_>>(), ["GET"]);
    assert_tags(&spans[0], &[("url.path", Some("/")), ("otel.dropped_attributes_count", None)]);
}

#[test]
fn without_the_layer_headers_are_unchanged() {
    let headers = Headers::default();
    let call = || {
        let client = ClientLayer::new().layer(keeper(&headers));
        let handler = service_fn(|_: Request<()>| {
            let given = [("traceparent", "theirs"), ("tracestate", "theirs"), ("baggage", "a=theirs")];
            client.clone().oneshot(request("GET", "http://a/", &given))
        });
        let _span = info_span!("span").entered();
        let caller = [("traceparent", CALLER), ("baggage", "a=1")];
        block_on(ServerLayer::new().layer(handler).oneshot(request("GET", "/", &caller))).unwrap();
        block_on(ServerLayer::new().layer(handler).oneshot(request("GET", "/", &caller[1..]))).unwrap();
    };
    call();
    with_default(tracing_subscriber::registry(), call);
    for headers in headers.lock().unwrap().iter() {
        assert_eq!(
            (&headers["traceparent"], &headers["tracestate"]),
            (&"theirs".parse().unwrap(), &"theirs".parse().unwrap())
        );
        assert_eq!(headers["baggage"], "a=theirs");
    }
    assert_eq!(headers.lock().unwrap().len(), 4);
}

/// For example by an `EnvFilter` that names only the program's own crates.
#[test]
fn the_trace_continues_if_a_filter_disables_the_request_spans() {
    let collector = Collector::bind();
    let layer = collector.builder().build();
    let headers = Headers::default();
    let not_ours = filter_fn(|metadata| !metadata.target().starts_with("tracing_usdt"));
    with_default(tracing_subscriber::registry().with(layer).with(not_ours), || {
        let call = ClientLayer::new().layer(keeper(&headers));
        let handler = service_fn(async |_: Request<()>| {
            tokio::task::yield_now().await;
            let _handler = info_span!("handler").entered();
            call.clone().oneshot(request("GET", "http://a/", &[])).await
        });
        let caller = [("traceparent", CALLER), ("tracestate", "a=1")];
        block_on(ServerLayer::new().layer(handler).oneshot(request("GET", "/", &caller))).unwrap();
        assert_eq!(tracing::Span::current().trace_context(), None);
        // The caller's context is not left behind on the thread.
        assert_ne!(info_span!("after").trace_context().unwrap().trace_id().to_string(), TRACE);
        block_on(ClientLayer::new().layer(keeper(&headers)).oneshot(request("GET", "http://a/", &[])))
            .unwrap();
    });
    let spans = collector.drain();
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert_eq!((text(&spans[0], "traceId"), text(&spans[0], "parentId")), (TRACE, CALLER_SPAN));
    let headers = headers.lock().unwrap();
    let context = SpanContext::extract(&headers[0]).expect("the current span's");
    assert_eq!(context.span_id().to_string(), text(&spans[0], "id"));
    assert_eq!(context.trace_state().to_string(), "a=1");
    assert!(headers[1].is_empty(), "no context without a span");
}

/// For example by `on_demand` while nobody listens.
#[test]
fn the_callers_context_is_passed_on_if_a_filter_disables_all_spans() {
    let headers = Headers::default();
    let layer = tracing_usdt::builder().without_socket().without_remote_parent().build();
    with_default(tracing_subscriber::registry().with(LevelFilter::OFF).with(layer), || {
        let call = ClientLayer::new().layer(keeper(&headers));
        let handler =
            service_fn(move |_: Request<()>| call.clone().oneshot(request("GET", "http://a/", &[])));
        let caller = [("traceparent", CALLER), ("tracestate", "a=1")];
        block_on(ServerLayer::new().layer(handler).oneshot(request("GET", "/", &caller))).unwrap();
    });
    let headers = headers.lock().unwrap();
    assert_eq!(
        (&headers[0]["traceparent"], &headers[0]["tracestate"]),
        (&CALLER.parse().unwrap(), &"a=1".parse().unwrap())
    );
}

/// Another layer of the subscriber still gets the span.
#[test]
fn the_trace_continues_if_only_this_layers_filter_disables_the_request_spans() {
    let collector = Collector::bind();
    let headers = Headers::default();
    let not_ours = filter_fn(|metadata| !metadata.target().starts_with("tracing_usdt"));
    let fmt = tracing_subscriber::fmt::layer().with_writer(io::sink);
    let subscriber = tracing_subscriber::registry().with(collector.builder().build().with_filter(not_ours));
    with_default(subscriber.with(fmt), || {
        let call = ClientLayer::new().layer(keeper(&headers));
        let handler = service_fn(async |_: Request<()>| {
            tokio::task::yield_now().await;
            drop(info_span!("handler"));
            call.clone().oneshot(request("GET", "http://a/", &[])).await
        });
        let caller = [("traceparent", CALLER), ("tracestate", "a=1")];
        block_on(ServerLayer::new().layer(handler).oneshot(request("GET", "/", &caller))).unwrap();
    });
    let span = collector.drain().pop().unwrap();
    assert_eq!((text(&span, "traceId"), text(&span, "parentId")), (TRACE, CALLER_SPAN));
    let context = SpanContext::extract(&headers.lock().unwrap()[0]).unwrap();
    assert_eq!(context.trace_id().to_string(), TRACE);
    assert_eq!(context.trace_state().to_string(), "a=1");
}

/// A handler that makes a span and sends a request, between a server and a client layer. Returns the headers of that
/// request and the spans.
fn relay(
    builder: tracing_usdt::Builder,
    collector: &Collector,
    hidden: bool,
    given: &[(&str, &str)],
) -> (HeaderMap, Vec<Span>) {
    let headers = Headers::default();
    let shown = filter_fn(move |metadata| !hidden || !metadata.target().starts_with("tracing_usdt"));
    with_default(tracing_subscriber::registry().with(builder.build()).with(shown), || {
        let call = ClientLayer::new().layer(keeper(&headers));
        let handler = service_fn(async |_: Request<()>| {
            tokio::task::yield_now().await;
            let _handler = info_span!("handler").entered();
            call.clone().oneshot(request("GET", "http://a/", &[])).await
        });
        block_on(ServerLayer::new().layer(handler).oneshot(request("GET", "/", given))).unwrap();
        assert!(info_span!("after").baggage().is_empty(), "the baggage was left behind on the thread");
    });
    let headers = headers.lock().unwrap().pop().unwrap();
    let mut spans = collector.drain();
    spans.retain(|span| text(span, "name") != "after");
    (headers, spans)
}

#[test]
fn baggage_goes_from_the_caller_to_the_servers_that_are_called() {
    let with_caller: &[(&str, &str)] =
        &[("traceparent", CALLER), ("baggage", "user.id=7"), ("baggage", "k=%20;p")];
    for given in [with_caller, &with_caller[1..]] {
        for hidden in [false, true] {
            let collector = Collector::bind();
            let builder = collector.builder().with_baggage_attributes(["user.id"]);
            let (headers, spans) = relay(builder, &collector, hidden, given);
            assert_eq!(headers["baggage"], "user.id=7,k=%20;p", "{given:?}, hidden: {hidden}");
            assert_eq!(spans.len(), if hidden { 1 } else { 3 });
            for span in &spans {
                assert_tags(span, &[("user.id", Some("7")), ("k", None)]);
            }
            let is_callers = headers["traceparent"].to_str().unwrap().contains(TRACE);
            assert_eq!(is_callers, given.len() == 3);
        }
    }
}

#[test]
fn a_request_without_baggage_is_passed_on_without() {
    for given in [&[("traceparent", CALLER)][..], &[], &[("baggage", "not valid")]] {
        let collector = Collector::bind();
        let builder = collector.builder().with_baggage_attributes(["user.id"]);
        let (headers, spans) = relay(builder, &collector, false, given);
        assert_eq!(headers.get("baggage"), None);
        assert!(spans.iter().all(|span| tag(span, "user.id").is_none()));
    }
}

#[test]
fn baggage_is_passed_on_while_nobody_listens_and_if_a_filter_disables_all_spans() {
    for level in [LevelFilter::INFO, LevelFilter::OFF] {
        for given in [&[("traceparent", CALLER), ("baggage", "k=v")][..], &[("baggage", "k=v")]] {
            let headers = Headers::default();
            let layer = tracing_usdt::builder().without_socket().without_remote_parent().build();
            with_default(tracing_subscriber::registry().with(level).with(layer), || {
                let call = ClientLayer::new().layer(keeper(&headers));
                let handler =
                    service_fn(move |_: Request<()>| call.clone().oneshot(request("GET", "http://a/", &[])));
                block_on(ServerLayer::new().layer(handler).oneshot(request("GET", "/", given))).unwrap();
            });
            assert_eq!(headers.lock().unwrap()[0]["baggage"], "k=v", "{level:?}, {given:?}");
        }
    }
}

/// The layer's filter hides the request's span, which another layer sees.
#[test]
fn baggage_is_passed_on_if_only_this_layers_filter_disables_the_request_spans() {
    for given in [&[("traceparent", CALLER), ("baggage", "k=v")][..], &[("baggage", "k=v")]] {
        let (collector, headers) = (Collector::bind(), Headers::default());
        let not_ours = filter_fn(|metadata| !metadata.target().starts_with("tracing_usdt"));
        let fmt = tracing_subscriber::fmt::layer().with_writer(io::sink);
        let builder = collector.builder().with_baggage_attributes(["k"]);
        let layer = builder.build().with_filter(not_ours);
        with_default(tracing_subscriber::registry().with(layer).with(fmt), || {
            let call = ClientLayer::new().layer(keeper(&headers));
            let handler = service_fn(async |_: Request<()>| {
                let span = info_span!("handler");
                assert_eq!(span.baggage().to_string(), "k=v");
                call.clone().oneshot(request("GET", "http://a/", &[])).await
            });
            block_on(ServerLayer::new().layer(handler).oneshot(request("GET", "/", given))).unwrap();
        });
        assert_eq!(headers.lock().unwrap()[0]["baggage"], "k=v", "{given:?}");
        assert_tags(&collector.drain()[0], &[("k", Some("v"))]);
    }
}

/// At the borders of what belongs together.
#[test]
fn baggage_is_neither_taken_over_nor_sent_if_that_is_turned_off() {
    let layers =
        |server, client| (ServerLayer::new().with_baggage(server), ClientLayer::new().with_baggage(client));
    for ((server, client), expected) in [
        (layers(true, true), Some("user.id=7")),
        (layers(false, true), None),
        (layers(true, false), None),
        (layers(false, false), None),
    ] {
        for given in [&[("traceparent", CALLER), ("baggage", "user.id=7")][..], &[("baggage", "user.id=7")]] {
            for level in [LevelFilter::INFO, LevelFilter::OFF] {
                let headers = Headers::default();
                let layer = tracing_usdt::builder().without_socket().without_remote_parent().build();
                with_default(tracing_subscriber::registry().with(level).with(layer), || {
                    let call = client.layer(keeper(&headers));
                    // As in a proxy that copies headers. Without a context, they stay as they are.
                    let copied = if given.len() == 2 { given } else { &[] };
                    let handler = service_fn(move |_: Request<()>| {
                        call.clone().oneshot(request("GET", "http://a/", copied))
                    });
                    block_on(server.layer(handler).oneshot(request("GET", "/", given))).unwrap();
                });
                let sent = headers.lock().unwrap();
                let baggage = sent[0].get("baggage").map(|value| value.to_str().unwrap());
                assert_eq!(baggage, expected, "{server:?} {client:?} {given:?} {level:?}");
            }
        }
    }
}

/// The spans of requests have the level INFO.
#[test]
fn other_layers_see_fields_and_levels() {
    let headers = Headers::default();
    let subscriber = tracing_subscriber::registry()
        .with(tracing_usdt::builder().without_socket().without_remote_parent().build())
        .with(LevelFilter::from_level(Level::WARN));
    with_default(subscriber, || {
        let client = ClientLayer::new().layer(keeper(&headers));
        block_on(client.oneshot(request("GET", "http://a/", &[]))).unwrap();
    });
    assert!(headers.lock().unwrap()[0].is_empty());

    #[derive(Clone, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let writer = Text::default();
    let out = writer.0.clone();
    let fmt = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    with_default(tracing_subscriber::registry().with(fmt), || {
        let handler = service_fn(async |_: Request<()>| {
            tracing::info!("here");
            Ok::<_, Infallible>(answer(200))
        });
        block_on(ServerLayer::new().layer(handler).oneshot(request("GET", "/p", &[]))).unwrap();
    });
    let out = String::from_utf8(out.lock().unwrap().clone()).unwrap();
    assert!(out.contains("http.server.request{otel.name=GET") && out.contains("url.path=\"/p\""), "{out}");
}

/// A service that is ready at the second poll, and then fails.
#[derive(Default)]
struct Slow {
    asked: u32,
}

impl Service<Request<()>> for Slow {
    type Response = Response<()>;
    type Error = io::Error;
    type Future = Ready<io::Result<Response<()>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.asked += 1;
        match self.asked {
            1 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            2 => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err(io::Error::other("closed"))),
        }
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert_eq!(self.asked, 2, "not the service that was polled, or not when it was ready");
        ready(Ok(answer(200)))
    }
}

#[test]
fn the_wrapped_services_readiness_is_passed_on() {
    async fn ask<S>(mut service: S)
    where
        S: Service<Request<()>, Response = Response<()>, Error = io::Error>,
    {
        let mut polls = 0;
        let ready = poll_fn(|cx| {
            polls += 1;
            service.poll_ready(cx)
        });
        ready.await.unwrap();
        service.call(request("GET", "http://a/", &[])).await.unwrap();
        let error = poll_fn(|cx| service.poll_ready(cx)).await.unwrap_err();
        assert_eq!((polls, error.to_string().as_str()), (2, "closed"));
    }
    block_on(async {
        ask(ServerLayer::new().layer(Slow::default())).await;
        ask(ClientLayer::new().layer(Slow::default())).await;
    });
}

/// The span of a request that is dropped has neither a status code nor an error.
#[test]
fn a_span_is_current_only_while_its_request_is_polled() {
    let spans = sent(async {
        let outside = info_span!("outside").entered();
        let current = || tracing::Span::current().metadata().map(|metadata| metadata.name());
        let waits = service_fn(|_: Request<()>| {
            assert_eq!(tracing::Span::current().metadata().unwrap().name(), "http.server.request");
            async {
                assert_eq!(tracing::Span::current().metadata().unwrap().name(), "http.server.request");
                pending::<Result<Response<()>, Infallible>>().await
            }
        });
        {
            let mut answer = pin!(ServerLayer::new().layer(waits).call(request("GET", "/", &[])));
            assert_eq!(current(), Some("outside"));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(answer.as_mut().poll(&mut cx).is_pending() && answer.as_mut().poll(&mut cx).is_pending());
            assert_eq!(current(), Some("outside"));
        }
        drop(outside);
    });
    assert_tags(&spans["GET"], &[("http.response.status_code", None), ("error", None)]);
}
