//! What the layer keeps of a span while it is open.
//!
//! A span that nobody listened to has none of it; one that was met only later, by a probe, has an
//! identity but neither times nor a record, because half of them would be a lie.

use std::sync::Arc;

use tracing_core::Level;

use crate::callsite::{self, Callsite};
use crate::clock::{Monotonic, wall_offset};
use crate::encode;
use crate::fields::{Fields, FieldsLeftOut, FieldsView, Value, cut_to_cost, take};
use crate::identity::Identity;
use crate::limits::Limits;
use crate::link::{self, Link};
use crate::otel::Origin;
use crate::span_ext::AttributeValue;
use crate::thread::Thread;
use crate::trace_state::TraceState;

/// Bounds of one open span, chosen so that its JSON stays below 64 KiB in either format: any
/// receiver's buffer takes it, and so does an eBPF program. Fields 24 + events 20 + links 12 + error 2 +
/// resource 4 leaves 2 for names, ids and the trace state. The counts are OpenTelemetry's defaults.
const EVENTS_COST: usize = 20 * 1024;
/// An event without its texts, in OTLP, where it is longer.
const EMPTY_EVENT_COST: usize = 176;
const ERROR_COST: usize = 2 * 1024;
const MAX_EVENTS: u32 = 128;

/// An open span. Its box is used again for later ones, with its buffers: see `thread`.
pub(crate) struct OpenSpan {
    pub(crate) identity: Identity,
    pub(crate) origin: Origin,
    /// The probe `new_span` waits for its ids.
    pub(crate) untold: bool,
    /// Someone listened when it began.
    pub(crate) begun: bool,
    /// `None`: it began before anyone listened to what happens to it.
    pub(crate) timing: Option<Timing>,
    /// `None`: nobody wanted its text when it began.
    pub(crate) callsite: Option<&'static Callsite>,
    pub(crate) record: Record,
}

impl OpenSpan {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            origin: Origin::default(),
            untold: false,
            begun: false,
            timing: None,
            callsite: None,
            record: Record::default(),
        }
    }

    /// Nothing of the span stays but the buffers.
    pub(crate) fn clear(&mut self) {
        self.origin = Origin::default();
        self.untold = false;
        self.begun = false;
        self.callsite = None;
        // What has no times has no record, but maybe a trace state.
        if self.timing.take().is_some() || self.record.extras.is_some() {
            self.record.clear();
        }
    }
}

/// When a span was created, worked and stopped working.
pub(crate) struct Timing {
    start: Monotonic,
    /// The same in nanoseconds since 1970. By the wall clock as it was then, whatever it was when the span's parent began:
    /// a span around all of a daemon's life may be older than the last step of the clock.
    start_wall_ns: u64,
    last_exit: Option<Monotonic>,
    /// How many enters have not been left yet, on all threads.
    depth: u32,
    busy_since: Monotonic,
    busy_ns: u64,
}

impl Timing {
    pub(crate) fn start(now: Monotonic) -> Self {
        let start_wall_ns = wall_offset(now).nanos(now);
        Self { start: now, start_wall_ns, last_exit: None, depth: 0, busy_since: now, busy_ns: 0 }
    }

    pub(crate) fn start_wall_ns(&self) -> u64 {
        self.start_wall_ns
    }

    /// Only the outermost enter counts: a span entered twice works once.
    pub(crate) fn enter(&mut self, now: Monotonic) {
        if self.depth == 0 {
            self.busy_since = now;
        }
        self.depth = self.depth.saturating_add(1);
    }

    /// An exit without an enter, which only a broken caller makes, is none.
    pub(crate) fn exit(&mut self, now: Monotonic) {
        let Some(depth) = self.depth.checked_sub(1) else { return };
        self.depth = depth;
        if depth == 0 {
            self.busy_ns = self.busy_ns.saturating_add(now.since(self.busy_since));
            self.last_exit = Some(now);
        }
    }

