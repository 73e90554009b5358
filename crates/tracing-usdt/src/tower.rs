//! Layers for [`tower`](https://docs.rs/tower) services: a span for each HTTP request that a program answers
//! or makes, in the trace of whoever asked. (Feature `tower`.)
//!
//! [`ServerLayer`] goes around what answers requests. It reads the caller's context from the headers and makes
//! a span that continues it. [`ClientLayer`] goes around what sends them. It makes a span and writes its
//! context into the headers, for the server to continue.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, service_fn, util::ServiceExt};
//! use tracing_usdt::tower::{ClientLayer, ServerLayer};
//!
//! async fn answer(request: Request<String>) -> Result<Response<String>, std::convert::Infallible> {
//!     Ok(Response::new(request.into_body()))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
//! # What the spans say
//!
//! What OpenTelemetry's [conventions for HTTP] say, in the spans' own fields, so that other layers see it too.
//! The spans are called `http.server.request` and `http.client.request`, are of level INFO, and have the target
//! `tracing_usdt::tower::server` or `::client`: an `EnvFilter` that names only one's own crates leaves them out.
//!
//! | field | server | client |
//! |---|---|---|
//! | `otel.name` | method and route, or method | method |
//! | `otel.kind` | `server` | `client` |
//! | `http.request.method` | one of the nine that are known, or `_OTHER` and `http.request.method_original` | the same |
//! | `http.route` | what [`ServerLayer::route`] finds | |
//! | `url.path`, `url.query` | of the request | |
//! | `url.scheme` | of the request; `http` where it says none, as in HTTP/1 | |
//! | `url.full` | | of the request; without a scheme if it has none |
//! | `server.address`, `server.port` | of the request, or its `Host` | the same; the scheme's own port if none is named |
//! | `user_agent.original` | the header | |
//! | `network.protocol.version` | of the request | of the answer |
//! | `http.response.status_code` | of the answer | of the answer |
//! | `otel.status_code` | `ERROR` for 5xx and errors | `ERROR` for 4xx, 5xx and errors |
//! | `error.type` | then: the status code, or the type of the service's error | the same |
//! | `otel.status_description` | the service's error | the same |
//!
//! User names and passwords in URLs are replaced by `REDACTED`, and so are the values of those parts of a query
//! that are known to be signatures or keys, such as `X-Amz-Signature`.
//!
//! A span ends with the head of the answer, or with the service's error; a body that streams afterwards is no
//! part of it. One whose future is dropped before that has neither a status code nor an error.
//!
//! [conventions for HTTP]: https://opentelemetry.io/docs/specs/semconv/http/http-spans/

mod client;
mod request;
mod response;
mod server;

pub use client::{ClientLayer, ClientService};
pub use response::ResponseFuture;
pub use server::{ServerLayer, ServerService};
