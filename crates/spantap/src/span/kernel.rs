//! Spans of kernel activity, which spantap makes, have a scope of their own.

use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

/// The name of the scope.
pub(crate) const KERNEL_SCOPE: &str = "spantap.kernel";

/// Whether these are spans of kernel activity.
pub(crate) fn is_kernel_scope(spans: &ScopeSpans) -> bool {
    spans.scope.as_ref().is_some_and(|scope| scope.name == KERNEL_SCOPE)
}
