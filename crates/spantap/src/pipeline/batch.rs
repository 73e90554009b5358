//! Decoded spans, on their way from the thread that decodes to the one that encodes.

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

use crate::process::{Process, Progress};
use crate::span::EncodedScopes;

/// Decoded spans of one process.
pub(super) struct Pending {
    pub(super) process: Arc<Process>,
    pub(super) scopes: Vec<ScopeSpans>,
    /// Spans that stay as they were sent.
    pub(super) encoded: EncodedScopes,
    /// See [`Chunk::progress`](crate::encode::Chunk::progress).
    pub(super) progress: Vec<Progress>,
}

impl Pending {
    /// No spans yet.
    pub(super) fn of(process: &Arc<Process>) -> Self {
        let (encoded, process) = (EncodedScopes::default(), Arc::clone(process));
        Self { process, scopes: Vec::new(), encoded, progress: Vec::new() }
    }
}

/// The decoded spans of about `bytes` of input.
pub(super) struct Batch {
    pub(super) pending: Vec<Pending>,
    pub(super) bytes: usize,
}