    /// From the creation to the last exit, or to `now` for a span that was never entered or is
    /// still inside; and how much of it was spent inside. Nanoseconds, the first at least 1.
    #[inline]
    pub(crate) fn finish(&self, now: impl Fn() -> Monotonic) -> Elapsed {
        let (end, busy_ns) = match self.last_exit {
            Some(exit) if self.depth == 0 => (exit, self.busy_ns),
            _ if self.depth == 0 => (now(), self.busy_ns),
            _ => {
                let now = now();
                (now, self.busy_ns.saturating_add(now.since(self.busy_since)))
            }
        };
        self.elapsed(end, busy_ns)
    }

    /// The same for a span that has not ended: from the creation to `now`, whether or not a thread is inside.
    pub(crate) fn so_far(&self, now: Monotonic) -> Elapsed {
        let inside_ns = if self.depth > 0 { now.since(self.busy_since) } else { 0 };
        self.elapsed(now, self.busy_ns.saturating_add(inside_ns))
    }

    #[inline]
    fn elapsed(&self, end: Monotonic, busy_ns: u64) -> Elapsed {
        let duration_ns = end.since(self.start).max(1);
        Elapsed { duration_ns, busy_ns: busy_ns.min(duration_ns) }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Elapsed {
    pub(crate) duration_ns: u64,
    pub(crate) busy_ns: u64,
}

/// All that the span's text will be made of, but for its identity and times.
#[derive(Default)]
pub(crate) struct Record {
    thread: Option<Arc<Thread>>,
    pub(crate) fields: Fields,
    /// A field was added by name that means something to us.
    pub(crate) told: bool,
    /// Boxed, because most spans have none of it.
    extras: Option<Box<Extras>>,
}

/// What happened to a span beyond its fields.
#[derive(Default)]
struct Extras {
    /// An entry is a u64 time in nanoseconds since 1970, a u32 callsite, a u32 length and so many bytes of fields.
    events: Vec<u8>,
    events_cost: usize,
    event_count: u32,
    /// Each as [`Link::write`] has it.
    links: Vec<u8>,
    links_cost: usize,
    link_count: u32,
    /// An event inside the span failed it; empty where that gave no reason.
    error: Option<String>,
    events_left_out: u32,
    links_left_out: u32,
    /// It came with the span's remote parent.
    trace_state: TraceState,
}

impl Record {
    fn clear(&mut self) {
        self.fields.clear();
        self.told = false;
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

    /// The span was made on this thread.
    #[inline]
    pub(crate) fn set_thread(&mut self, thread: &Arc<Thread>) {
        // A box mostly stays with its thread, and to count a reference takes time.
        if !self.thread.as_ref().is_some_and(|known| Arc::ptr_eq(known, thread)) {
            self.thread = Some(Arc::clone(thread));
        }
    }

    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Adds an event, named by its message as in OpenTelemetry. An event without a message and with an
    /// `error` fails the span, and is an exception if the error is a text. Any event of level ERROR fails
    /// the span too, unless the span's own fields say otherwise.
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
        let error = view.get("error").filter(|error| !has_message && !error.denies_error());
        let failed = error.is_some() || *callsite.metadata.level() == Level::ERROR;
        // A `true` or a code is no text that an exception could have.
        let error = match error {
            Some(Value::Text(error)) => Some(error.to_owned()),
            _ => None,
        };
        // Only a real error value has a chain; its exception is also the span's.
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
                Some(error) => *reason = Some(cut_to_cost(&error, ERROR_COST).to_owned()),
                None => _ = reason.get_or_insert_default(),
            }
        }
        self.fields.left_out.shortened =
            self.fields.left_out.shortened.saturating_add(fields.left_out.shortened);

        let extras = self.extras();
        let cost = EMPTY_EVENT_COST + callsite.fixed.event_cost + fields.cost();
        if extras.event_count == MAX_EVENTS || extras.events_cost + cost > EVENTS_COST {
            extras.events_left_out = extras.events_left_out.saturating_add(1);
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
        if !trace_state.is_empty() || self.extras.is_some() {
            self.extras().trace_state = trace_state;
        }
    }

    pub(crate) fn trace_state(&self) -> TraceState {
        self.extras.as_ref().map(|extras| extras.trace_state.clone()).unwrap_or_default()
    }

    /// Fields of it may not be known: it began before anyone wanted them, or all of them.
    #[cold]
    pub(crate) fn leave_out_unknown_fields(&mut self, callsite: &'static Callsite) {
        let known = self.fields.view(callsite).entries().count() as u32;
        let left_out = &mut self.fields.left_out.attributes;
        *left_out = (*left_out).max((callsite.fields().len() as u32).saturating_sub(known));
    }

    /// Adds what its user says of it under a name.
    pub(crate) fn set(
        &mut self,
        callsite: &Callsite,
        name: &str,
        value: &AttributeValue<'_>,
        limits: &Limits,
    ) {
        self.told |= encode::has_meaning(name);
        self.fields.set_value(callsite, name, value, limits);
    }

    pub(crate) fn add_link(&mut self, link: &Link<'_>) {
        let extras = self.extras();
        let cost = extras.links_cost + link.cost();
        if extras.link_count == link::MAX_LINKS || cost > link::MAX_COST {
            extras.links_left_out = extras.links_left_out.saturating_add(1);
            return;
        }
        extras.links_cost = cost;
        extras.link_count += 1;
        link.write(&mut extras.links);
    }

    /// As the encoder reads it.
    pub(crate) fn view(&self) -> RecordView<'_> {
        let thread = self.thread.as_deref();
        let mut view = RecordView {
            thread_id: thread.map_or(0, |thread| thread.id),
            thread_name: thread.map_or("", |thread| &thread.name),
            fields: self.fields.bytes(),
            told: self.told,
            left_out: LeftOut { fields: self.fields.left_out, ..LeftOut::default() },
            ..RecordView::default()
        };
        if let Some(extras) = &self.extras {
            view.events = &extras.events;
            view.links = &extras.links;
            view.error = extras.error.as_deref();
            view.left_out.events = extras.events_left_out;
            view.left_out.links = extras.links_left_out;
        }
        view
    }
}

