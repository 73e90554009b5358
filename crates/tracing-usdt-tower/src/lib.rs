//! [`tower`](https://docs.rs/tower) layers for [`tracing_usdt`] that make a span for each HTTP request that a
//! program answers or sends, in the trace of the caller.
//!
//! [`ServerLayer`] wraps a service that answers requests. It reads the caller's context from the headers and
//! makes a span that continues it. [`ClientLayer`] wraps a service that sends requests. It makes a span and
//! writes the span's context into the headers, so that the server can continue it. The context is W3C's `traceparent`,
//! `tracestate` and `baggage`. `with_baggage(false)` turns baggage off in either layer, for requests that come from outside
//! or go there.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, service_fn, util::ServiceExt};
//! use tracing_subscriber::prelude::*;
//! use tracing_usdt_tower::{ClientLayer, ServerLayer};
//!
//! async fn answer(request: Request<String>) -> Result<Response<String>, std::convert::Infallible> {
//!     Ok(Response::new(request.into_body()))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! tracing_subscriber::registry().with(tracing_usdt::layer()).init();
//!
//! let server = ServiceBuilder::new().layer(ServerLayer::new()).service(service_fn(answer));
//! // Usually there is a network in between.
//! let client = ServiceBuilder::new().layer(ClientLayer::new()).service(server);
//!
//! let request = Request::get("http://shop.example/items?page=2").body("hello".to_owned())?;
//! assert_eq!(client.oneshot(request).await?.into_body(), "hello");
//! # Ok(())
//! # }
//! ```
//!
//! # The spans
//!
//! The spans are named `http.server.request` and `http.client.request`, have the level INFO, and the targets
//! `tracing_usdt_tower::server` and `tracing_usdt_tower::client`. An `EnvFilter` that names only the program's
//! own crates disables them; the trace is then still passed on from the caller to the servers that the program
//! calls.
//!
//! The attributes of OpenTelemetry's [conventions for HTTP] are fields of the spans, so that other layers see
//! them too:
//!
//! | field | server | client |
//! |---|---|---|
//! | `otel.name` | method and route, or method | method |
//! | `otel.kind` | `server` | `client` |
//! | `http.request.method` | a method that the conventions know; otherwise `_OTHER`, with the method in `http.request.method_original` | the same |
//! | `http.route` | the result of [`ServerLayer::with_route`] | |
//! | `url.path`, `url.query` | of the request | |
//! | `url.scheme` | of the request; `http` if it has none, as in HTTP/1 | |
//! | `url.full` | | of the request; without a scheme if it has none |
//! | `server.address`, `server.port` | of the request's URI, or of its `Host` | the same; without a port, that of the scheme |
//! | `user_agent.original` | the header | |
//! | `network.protocol.version` | of the request | of the response |
//! | `http.response.status_code` | of the response | of the response |
//! | `otel.status_code` | `ERROR` for 5xx and for an error of the service | `ERROR` for 4xx, 5xx and for an error of the service |
//! | `error.type` | with `ERROR`: the status code, or the type of the service's error | the same |
//! | `otel.status_description` | the service's error | the same |
//!
//! URLs have `REDACTED` in place of user names and passwords, and in place of those values of a query that are
//! known to be signatures or keys, such as that of `X-Amz-Signature`.
//!
//! A span ends when the service returns the head of the response, or an error. The time in which a body
//! streams is not included. If the future is dropped earlier, the span has neither a status code nor an error.
//!
//! # Without the layer
//!
//! Where the subscriber has no [`UsdtLayer`](tracing_usdt::UsdtLayer), other layers still get the spans. The
//! caller's context is then ignored, and the headers of outgoing requests stay as they are.
//!
//! # Features
//!
//! All are off by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `tracing-opentelemetry` | `ServerLayer::with_opentelemetry_parent`, which also gives the caller to the layer of `tracing-opentelemetry` 0.34, as the parent of the span that it exports. The feature alone changes nothing |
//!
//! [conventions for HTTP]: https://opentelemetry.io/docs/specs/semconv/http/http-spans/

#![cfg_attr(docsrs, feature(doc_cfg))] // docs.rs shows which feature an item needs

mod client;
#[cfg(feature = "tracing-opentelemetry")]
mod otel;
mod request;
mod response;
mod server;

pub use client::{ClientLayer, ClientService};
pub use response::ResponseFuture;
pub use server::{ServerLayer, ServerService};
