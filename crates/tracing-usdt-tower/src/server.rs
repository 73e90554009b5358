//! The layer that makes a span for each request that a program answers.

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
use tracing_usdt::{Baggage, SpanContext, SpanExt};

use crate::request::{self, Name, Query};
use crate::response::{Remote, ResponseFuture, Side};

/// Makes a span for each request that a service answers, in the caller's trace. [The crate](crate) lists the
/// span's fields.
///
/// If the request's headers have a valid context, the caller is the span's parent, even if there is a current
/// span. Otherwise the span is a child of the current span, or the root of a new trace. In both cases the span has
/// the request's baggage, if there is any. If the request has baggage and no context, so have other root spans that are
/// created while it is answered.
///
/// ```
/// # mod axum { pub mod extract {
/// #     #[derive(Clone)] pub struct MatchedPath;
/// #     impl MatchedPath { pub fn as_str(&self) -> &str { "/items/{id}" } }
/// # } }
/// use axum::extract::MatchedPath;
/// use tracing_usdt_tower::ServerLayer;
///
/// let layer = ServerLayer::new()
///     .with_route(|request| Some(request.extensions.get::<MatchedPath>()?.as_str().to_owned()));
/// // let app = axum::Router::new().route("/items/{id}", get(item)).layer(layer);
/// # drop(layer);
/// ```
#[derive(Clone, Default)]
pub struct ServerLayer {
    route: Option<Arc<Route>>,
    ignores_baggage: bool,
    #[cfg(feature = "tracing-opentelemetry")]
    sets_opentelemetry_parent: bool,
}

type Route = dyn Fn(&Parts) -> Option<String> + Send + Sync;

impl ServerLayer {
    /// A layer without routes: all spans of a method have the same name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a function that returns the route of a request, such as `/items/{id}`. The route becomes `http.route`
    /// and a part of the span's name. It must have few different values: the path of a request is not a route.
    ///
    /// Code that learns the route later can record it with `Span::current().record("http.route", ...)`, and
    /// record `otel.name` likewise.
    #[must_use]
    pub fn with_route(mut self, route: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.route = Some(Arc::new(route));
        self
    }

    /// Whether to take over the baggage of requests; on by default. Turn it off for requests from outside: a client can
    /// send any baggage, which the program would pass on.
    #[must_use]
    pub fn with_baggage(mut self, enabled: bool) -> Self {
        self.ignores_baggage = !enabled;
        self
    }

    /// Gives the caller also to the layer of `tracing-opentelemetry`, as the parent of the span that it exports;
    /// off by default. This does nothing if the subscriber has no such layer.
    #[cfg(feature = "tracing-opentelemetry")]
    #[must_use]
    pub fn with_opentelemetry_parent(mut self, enabled: bool) -> Self {
        self.sets_opentelemetry_parent = enabled;
        self
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

/// A service that makes a span for each request that it answers. Made by [`ServerLayer`].
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
        let mut caller = SpanContext::extract(&parts.headers);
        if self.layer.ignores_baggage {
            caller = caller.map(|caller| caller.with_baggage(Baggage::default()));
        }
        let span = self.layer.span(&parts, caller.as_ref());
        #[cfg(feature = "tracing-opentelemetry")]
        if let Some(caller) = caller.as_ref().filter(|_| self.layer.sets_opentelemetry_parent) {
            crate::otel::set_parent(&span, caller);
        }
        let remote = match caller {
            Some(caller) => hidden_from(&span, caller),
            None if self.layer.ignores_baggage => None,
            None => set_baggage(&span, Baggage::extract(&parts.headers)),
        };
        ResponseFuture::new(Side::Server, span, remote, || self.inner.call(Request::from_parts(parts, body)))
    }
}

/// The caller, if a filter hides the span from the layer.
fn hidden_from(span: &Span, caller: SpanContext) -> Option<Remote> {
    if continues(span, &caller) {
        return None;
    }
    // Even so, the program may ask this span for its context.
    span.set_remote_parent(caller.clone());
    Some(Remote::Caller(caller))
}

/// Gives the span the baggage of a request without a caller. Returns the baggage, because a filter may hide the span from
/// the layer: spans below it are roots there.
fn set_baggage(span: &Span, baggage: Baggage) -> Option<Remote> {
    if baggage.is_empty() {
        return None;
    }
    span.set_baggage(baggage.clone());
    Some(Remote::Baggage(baggage))
}

/// Whether the span continues the caller's trace in `UsdtLayer`. If a filter hides the span from that layer, the
/// spans below it are roots there, and must continue the caller themselves.
fn continues(span: &Span, caller: &SpanContext) -> bool {
    span.trace_context().is_some_and(|context| context.trace_id() == caller.trace_id())
}

/// The span of a request: a child of `parent`, or a root.
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
