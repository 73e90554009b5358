//! gRPC metadata as a carrier. Metadata are HTTP headers. Only keys that end in `-bin` have base64 values, so a
//! `traceparent` is plain text.

use http::HeaderMap;
use tonic::metadata::MetadataMap;

use super::{Extract, Inject};

/// ```
/// use tonic::metadata::MetadataMap;
/// use tracing_usdt::{SpanContext, SpanExt};
///
/// /// An interceptor for clients.
/// fn inject<T>(mut request: tonic::Request<T>) -> tonic::Request<T> {
///     if let Some(context) = tracing::Span::current().trace_context() {
///         context.inject(request.metadata_mut());
///     }
///     request
/// }
///
/// /// Called by a method of a server.
/// fn span<T>(request: &tonic::Request<T>) -> tracing::Span {
///     let span = || tracing::info_span!("Greet", otel.kind = "server");
///     match SpanContext::extract(request.metadata()) {
///         Some(caller) => caller.in_scope(span),
///         None => span(),
///     }
/// }
/// # span(&inject(tonic::Request::new(())));
/// ```
impl Extract for MetadataMap {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        Extract::values(AsRef::<HeaderMap>::as_ref(self), name)
    }
}

impl Inject for MetadataMap {
    fn set(&mut self, name: &'static str, value: String) {
        Inject::set(AsMut::<HeaderMap>::as_mut(self), name, value);
    }

    fn remove(&mut self, name: &'static str) {
        Inject::remove(AsMut::<HeaderMap>::as_mut(self), name);
    }
}
