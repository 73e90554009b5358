//! The future of a request, which records the service's response or error in the span.

use std::any;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Response, StatusCode};
use tracing::instrument::{Instrument, Instrumented};
use tracing::{Span, field};
use tracing_usdt::{Baggage, SpanContext};

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

/// What the spans below a request's span must continue themselves, if they do not see that span.
pub(crate) enum Remote {
    /// The caller.
    Caller(SpanContext),
    /// Baggage that came without a caller.
    Baggage(Baggage),
}

pin_project_lite::pin_project! {
    /// The future of a [`ServerService`](crate::ServerService) or a [`ClientService`](crate::ClientService).
    ///
    /// The span is entered only while the wrapped service's future is polled.
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Instrumented<F>,
        side: Side,
        // Set if a filter hides the span from the layer.
        remote: Option<Remote>,
    }
}

impl<F> ResponseFuture<F> {
    /// Calls the wrapped service with `call`, inside `span`.
    pub(crate) fn new(side: Side, span: Span, remote: Option<Remote>, call: impl FnOnce() -> F) -> Self {
        let inner = within(remote.as_ref(), || span.in_scope(call));
        Self { inner: inner.instrument(span), side, remote }
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
        let result = ready!(within(this.remote.as_ref(), || this.inner.as_mut().poll(cx)));
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

fn within<T>(remote: Option<&Remote>, f: impl FnOnce() -> T) -> T {
    match remote {
        Some(Remote::Caller(caller)) => caller.in_scope(f),
        Some(Remote::Baggage(baggage)) => baggage.in_scope(f),
        None => f(),
    }
}
