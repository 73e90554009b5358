//! A span for each request that is answered.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::USER_AGENT;
use http::request::Parts;
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;
use tracing::field::{self, Empty};
use tracing::{Span, info_span};

use super::request::{self, Name, Query};
use super::response::{ResponseFuture, Side};
use crate::context::SpanContext;
use crate::span_ext::SpanExt;

/// Makes a span for each request that a service answers, in the caller's trace.
///
/// Where the request has a context that can be read, the span is its child, whatever span the program is in;
/// else it is a child of the span that the program is in, or begins a trace. See
/// [the module](super) for what it says.
///
/// ```
/// # mod axum { pub mod extract {
/// #     #[derive(Clone)] pub struct MatchedPath;
/// #     impl MatchedPath { pub fn as_str(&self) -> &str { "/items/{id}" } }
/// # } }
/// use axum::extract::MatchedPath;
/// use tracing_usdt::tower::ServerLayer;
///
/// let layer = ServerLayer::new()
///     .route(|request| Some(request.extensions.get::<MatchedPath>()?.as_str().to_owned()));
/// // let app = axum::Router::new().route("/items/{id}", get(item)).layer(layer);
/// # drop(layer);
/// ```
#[derive(Clone, Default)]
pub struct ServerLayer {
    route: Option<Arc<Route>>,
}

type Route = dyn Fn(&Parts) -> Option<String> + Send + Sync;

impl ServerLayer {
    /// Without routes: all spans of a method have the same name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks `route` for the route of each request, such as `/items/{id}`, which is `http.route` and part of the
    /// span's name. It must be one of few: a path as it was asked for is not a route.
    ///
    /// What learns the route only later can record it: `Span::current().record("http.route", ...)`, and
    /// `otel.name` likewise.
    #[must_use]
    pub fn route(self, route: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { route: Some(Arc::new(route)) }
    }

    fn span(&self, request: &Parts, caller: Option<&SpanContext>) -> Span {
        let route = self.route.as_ref().and_then(|route| route(request));
        match caller {
            Some(caller) => caller.in_scope(|| span(request, route.as_deref(), || None)),
            None => span(request, route.as_deref(), || Span::current().id()),
        }
    }
}

impl fmt::Debug for ServerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerLayer").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = ServerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ServerService { inner, layer: self.clone() }
    }
}

/// A service with a span for each request that it answers; made by [`ServerLayer`].
#[derive(Clone, Debug)]
pub struct ServerService<S> {
    inner: S,
    layer: ServerLayer,
}

impl<S, B, C> Service<Request<B>> for ServerService<S>
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
        let (parts, body) = request.into_parts();
        let caller = SpanContext::extract(&parts.headers);
        let span = self.layer.span(&parts, caller.as_ref());
        #[cfg(feature = "tracing-opentelemetry")]
        if let Some(caller) = &caller {
            crate::otel::set_parent(&span, caller);
        }
        let caller = caller.filter(|caller| !continues(&span, caller));
        if let Some(caller) = &caller {
            // It may still be asked who it is.
            span.set_parent(caller.clone());
        }
        ResponseFuture::new(Side::Server, span, caller, || self.inner.call(Request::from_parts(parts, body)))
    }
}

/// Whether the layer has the span. Where a filter leaves it out, for all layers or for ours, the spans below
/// are roots to us, so it is for them to continue the caller.
fn continues(span: &Span, caller: &SpanContext) -> bool {
    span.context().is_some_and(|context| context.trace_id() == caller.trace_id())
}

/// With `parent`, or a root.
fn span(request: &Parts, route: Option<&str>, parent: impl FnOnce() -> Option<tracing::Id>) -> Span {
    let uri = &request.uri;
    let authority = request::authority(request);
    let span = info_span!(
        parent: parent(),
        "http.server.request",
        otel.name = %Name { method: &request.method, route },
        otel.kind = "server",
        http.request.method = request::method(&request.method),
        http.route = route,
        url.path = uri.path(),
        url.query = uri.query().map(|query| field::display(Query(query))),
        url.scheme = uri.scheme_str().unwrap_or("http"),
        server.address = authority.as_ref().map(request::address),
        server.port = authority.as_ref().and_then(request::port),
        user_agent.original = request.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()),
        network.protocol.version = request::version(request.version),
        http.response.status_code = Empty,
        error.type = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    );
    request::set_original_method(&span, &request.method);
    span
}
