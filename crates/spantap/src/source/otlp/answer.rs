//! What the answers of both transports share: the message, and the type of their bodies.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};

use crate::pipeline::Taken;

/// The body of an answer.
pub(super) type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// The message for what was taken. Without a refused span, it is empty.
pub(super) fn message(taken: Taken) -> ExportTraceServiceResponse {
    let partial_success = (taken.rejected > 0).then(|| ExportTracePartialSuccess {
        rejected_spans: i64::try_from(taken.rejected).unwrap_or(i64::MAX),
        error_message: taken.why,
    });
    ExportTraceServiceResponse { partial_success }
}