/// A span at its end: all that an encoder asks for.
#[derive(Clone, Copy)]
pub(crate) struct ClosedSpan<'a> {
    pub(crate) identity: Identity,
    pub(crate) callsite: &'static Callsite,
    /// Nanoseconds since 1970.
    pub(crate) start_ns: u64,
    pub(crate) elapsed: Elapsed,
    /// Not by value: what was written a moment ago in words takes long to be moved in greater pieces.
    pub(crate) record: &'a RecordView<'a>,
}

/// What was recorded of it.
#[derive(Clone, Copy, Default)]
pub(crate) struct RecordView<'a> {
    /// 0: not known.
    pub(crate) thread_id: u64,
    pub(crate) thread_name: &'a str,
    pub(crate) fields: &'a [u8],
    pub(crate) events: &'a [u8],
    pub(crate) links: &'a [u8],
    pub(crate) error: Option<&'a str>,
    pub(crate) left_out: LeftOut,
    /// A field means something that the callsite doesn't know of.
    pub(crate) told: bool,
    /// Its own, or that of a span above.
    pub(crate) trace_state: &'a str,
    /// The program ended before the span did.
    pub(crate) is_unfinished: bool,
}

/// What the limits kept out of a record.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct LeftOut {
    pub(crate) fields: FieldsLeftOut,
    pub(crate) events: u32,
    pub(crate) links: u32,
}

/// A span that was open when the program ended.
pub(crate) struct UnfinishedSpan {
    identity: Identity,
    callsite: &'static Callsite,
    start_ns: u64,
    elapsed: Elapsed,
    record: Record,
}

impl UnfinishedSpan {
    /// Takes what was recorded out of an open span: from now on, nothing of it is sent. `None` if nothing was
    /// recorded, since nobody listened when it began, or its trace is not sampled.
    pub(crate) fn take(open: &mut OpenSpan, now: Monotonic) -> Option<Self> {
        let callsite = open.callsite.filter(|_| open.identity.context.sampled)?;
        let timing = open.timing.take()?;
        open.callsite = None;
        Some(Self {
            identity: open.identity,
            callsite,
            start_ns: timing.start_wall_ns(),
            elapsed: timing.so_far(now),
            record: std::mem::take(&mut open.record),
        })
    }

