//! The ids of a span in the lines of a log: those of `SpanExt::trace_context`. The `fmt` layer also writes lines when a
//! span is created or closed, while our layer does not know the span yet, or no longer.

use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::last_closed;
use super::usdt_layer::UsdtLayer;
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
    /// The ids for a line. An event is the first use of its span's ids, so a span may get them for it. A line about a
    /// span has only ids that are known already: the span may still get a remote parent, from this layer or from the
    /// program, and ids that were drawn or asked for too early would stay.
    pub(super) fn ids_for_log<'a, R: LookupSpan<'a>>(
        &self,
        span: &SpanRef<'a, R>,
        logged: Logged,
    ) -> Option<Ids> {
        match logged {
            Logged::Event => Some(self.known_ids(span).0),
            Logged::Span => self.decided_ids(span),
        }
    }

    /// The ids of a span that has them, without asking OpenTelemetry.
    fn decided_ids<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> Option<Ids> {
        let id = span.id();
        if let Some(known) = self.spans.identity(&id) {
            return (!self.is_undecided(&id)).then_some(known.ids);
        }
        if let Some(closed) = last_closed::ids(self.number, &id) {
            return Some(closed);
        }
        let own = span.extensions().get::<Untracked>().map(|untracked| untracked.identity.ids)?;
        // As in `known_ids`.
        let above = self.nearest_tracked(span).filter(|above| above.ids.sampled);
        Some(above.map_or(own, |above| above.ids))
    }
}
