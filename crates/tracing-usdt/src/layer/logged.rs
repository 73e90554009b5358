//! The ids of a span in the lines of a log: those of `SpanExt::trace_context`. The `fmt` layer also writes lines when a
//! span is created or closed, while our layer does not know the span yet, or no longer.

use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::last_closed;
use super::usdt_layer::UsdtLayer;
use crate::probes;
use crate::propagation::Ids;
use crate::span::Untracked;

/// What a line is about.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Logged {
    /// An event in a span.
    Event,
    /// The creation, an enter, an exit or the close of a span.
    Span,
}

impl UsdtLayer {
    /// The ids for a line.
    pub(super) fn ids_for_log<'a, R: LookupSpan<'a>>(
        &self,
        span: &SpanRef<'a, R>,
        logged: Logged,
    ) -> Option<Ids> {
        let id = span.id();
        if logged == Logged::Span && self.spans.identity(&id).is_none() {
            if let Some(closed) = last_closed::ids(self.number, &id) {
                return Some(closed);
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