    /// Calls `f` with the span as an encoder takes it.
    pub(crate) fn with_closed<T>(&self, f: impl FnOnce(&ClosedSpan<'_>) -> T) -> T {
        let trace_state = self.record.trace_state();
        let record =
            RecordView { trace_state: trace_state.as_str(), is_unfinished: true, ..self.record.view() };
        let Self { identity, callsite, start_ns, elapsed, .. } = *self;
        f(&ClosedSpan { identity, callsite, start_ns, elapsed, record: &record })
    }
}

/// An event inside a span.
pub(crate) struct Event<'a> {
    /// Nanoseconds since 1970.
    pub(crate) at_ns: u64,
    pub(crate) fields: FieldsView<'a>,
}

impl<'a> ClosedSpan<'a> {
    pub(crate) fn fields(&self) -> FieldsView<'a> {
        FieldsView::new(self.callsite, self.record.fields)
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = Event<'a>> + use<'a> {
        let mut rest = self.record.events;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let at_ns = u64::from_le_bytes(take(&mut rest));
            let callsite = callsite::by_id(u32::from_le_bytes(take(&mut rest)))?;
            let length = u32::from_le_bytes(take(&mut rest)) as usize;
            let (fields, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            Some(Event { at_ns, fields: FieldsView::new(callsite, fields) })
        })
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = Link<'a>> + use<'a> {
        let mut rest = self.record.links;
        std::iter::from_fn(move || Link::read(&mut rest))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fields::Owner;
    use tracing_core::Metadata;

    fn at(ns: u64) -> Monotonic {
        Monotonic::from_ns(ns)
    }

    fn finish(timing: Timing, ns: u64) -> (u64, u64) {
        let elapsed = timing.finish(|| at(ns));
        (elapsed.duration_ns, elapsed.busy_ns)
    }

    #[test]
    fn duration_ends_with_the_last_exit() {
        let mut timing = Timing::start(at(100));
        timing.enter(at(110));
        timing.exit(at(130));
        timing.enter(at(150));
        timing.exit(at(155));
        assert_eq!(finish(timing, 900), (55, 25));
    }

    #[test]
    fn reentrant_enters_are_busy_once() {
        let mut timing = Timing::start(at(0));
        timing.enter(at(10));
        timing.enter(at(20));
        timing.exit(at(30));
        timing.exit(at(40));
        assert_eq!(finish(timing, 50), (40, 30));
    }

    #[test]
    fn never_entered_lasts_to_its_close() {
        assert_eq!(finish(Timing::start(at(5)), 25), (20, 0));
        assert_eq!(finish(Timing::start(at(5)), 5), (1, 0), "0 would mean unknown");
    }

    #[test]
    fn still_inside_is_busy_to_its_close() {
        let mut timing = Timing::start(at(5));
        timing.enter(at(10));
        timing.enter(at(11));
        assert_eq!(finish(timing, 25), (20, 15));
    }

    pub(crate) fn metadata() -> &'static Metadata<'static> {
        let callsite = tracing::callsite! {
            name: "work",
            kind: tracing::metadata::Kind::SPAN,
            fields:
        };
        tracing::callsite::Callsite::metadata(callsite)
    }

    #[test]
    fn events_in_an_endless_span_are_bounded_and_counted() {
        let (callsite, limits) = (callsite::of(metadata()), Limits::default());
        let mut record = Record::default();
        for _ in 0..1000 {
            record.add_event(callsite, 1, callsite, &mut Fields::default(), &limits);
        }
        let view = record.view();
        let kept = view.events.len() / 16;
        assert!((64..=MAX_EVENTS as usize).contains(&kept), "{kept} kept");
        assert_eq!(view.left_out.events, 1000 - kept as u32);
    }

    #[test]
    fn a_box_that_is_used_again_has_nothing_of_the_span_before() {
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
        assert!(view.fields.is_empty() && view.events.is_empty() && view.links.is_empty());
        assert_eq!((view.error, view.left_out), (None, LeftOut::default()));
    }
}
