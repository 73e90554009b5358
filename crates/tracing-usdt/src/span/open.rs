//! The state that the layer keeps of an open span.
//!
//! A span that was created while nobody listened has no state. A probe that fires for it later gives it an identity, but no
//! record, because it would be incomplete and thus wrong. It has times only while a consumer asks for the threads'
//! context: from its first enter on, and marked.

use super::identity::{Identity, Origin};
use super::record::Record;
use super::slot::State;
use super::timing::Timing;
use crate::callsite::Callsite;

/// An open span. `reuse` keeps the box and its buffers for later spans.
pub(crate) struct OpenSpan {
    pub(crate) identity: Identity,
    pub(crate) origin: Origin,
    /// The probe `new_span` has not fired yet. It waits for the ids from tracing-opentelemetry.
    pub(crate) new_span_pending: bool,
    /// Someone listened when the span was created.
    pub(crate) had_listener: bool,
    /// `None` if nobody listened when the span was created, or its trace is not sampled and no consumer was
    /// attached.
    pub(crate) timing: Option<Timing>,
    /// The times begin with the first enter after someone asked for the threads' context, because nobody listened when
    /// the span was created.
    pub(crate) began_before: bool,
    /// `None` if the span is not recorded: it is neither sent nor passed to the probe `span_emit`.
    pub(crate) callsite: Option<&'static Callsite>,
    pub(crate) record: Record,
}

impl OpenSpan {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            origin: Origin::default(),
            new_span_pending: false,
            had_listener: false,
            timing: None,
            began_before: false,
            callsite: None,
            record: Record::default(),
        }
    }

    /// What the table says of the span without access to it. A span needs its enters and exits if it has times, or if its
    /// first enter decides its ids in tracing-opentelemetry. It is plain if it is sent, and nothing is known of it but
    /// what all spans have: its creation, fields, enters and exits.
    #[inline]
    pub(super) fn state(&self) -> State {
        match &self.timing {
            Some(timing) if self.is_sent_plainly(timing) => State::Plain,
            None if self.origin != Origin::Undecided => State::Untimed,
            _ => State::Timed,
        }
    }

    #[inline]
    fn is_sent_plainly(&self, timing: &Timing) -> bool {
        self.identity.ids.sampled
            && self.origin == Origin::Own
            && self.callsite.is_some()
            && !self.new_span_pending
            && !self.began_before
            && timing.entered_nowhere()
            && self.record.is_plain()
    }

    /// Removes everything of the span except its buffers, which the next span uses.
    #[inline] // the compiler leaves a call of 26 instructions in some builds of one caller
    pub(crate) fn clear(&mut self) {
        self.origin = Origin::default();
        self.new_span_pending = false;
        self.had_listener = false;
        self.began_before = false;
        self.callsite = None;
        // A span without times has no record, except maybe a trace state.
        if self.timing.take().is_some() || self.record.has_extras() {
            self.record.clear();
        }
    }

    /// Like [`clear`](Self::clear), for a span in the state [`Plain`](State::Plain).
    #[inline]
    pub(super) fn clear_plain(&mut self) {
        self.had_listener = false;
        self.callsite = None;
        self.timing = None;
        self.record.fields.clear();
    }
}
