//! The spans of a datagram while they are decoded.

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};

use crate::process::Process;

/// The spans of each process.
pub(super) type Spans = Vec<(Arc<Process>, Vec<ScopeSpans>)>;

pub(super) fn each(spans: &Spans) -> impl Iterator<Item = &Span> {
    spans.iter().flat_map(|(_, scopes)| scopes).flat_map(|scope| &scope.spans)
}

pub(super) fn each_mut(spans: &mut Spans) -> impl Iterator<Item = &mut Span> {
    spans.iter_mut().flat_map(|(_, scopes)| scopes).flat_map(|scope| &mut scope.spans)
}
