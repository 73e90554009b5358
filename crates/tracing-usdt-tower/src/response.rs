//! The future of a request, which records the service's response or error in the span.

use std::any;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Response, StatusCode};
use tracing::instrument::{Instrument, Instrumented};
use tracing::{Span, field};
use tracing_usdt::SpanContext;

use crate::request;

/// Which layer made the span.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Side {
    Server,
    Client,
}

impl Side {
    /// A 4xx is an error of the client only: the server that sends it has not failed.
    fn has_failed(self, status: StatusCode) -> bool {
        status.is_server_error() || (self == Self::Client && status.is_client_error())
    }
}

pin_project_lite::pin_project! {
    /// The future of a [`ServerService`](crate::ServerService) or a [`ClientService`](crate::ClientService).
    ///
    /// The span is entered only while the wrapped service's future is polled.
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Instrumented<F>,
        side: Side,
        // Set if a filter hides the span from the layer: the spans below it must then continue the caller.
        caller: Option<SpanContext>,
    }
}

impl<F> ResponseFuture<F> {
    /// Calls the wrapped service with `call`, inside `span`.
    pub(crate) fn new(side: Side, span: Span, caller: Option<SpanContext>, call: impl FnOnce() -> F) -> Self {
        let inner = within(caller.as_ref(), || span.in_scope(call));
        Self { inner: inner.instrument(span), side, caller }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Display,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = ready!(within(this.caller.as_ref(), || this.inner.as_mut().poll(cx)));
        let span = this.inner.span();
        match &result {
            Ok(response) => {
                let status = response.status();
                span.record("http.response.status_code", status.as_u16());
                if *this.side == Side::Client {
                    span.record("network.protocol.version", request::version(response.version()));
                }
                if this.side.has_failed(status) {
                    span.record("error.type", status.as_str());
                    span.record("otel.status_code", "ERROR");
                }
            }
            Err(error) => {
                span.record("error.type", any::type_name::<E>());
                span.record("otel.status_code", "ERROR");
                span.record("otel.status_description", field::display(error));
            }
        }
        Poll::Ready(result)
    }
}

fn within<T>(caller: Option<&SpanContext>, f: impl FnOnce() -> T) -> T {
    match caller {
        Some(caller) => caller.in_scope(f),
        None => f(),
    }
}
