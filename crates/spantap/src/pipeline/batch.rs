//! Decoded spans, on their way from the thread that decodes to the one that encodes.

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

use crate::decode::LOSSES;
use crate::metrics::Counted;
use crate::process::{Process, Progress};
use crate::span::{EncodedScopes, Summary, is_kernel_scope, name_of_field};

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

impl Pending {
    /// The spans that the program itself has made: not those of kernel activity, nor the reports of losses.
    pub(super) fn counted(&self) -> impl Iterator<Item = Counted<'_>> {
        let counted = |span: &Summary, name| Counted {
            name,
            trace_id: span.trace_id,
            span_id: span.span_id,
            times: span.times,
            is_error: span.is_error,
        };
        let own = self.scopes.iter().filter(|spans| !is_kernel_scope(spans)).flat_map(|scope| &scope.spans);
        let own = own.filter(|span| span.name != LOSSES);
        let own = own.filter_map(move |span| Some(counted(&Summary::of(span)?, &*span.name)));
        let encoded = self.encoded.iter().filter(|(span, _)| !span.is_kernel);
        own.chain(encoded.map(move |(span, field)| counted(span, name_of_field(field))))
    }
}

/// The decoded spans of about `bytes` of input.
pub(super) struct Batch {
    pub(super) pending: Vec<Pending>,
    pub(super) bytes: usize,
    /// To be called when the spans are with the sinks.
    pub(super) replies: Vec<Reply>,
}

/// Tells a client that its spans were taken.
pub(super) type Reply = Box<dyn FnOnce() + Send>;
