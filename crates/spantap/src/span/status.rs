//! A span's status.

use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};

/// Whether the span's status is an error.
pub(crate) fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}
