//! The record of an open span: its fields, events, links, error, trace state and baggage.

use tracing_core::Level;

use super::closed::{DroppedItems, RecordView};
use super::link::{self, Link};
use crate::bounds::shorten_to_cost;
use crate::callsite::Callsite;
use crate::fields::{AttributeValue, DroppedFields, Fields, Limits, Value, Vocabulary};
use crate::propagation::{Baggage, TraceState};

// The limits of a span keep it below 64 KiB in each format, so that every receiver's buffer and every
// eBPF program can take it. In KiB: fields 24 + events 20 + links 12 + error 2 + resource 4. This leaves 2
// for names, ids and the trace state.

/// Maximum cost of all events of a span.
const EVENTS_COST: usize = 20 * 1024;
/// Cost of an event without its texts in OTLP, where it is longer than in Zipkin.
const EMPTY_EVENT_COST: usize = 176;
/// Maximum cost of the error's text.
const ERROR_COST: usize = 2 * 1024;
/// Maximum number of events of a span, OpenTelemetry's default.
const MAX_EVENTS: u32 = 128;

/// Everything that is sent of a span, except its identity and times. Its baggage is only passed on.
#[derive(Default)]
pub(crate) struct Record {
    /// The number of the thread that created the span, see [`process::thread_number`](crate::process::thread_number); 0 if
    /// there is none yet.
    thread_number: usize,
    /// Behind the thread, in the form of [`Thread::to_bytes`](super::thread::Thread::to_bytes), so that both are passed on
    /// in one piece.
    pub(crate) fields: Fields,
    /// An attribute with a reserved name was set by name.
    pub(crate) has_reserved_name: bool,
    /// `extras` has something of this span, not only memory for it.
    has_extras: bool,
    /// Boxed, because most spans have none.
    extras: Option<Box<Extras>>,
}

/// The parts of a record that most spans don't have.
#[derive(Default)]
struct Extras {
    /// Each event is a `u64` time in nanoseconds since 1970, the `u32` id of its callsite, a `u32` length and
    /// so many bytes of fields.
    events: Vec<u8>,
    events_cost: usize,
    event_count: u32,
    /// Each link in the form of [`Link::write`].
    links: Vec<u8>,
    links_cost: usize,
    link_count: u32,
    /// An event marked the span as failed. The text is empty if the event gave no reason.
    error: Option<String>,
    events_dropped: u32,
    links_dropped: u32,
    /// The `tracestate` of the span's remote parent.
    trace_state: TraceState,
    /// `None` unless the span was given baggage.
    baggage: Option<Baggage>,
    from_baggage: Option<FromBaggage>,
}

/// Attributes from the baggage, which are kept apart from the program's until the span ends.
struct FromBaggage {
    /// Names and values.
    attributes: Vec<(Box<str>, Box<str>)>,
    limits: Limits,
}

impl Record {
    pub(super) fn clear(&mut self) {
        self.fields.clear();
        self.has_reserved_name = false;
        self.has_extras = false;
        if let Some(extras) = &mut self.extras {
            let (mut events, mut links) =
                (std::mem::take(&mut extras.events), std::mem::take(&mut extras.links));
            events.clear();
            events.shrink_to(1024);
            links.clear();
            links.shrink_to(256);
            **extras = Extras { events, links, ..Extras::default() };
        }
    }

    /// Whether the record is of the thread with this number.
    #[inline]
    pub(super) fn is_of_thread(&self, number: usize) -> bool {
        self.thread_number == number
    }

    /// Sets the thread that created the span, by its number and its bytes.
    pub(super) fn set_thread(&mut self, number: usize, thread: &[u8]) {
        self.thread_number = number;
        self.fields.set_before(thread);
    }

    pub(super) fn has_extras(&self) -> bool {
        self.has_extras
    }

