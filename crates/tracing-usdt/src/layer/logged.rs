//! The ids of a span in the lines of a log.
//!
//! They are those of `SpanExt::trace_context`. The `fmt` layer can also write a line when a span is created or closed,
//! while our layer does not know the span yet, or no longer. Of a span that is closing, the thread keeps the ids until
//! another one closes.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing_core::span::Id;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::usdt_layer::UsdtLayer;
use crate::probes;
use crate::propagation::Ids;
use crate::span::Untracked;

/// Set once a format writes ids. Until then, no thread keeps any.
static IS_LOGGING: AtomicBool = AtomicBool::new(false);

/// Tells layers apart: ids of the registry are unique in a subscriber only.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct LayerNumber(u64);

impl LayerNumber {
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

thread_local! {
    /// The span that this thread closed last, with the layer that it belongs to.
    static CLOSED: Cell<Option<(LayerNumber, u64, Ids)>> = const { Cell::new(None) };
}

/// Makes layers keep what a log needs. Never undone.
pub(crate) fn prepare_to_log() {
    IS_LOGGING.store(true, Ordering::Relaxed);
}

/// What a line is about.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Logged {
    /// An event in a span.
    Event,
    /// The creation, an enter, an exit or the close of a span.
    Span,
}

impl UsdtLayer {
    /// Keeps the ids of a span that is closing.
    #[inline]
    pub(super) fn keep_for_log(&self, id: &Id, ids: Ids) {
        if IS_LOGGING.load(Ordering::Relaxed) {
            CLOSED.set(Some((self.number, id.into_u64(), ids)));
        }
    }

    /// The ids for a line.
    pub(super) fn ids_for_log<'a, R: LookupSpan<'a>>(
        &self,
        span: &SpanRef<'a, R>,
        logged: Logged,
    ) -> Option<Ids> {
        let id = span.id();
        if logged == Logged::Span && self.spans.identity(&id).is_none() {
            let is_this = |(layer, closed, _): &(LayerNumber, u64, Ids)| {
                *layer == self.number && *closed == id.into_u64()
            };
            if let Some((.., ids)) = CLOSED.get().filter(is_this) {
                return Some(ids);
            }
            let untracked = span.extensions().get::<Untracked>().map(|untracked| untracked.identity.ids);
            // It may be about to be created here, with ids that are not drawn yet.
            if untracked.is_some() || self.is_sending() || probes::any_attached() {
                return untracked;
            }
        }
        Some(self.known_ids(span).0)
    }
}
