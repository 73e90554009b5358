//! The baggage of a span, which the program sets, or which comes from its remote parent or from a span above; and the
//! attributes that spans get from it.

use std::sync::atomic::Ordering;

use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::usdt_layer::{BaggageSettings, HAS_BAGGAGE, UsdtLayer};
use crate::propagation::Baggage;
use crate::span::{OpenSpan, Untracked};

impl UsdtLayer {
    pub(crate) fn with_baggage(mut self, settings: BaggageSettings) -> Self {
        self.note_baggage(&settings.of_process);
        self.baggage = settings;
        self
    }

    /// Notes that there is baggage, unless this is empty.
    pub(super) fn note_baggage(&self, baggage: &Baggage) {
        if !baggage.is_empty() {
            self.inherited.fetch_or(HAS_BAGGAGE, Ordering::Relaxed);
        }
    }

    /// Whether a span that is given this baggage must keep it. Without any other, empty baggage replaces none.
    pub(super) fn matters(&self, baggage: &Baggage) -> bool {
        !baggage.is_empty() || self.has_baggage()
    }

    fn has_baggage(&self) -> bool {
        self.inherited.load(Ordering::Relaxed) & HAS_BAGGAGE != 0
    }

    /// See [`SpanExt::baggage`](crate::SpanExt::baggage).
    pub(crate) fn baggage_of<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> Baggage {
        if self.has_baggage() { self.find_baggage(span) } else { Baggage::NONE }
    }

    /// The baggage that the span was given, or the nearest span above it. A span with a remote parent has no more than
    /// what came with that.
    #[cold]
    fn find_baggage<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) -> Baggage {
        let mut has_parent_aside = false;
        for span in span.scope() {
            let tracked = self.spans.look(&span.id(), |open| (open.identity, open.record.baggage()));
            let untracked =
                span.extensions().get::<Untracked>().map(|span| (span.identity, span.baggage.clone()));
            let Some(&(identity, _)) = tracked.as_ref().or(untracked.as_ref()) else { continue };
            let parent_id = identity.parent_id.filter(|_| identity.remote);
            if let Some(own) = tracked.into_iter().chain(untracked).find_map(|(_, baggage)| baggage) {
                return own;
            }
            if let Some(parent_id) = parent_id {
                let parent = self.identities.remote_parent.as_deref();
                let is_of_process = parent.is_some_and(|parent| parent.ids.span_id == parent_id);
                return if is_of_process { self.baggage.of_process.clone() } else { Baggage::NONE };
            }
            // OpenTelemetry may have the parent in a context of its own.
            has_parent_aside = identity.parent_id.is_some() && !self.uses_opentelemetry_ids();
        }
        // The registry does not know the parent of the last span. What that had was copied at the span's creation.
        if has_parent_aside { Baggage::NONE } else { self.baggage.of_process.clone() }
    }

    /// See [`SpanExt::set_baggage`](crate::SpanExt::set_baggage).
    pub(crate) fn set_baggage_of<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>, baggage: Baggage) {
        if !self.matters(&baggage) {
            return;
        }
        self.note_baggage(&baggage);
        let set_tracked = |open: &mut OpenSpan| {
            self.record_baggage(open, &baggage);
            open.record.set_baggage(baggage.clone());
        };
        if self.spans.with(&span.id(), set_tracked).is_none() {
            self.untracked_identity(span);
            self.update_untracked(span, |untracked| untracked.baggage = Some(baggage));
        }
    }

    pub(super) fn has_baggage_attributes(&self) -> bool {
        !self.baggage.attributes.is_empty()
    }

    /// Gives a new span the attributes from its baggage.
    pub(super) fn inherit_baggage<'a, R: LookupSpan<'a>>(&self, span: &SpanRef<'a, R>) {
        if self.has_baggage_attributes() {
            let baggage = self.baggage_of(span);
            self.spans.with(&span.id(), |open| self.record_baggage(open, &baggage));
        }
    }

    /// Sets the attributes from this baggage, if the span is recorded. They are added when it ends, if the program has no
    /// attributes of the same names by then: baggage comes from outside.
    fn record_baggage(&self, open: &mut OpenSpan, baggage: &Baggage) {
        if open.callsite.is_some() && self.has_baggage_attributes() {
            let keys = self.baggage.attributes.iter();
            let attributes = keys.filter_map(|key| Some((key.clone(), baggage.get(key)?.into()))).collect();
            open.record.set_baggage_attributes(attributes, self.limits);
        }
    }
}