    /// Whether it has a thread and fields only, and the limits dropped nothing.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        !self.has_extras && !self.has_reserved_name && self.has_all_fields()
    }

    /// Whether the limits dropped nothing of the fields.
    #[inline]
    pub(crate) fn has_all_fields(&self) -> bool {
        self.fields.dropped == DroppedFields::default()
    }

    fn extras(&mut self) -> &mut Extras {
        self.has_extras = true;
        self.extras.get_or_insert_default()
    }

    /// Adds an event.
    ///
    /// An event with a field `error` and without a message marks the span as failed; if the error is a text,
    /// the event becomes an exception in OpenTelemetry's terms. An event of level ERROR marks the span as
    /// failed too. The encoder lets the span's own fields override this.
    pub(crate) fn add_event(
        &mut self,
        span: &'static Callsite,
        at_ns: u64,
        callsite: &'static Callsite,
        fields: &mut Fields,
        limits: &Limits,
    ) {
        let view = fields.view(callsite);
        let has_message = view.get("message").is_some();
        let error = view.get("error").filter(|error| !has_message && !error.means_no_error());
        let failed = error.is_some() || *callsite.metadata.level() == Level::ERROR;
        // A boolean or a number can't be an exception's message.
        let error = match error {
            Some(Value::Text(error)) => Some(error.to_owned()),
            _ => None,
        };
        // Only a value of type `dyn Error` has a chain. Its exception becomes that of the span too.
        if let (Some(Value::Text(message)), Some(Value::List(chain))) =
            (view.get("exception.message"), view.get("exception.stacktrace"))
        {
            self.fields.set_text(span, "exception.message", message, limits);
            self.fields.set_list(span, "exception.stacktrace", chain, limits);
        }
        if let Some(error) = error.as_ref().filter(|_| limits.vocabulary.exceptions) {
            fields.set_text(callsite, "exception.message", error, limits);
        }
        if failed {
            let reason = &mut self.extras().error;
            match error {
                Some(error) => *reason = Some(shorten_to_cost(&error, ERROR_COST).to_owned()),
                None => _ = reason.get_or_insert_default(),
            }
        }
        self.fields.dropped.shortened =
            self.fields.dropped.shortened.saturating_add(fields.dropped.shortened);

        let extras = self.extras();
        let cost = EMPTY_EVENT_COST + callsite.event_cost + fields.cost();
        if extras.event_count == MAX_EVENTS || extras.events_cost + cost > EVENTS_COST {
            extras.events_dropped = extras.events_dropped.saturating_add(1);
            return;
        }
        extras.events_cost += cost;
        extras.event_count += 1;
        extras.events.extend_from_slice(&at_ns.to_le_bytes());
        extras.events.extend_from_slice(&callsite.id.to_le_bytes());
        extras.events.extend_from_slice(&(fields.bytes().len() as u32).to_le_bytes());
        extras.events.extend_from_slice(fields.bytes());
    }

    pub(crate) fn set_trace_state(&mut self, trace_state: TraceState) {
        if !trace_state.is_empty() || self.has_extras {
            self.extras().trace_state = trace_state;
        }
    }

    pub(crate) fn trace_state(&self) -> TraceState {
        self.extras.as_ref().map(|extras| extras.trace_state.clone()).unwrap_or_default()
    }

    pub(crate) fn set_baggage(&mut self, baggage: Baggage) {
        self.extras().baggage = Some(baggage);
    }

    /// The baggage that the span was given itself.
    pub(crate) fn baggage(&self) -> Option<Baggage> {
        self.extras.as_ref()?.baggage.clone()
    }

    /// Sets the attributes from the baggage, in place of the earlier ones.
    pub(crate) fn set_baggage_attributes(&mut self, attributes: Vec<(Box<str>, Box<str>)>, limits: Limits) {
        if !attributes.is_empty() || self.has_extras {
            self.extras().from_baggage = Some(FromBaggage { attributes, limits });
        }
    }

    /// Adds the attributes from the baggage to those of the program, which take precedence. Called when the span ends:
    /// until then, the program may still set some, and the baggage may change.
    #[cold]
    pub(crate) fn add_baggage_attributes(&mut self, callsite: &'static Callsite) {
        let from_baggage = self.extras.as_mut().and_then(|extras| extras.from_baggage.take());
        let Some(FromBaggage { attributes, limits }) = from_baggage else { return };
        for (name, value) in attributes {
            if self.fields.view(callsite).get(&name).is_none() {
                self.set(callsite, &name, &AttributeValue::Str(value.as_ref().into()), &limits);
            }
        }
    }

    /// Counts the callsite's fields without a recorded value as dropped. Called for a span whose recording
    /// began after its creation.
    #[cold]
    pub(crate) fn count_missing_fields(&mut self, callsite: &'static Callsite) {
        let known = self.fields.view(callsite).entries().count() as u32;
        let dropped = &mut self.fields.dropped.attributes;
        *dropped = (*dropped).max((callsite.fields().len() as u32).saturating_sub(known));
    }

    /// Sets an attribute under any name.
    pub(crate) fn set(
        &mut self,
        callsite: &Callsite,
        name: &str,
        value: &AttributeValue<'_>,
        limits: &Limits,
    ) {
        self.has_reserved_name |= Vocabulary::is_reserved(name);
        self.fields.set_value(callsite, name, value, limits);
    }

    pub(crate) fn add_link(&mut self, link: &Link<'_>) {
        let extras = self.extras();
        let cost = extras.links_cost + link.cost();
        if extras.link_count == link::MAX_LINKS || cost > link::MAX_COST {
            extras.links_dropped = extras.links_dropped.saturating_add(1);
            return;
        }
        extras.links_cost = cost;
        extras.link_count += 1;
        link.write(&mut extras.links);
    }

    /// The record as the encoder reads it, if it is plain: it then has no more than this.
    #[inline]
    pub(crate) fn plain_view(&self) -> RecordView<'_> {
        let (thread_and_fields, fields_at) = self.fields.with_before();
        RecordView { thread_and_fields, fields_at, ..RecordView::default() }
    }

    /// The record as the encoder reads it, without its trace state.
    #[inline]
    pub(crate) fn view(&self) -> RecordView<'_> {
        let mut view = RecordView {
            has_reserved_name: self.has_reserved_name,
            dropped: DroppedItems { fields: self.fields.dropped, ..DroppedItems::default() },
            ..self.plain_view()
        };
        if let Some(extras) = self.extras.as_ref().filter(|_| self.has_extras) {
            view.events = &extras.events;
            view.links = &extras.links;
            view.error = extras.error.as_deref();
            view.dropped.events = extras.events_dropped;
            view.dropped.links = extras.links_dropped;
        }
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callsite::{self, tests::metadata};
    use crate::fields::Owner;

    #[test]
    fn bounds_the_events_of_a_span_and_counts_those_dropped() {
        let (callsite, limits) = (callsite::of(metadata()), Limits::default());
        let mut record = Record::default();
        for _ in 0..1000 {
            record.add_event(callsite, 1, callsite, &mut Fields::default(), &limits);
        }
        let view = record.view();
        let kept = view.events.len() / 16;
        assert!((64..=MAX_EVENTS as usize).contains(&kept), "{kept} kept");
        assert_eq!(view.dropped.events, 1000 - kept as u32);
    }

    #[test]
    fn clear_removes_everything_of_the_previous_span() {
        let (callsite, limits) = (callsite::of(metadata()), Limits::default());
        let mut record = Record::default();
        let mut event = Fields::default();
        event.visit(callsite, Owner::Event, &limits, |_| ());
        event.set_text(callsite, "error", "failed", &limits);
        record.fields.set_text(callsite, "k", "v", &limits);
        record.add_event(callsite, 1, callsite, &mut event, &limits);
        assert_eq!(record.view().error, Some("failed"));
        record.clear();
        let view = record.view();
        assert!(view.fields().is_empty() && view.events.is_empty() && view.links.is_empty());
        assert_eq!((view.error, view.dropped), (None, DroppedItems::default()));
    }
}
