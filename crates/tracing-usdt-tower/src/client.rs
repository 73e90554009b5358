//! The layer that makes a span for each request that a program sends.

use std::fmt::Display;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{HeaderMap, Request, Response};
use tower_layer::Layer;
use tower_service::Service;
use tracing::field::{self, Empty};
use tracing::{Span, dispatcher, info_span};

use tracing_usdt::{Baggage, SpanContext, SpanExt, UsdtLayer};

use crate::request::{self, Name, Url};
use crate::response::{ResponseFuture, Side};

/// Makes a span for each request that a service sends, and writes its context, with its baggage, into the request's
/// headers. [The crate](crate) lists the span's fields.
///
/// If a filter disables that span, the headers get the context of the current span. If the layer has no current
/// span either, they get the context of the caller whose request a [`ServerLayer`](crate::ServerLayer) is
/// answering on this thread. A header `tracestate` or `baggage` that the context does not have is removed. If the
/// subscriber has no [`UsdtLayer`], or there is no context, the headers stay as they are.
///
/// Put this layer below one that sends a request again, such as `tower::retry`, so that each attempt has a span.
///
/// ```
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, service_fn, util::ServiceExt};
/// use tracing_subscriber::prelude::*;
/// use tracing_usdt_tower::ClientLayer;
///
/// async fn send(request: Request<()>) -> Result<Response<()>, std::io::Error> {
///     assert!(request.headers().contains_key("traceparent"));
///     Ok(Response::new(()))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// tracing_subscriber::registry().with(tracing_usdt::layer()).init();
///
/// let client = ServiceBuilder::new().layer(ClientLayer::new()).service(service_fn(send));
/// client.oneshot(Request::get("https://shop.example/items").body(())?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ClientLayer {
    sends_baggage: bool,
}

impl ClientLayer {
    /// A layer that sends baggage.
    pub fn new() -> Self {
        Self { sends_baggage: true }
    }

    /// Whether to send the baggage of the span; on by default. If it is off, requests have no header `baggage`, not even
    /// one that the program has set. Turn it off for services of others: baggage may say who your users are.
    #[must_use]
    pub fn with_baggage(mut self, enabled: bool) -> Self {
        self.sends_baggage = enabled;
        self
    }
}

impl Default for ClientLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = ClientService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientService { inner, layer: *self }
    }
}

/// A service that makes a span for each request that it sends. Made by [`ClientLayer`].
#[derive(Clone, Debug)]
pub struct ClientService<S> {
    inner: S,
    layer: ClientLayer,
}

impl<S, B, C> Service<Request<B>> for ClientService<S>
where
    S: Service<Request<B>, Response = Response<C>>,
    S::Error: Display,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let span = span(&parts);
        match span.trace_context().or_else(context_without) {
            Some(context) => context.inject(&mut parts.headers),
            None => inject_baggage_of_caller(&mut parts.headers),
        }
        if !self.layer.sends_baggage {
            parts.headers.remove("baggage");
        }
        ResponseFuture::new(Side::Client, span, None, || self.inner.call(Request::from_parts(parts, body)))
    }
}

/// The context for the headers if a filter disables the request's span: the context of the current span, or the
/// caller's if the layer has no current span.
fn context_without() -> Option<SpanContext> {
    Span::current().trace_context().or_else(|| SpanContext::current_remote().filter(|_| has_layer()))
}

/// The caller's request had baggage and no context.
fn inject_baggage_of_caller(headers: &mut HeaderMap) {
    let baggage = Baggage::current_remote();
    if !baggage.is_empty() && has_layer() {
        baggage.inject(headers);
    }
}

fn has_layer() -> bool {
    dispatcher::get_default(|dispatch| dispatch.is::<UsdtLayer>())
}

fn span(request: &Parts) -> Span {
    let uri = &request.uri;
    let authority = request::authority(request);
    let authority = authority.as_ref();
    let span = info_span!(
        "http.client.request",
        otel.name = %Name { method: &request.method, route: None },
        otel.kind = "client",
        http.request.method = request::method(&request.method),
        server.address = authority.map(request::address),
        server.port = authority.and_then(request::port).or_else(|| request::default_port(uri)),
        url.full = authority.map(|authority| field::display(Url { uri, authority })),
        network.protocol.version = Empty,
        http.response.status_code = Empty,
        error.type = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    );
    request::set_original_method(&span, &request.method);
    span
}
