//! The ids of the span that a thread closed last. The `fmt` layer may write a line about a close after our layer has
//! handled it and forgotten the span.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing_core::span::Id;

use crate::propagation::Ids;

/// Set once a format writes ids. Until then, no thread keeps any.
static IS_LOGGING: AtomicBool = AtomicBool::new(false);

/// Makes layers keep what a log needs. Never undone.
pub(crate) fn prepare_to_log() {
    IS_LOGGING.store(true, Ordering::Relaxed);
}

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
    static LAST: Cell<Option<(LayerNumber, u64, Ids)>> = const { Cell::new(None) };
}

/// Keeps the ids of a span that is closing, until this thread closes another one.
#[inline]
pub(super) fn keep(layer: LayerNumber, id: &Id, ids: Ids) {
    if IS_LOGGING.load(Ordering::Relaxed) {
        LAST.set(Some((layer, id.into_u64(), ids)));
    }
}

/// The ids of this span, if this thread closed it last.
pub(super) fn ids(layer: LayerNumber, id: &Id) -> Option<Ids> {
    let (of_layer, closed, ids) = LAST.get()?;
    (of_layer == layer && closed == id.into_u64()).then_some(ids)
}
