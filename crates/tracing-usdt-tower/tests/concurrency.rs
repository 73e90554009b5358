//! A thousand concurrent requests on several threads: each sees only its own context.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic

#[path = "../../tracing-usdt/tests/collector/mod.rs"]
mod collector;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::time::Duration;

use collector::{Collector, Span, TIMEOUT, tag, text, wait_until};
use http::{Request, Response};
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;
use tower::util::ServiceExt;
use tower::{ServiceBuilder, service_fn};
use tracing::{Instrument, info_span};
use tracing_subscriber::prelude::*;
use tracing_usdt::{Delivery, SpanContext, SpanExt};
use tracing_usdt_tower::{ClientLayer, ServerLayer};

const REQUESTS: u64 = 1000;

/// A caller whose trace id is the request's number. Every tenth request has no caller.
fn traceparent(n: u64) -> Option<String> {
    (n % 10 != 0).then(|| format!("00-{n:032x}-{n:016x}-01"))
}

fn number(request: &Request<()>) -> u64 {
    request.uri().path().trim_start_matches("/").parse().unwrap()
}

/// Asserts that the current span is in the trace of request `n`.
#[track_caller]
fn assert_in_trace(n: u64, given: &SpanContext) {
    let context = tracing::Span::current().trace_context().unwrap();
    assert_eq!(context.trace_id(), given.trace_id(), "request {n} is in the trace of another request");
    if traceparent(n).is_some() {
        assert_eq!(context.trace_id().get(), n.into());
    }
}

/// Lets other requests run, for a time that depends on `n`.
async fn pause(n: u64) {
    match n % 3 {
        0 => yield_now().await,
        1 => sleep(Duration::from_micros(n * 7 % 1000)).await,
        _ => {
            yield_now().await;
            yield_now().await;
        }
    }
}

/// The second service.
async fn stock(request: Request<()>) -> Result<Response<()>, Infallible> {
    let n = number(&request);
    let given = SpanContext::extract(request.headers()).expect("the client's context");
    assert_in_trace(n, &given);
    pause(n + 1).await;
    assert_in_trace(n, &given);
    Ok(Response::new(()))
}

/// The first service. It sends two requests to the second one at the same time.
async fn shop(request: Request<()>) -> Result<Response<()>, Infallible> {
    let n = number(&request);
    let ours = tracing::Span::current().trace_context().unwrap();
    assert_in_trace(n, &ours);
    let client = || {
        let server = ServerLayer::new().with_route(|_| Some("/stock".to_owned()));
        let service =
            ServiceBuilder::new().layer(ClientLayer::new()).layer(server).service(service_fn(stock));
        service.oneshot(Request::get(format!("http://stock/{n}")).body(()).unwrap())
    };
    let handler = async {
        pause(n).await;
        assert_in_trace(n, &ours);
        let (one, other) = tokio::join!(client(), client());
        assert!(one.is_ok() && other.is_ok());
        assert_in_trace(n, &ours);
        pause(n + 2).await;
        assert_in_trace(n, &ours);
    };
    handler.instrument(info_span!("handler", n)).await;
    assert_eq!(tracing::Span::current().trace_context().unwrap(), ours);
    Ok(Response::new(()))
}

#[test]
fn a_thousand_concurrent_requests_stay_in_their_own_traces() {
    let collector = Collector::bind();
    let layer = collector.builder().with_delivery(Delivery::Background).with_max_wait(TIMEOUT).build();
    let handle = layer.handle();
    tracing_subscriber::registry().with(layer).init();

    let received = std::thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(4).enable_time().build().unwrap().block_on(async {
                let service = ServerLayer::new().with_route(|_| Some("/shop".to_owned()));
                let service = ServiceBuilder::new().layer(service).service(service_fn(shop));
                let mut requests = JoinSet::new();
                for n in 1..=REQUESTS {
                    let request = Request::get(format!("http://shop/{n}"));
                    let request =
                        traceparent(n).into_iter().fold(request, |r, value| r.header("traceparent", value));
                    requests.spawn(service.clone().oneshot(request.body(()).unwrap()));
                }
                while let Some(done) = requests.join_next().await {
                    done.expect("no request fails").unwrap();
                }
            });
        });
        let mut received = Vec::new();
        wait_until("all spans have come", || {
            received.extend(collector.drain());
            requests.is_finished() && handle.stats().closed == received.len() as u64
        });
        received
    });
    assert_eq!(received.len() as u64, REQUESTS * 6);
    let mut traces: HashMap<&str, Vec<&Span>> = HashMap::new();
    for span in &received {
        traces.entry(text(span, "traceId")).or_default().push(span);
    }
    assert_eq!(traces.len() as u64, REQUESTS);
    for spans in traces.values() {
        assert_is_one_request(spans);
    }
}

/// Asserts the tree GET /shop > handler > 2 * (GET > GET /stock), all of one request.
fn assert_is_one_request(spans: &[&Span]) {
    let parent = |span: &Span| span.get("parentId").and_then(|id| id.as_str()).map(str::to_owned);
    let mut by_name: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        by_name.entry(text(span, "name")).or_default().push(span);
    }
    let counts: Vec<_> = by_name.iter().map(|(name, spans)| (*name, spans.len())).collect();
    assert_eq!(counts, [("GET", 2), ("GET /shop", 1), ("GET /stock", 2), ("handler", 1)]);
    let (shop, handler) = (by_name["GET /shop"][0], by_name["handler"][0]);
    let path = tag(shop, "url.path").unwrap();
    let n: u64 = path[1..].parse().unwrap();
    match traceparent(n) {
        Some(_) => {
            assert_eq!(
                (text(shop, "traceId"), parent(shop)),
                (&*format!("{n:032x}"), Some(format!("{n:016x}")))
            );
        }
        None => assert_eq!(parent(shop), None),
    }
    assert_eq!(tag(handler, "n"), Some(&path[1..]));
    assert_eq!(handler["parentId"], shop["id"]);
    for client in &by_name["GET"] {
        assert_eq!(client["parentId"], handler["id"]);
        assert_eq!(tag(client, "url.full"), Some(&*format!("http://stock{path}")));
        let servers = by_name["GET /stock"].iter().filter(|server| server["parentId"] == client["id"]);
        assert_eq!(servers.map(|server| tag(server, "url.path")).collect::<Vec<_>>(), [Some(path)]);
    }
}
