//! What the layer keeps of a span while it is open.
//!
//! It lives in the registry's extensions. A span that nobody listened to has none of it; one that
//! was met only later, by a probe, has an identity but neither times nor a record, because half of
//! them would be a lie.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing_core::{Level, Metadata};

use crate::clock::Monotonic;
use crate::context::SpanContext;
use crate::encode::value_text;
use crate::fields::{Entry, Fields, Value, cut_to_cost, text_cost};
use crate::identity::Identity;
use crate::thread::{self, ThreadInfo};

/// Bounds of one open span, chosen so that its JSON stays below 64 KiB in either format: any
/// receiver's buffer takes it, and so does an eBPF program. 24 + 20 + 9.6 (links of 77 bytes) + 2 + 4
/// (resource) leaves 4.4 for names and ids. The counts are OpenTelemetry's defaults.
const ATTRIBUTE_BYTES: usize = 24 * 1024;
const SHORT_BYTES: usize = 256;
const RESERVED_BYTES: usize = 4 * 1024;
const EVENT_BYTES: usize = 20 * 1024;
const EVENT_TEXT_BYTES: usize = 4 * 1024;
/// An event without its texts, in OTLP, where it is longer.
const EMPTY_EVENT_BYTES: usize = 176;
const ERROR_BYTES: usize = 2 * 1024;
const MAX_EVENTS: usize = 128;
const MAX_LINKS: usize = 128;

pub(crate) struct SpanState {
    pub(crate) identity: Identity,
    /// `None`: it began before anyone listened.
    pub(crate) timing: Option<Timing>,
    /// `None`: nobody wanted its text when it began.
    pub(crate) record: Option<Box<Record>>,
    /// The process it began in.
    forks: u32,
}

/// How many states there are. While it is 0, the callbacks have no span to look up.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Whether any span of the process has a state.
pub(crate) fn any_open() -> bool {
    OPEN.load(Ordering::Relaxed) > 0
}

impl SpanState {
    pub(crate) fn new(identity: Identity, timing: Option<Timing>, record: Option<Box<Record>>) -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self { identity, timing, record, forks: thread::forks() }
    }

    /// What there is to say at the end. The identity stays: spans below may still ask for it.
    pub(crate) fn take(&mut self) -> (Identity, Option<Timing>, Option<Box<Record>>) {
        (self.identity, self.timing.take(), self.record.take())
    }

    /// A span that was open at a fork is the parent process's to report. In the child it is like
    /// one that began unheard: it has its identity, under which more spans may come.
    pub(crate) fn notice_fork(&mut self) {
        if self.forks != thread::forks() {
            self.forks = thread::forks();
            self.timing = None;
            self.record = None;
        }
    }
}

impl Drop for SpanState {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// When a span was created, worked and stopped working.
pub(crate) struct Timing {
    start: Monotonic,
    last_exit: Option<Monotonic>,
    /// How many enters have not been left yet, on all threads.
    depth: u32,
    busy_since: Monotonic,
    busy_ns: u64,
}

impl Timing {
    pub(crate) fn start(now: Monotonic) -> Self {
        Self { start: now, last_exit: None, depth: 0, busy_since: now, busy_ns: 0 }
    }

    pub(crate) fn started(&self) -> Monotonic {
        self.start
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
    pub(crate) fn finish(mut self, now: Monotonic) -> Elapsed {
        if self.depth > 0 {
            self.depth = 1;
            self.exit(now);
        }
        let end = self.last_exit.unwrap_or(now);
        Elapsed { duration_ns: end.since(self.start).max(1), busy_ns: self.busy_ns }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Elapsed {
    pub(crate) duration_ns: u64,
    pub(crate) busy_ns: u64,
}

/// All that the span's text will be made of.
pub(crate) struct Record {
    pub(crate) metadata: &'static Metadata<'static>,
    pub(crate) thread: ThreadInfo,
    fields: Fields,
    events: Vec<Event>,
    links: Vec<SpanContext>,
    /// The span failed, as an event inside it told; empty where it gave no reason.
    event_error: Option<String>,
    pub(crate) left_out: LeftOut,
    attribute_bytes: usize,
    event_bytes: usize,
}

/// What the limits kept out of a record.
#[derive(Default, Clone, Copy)]
pub(crate) struct LeftOut {
    pub(crate) attributes: u32,
    pub(crate) shortened: u32,
    pub(crate) events: u32,
    pub(crate) links: u32,
}

/// An event inside a span.
pub(crate) struct Event {
    pub(crate) at: Monotonic,
    pub(crate) name: String,
    pub(crate) metadata: &'static Metadata<'static>,
    pub(crate) fields: Fields,
}

impl Record {
    pub(crate) fn new(metadata: &'static Metadata<'static>, thread: ThreadInfo, fields: Fields) -> Self {
        let mut record = Self {
            metadata,
            thread,
            fields: Fields::default(),
            events: Vec::new(),
            links: Vec::new(),
            event_error: None,
            left_out: LeftOut::default(),
            attribute_bytes: 0,
            event_bytes: 0,
        };
        record.add_fields(fields);
        record
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    pub(crate) fn links(&self) -> &[SpanContext] {
        &self.links
    }

    pub(crate) fn event_error(&self) -> Option<&str> {
        self.event_error.as_deref()
    }

    pub(crate) fn add_fields(&mut self, fields: Fields) {
        for Entry { key, value, cut } in fields.into_entries() {
            self.add_field(key, value, cut);
        }
    }

    fn add_field(&mut self, key: Cow<'static, str>, mut value: Value, mut cut: bool) {
        let replaced = self.fields.get(&key).map_or(0, |old| cost(&key, old));
        let room = ATTRIBUTE_BYTES - (self.attribute_bytes - replaced);
        // A long text gets half of the room at most, and none of the last of it: it should not
        // push out the short ones that come after.
        let mut bytes = cost(&key, &value);
        let share = if bytes > SHORT_BYTES { room.saturating_sub(RESERVED_BYTES) / 2 } else { room };
        if bytes > share {
            let Some(shorter) = shorten(&key, value, share) else {
                // Nor may the value of an earlier recording stand for this one.
                self.fields.remove(&key);
                self.attribute_bytes -= replaced;
                count(&mut self.left_out.attributes, true);
                return;
            };
            bytes = cost(&key, &shorter);
            (value, cut) = (shorter, true);
        }
        count(&mut self.left_out.shortened, cut);
        self.attribute_bytes = self.attribute_bytes - replaced + bytes;
        self.fields.set(key, value);
    }

    /// Adds an event, named by its message as in OpenTelemetry. One without a message but with an
    /// `error` is an exception, and fails the span; so does any event of level ERROR, unless the
    /// span's own fields say otherwise.
    pub(crate) fn add_event(
        &mut self,
        at: Monotonic,
        metadata: &'static Metadata<'static>,
        mut message: Option<Entry>,
        mut fields: Fields,
    ) {
        for entry in message.iter_mut().chain(fields.entries_mut()) {
            if let Value::Text(text) = &mut entry.value {
                entry.cut |= cut_to_cost(text, EVENT_TEXT_BYTES);
            }
            count(&mut self.left_out.shortened, entry.cut);
        }
        // Text only: `error = false` is no exception.
        let error = match fields.get("error") {
            Some(Value::Text(error)) => Some(error.clone()),
            _ => None,
        };
        match (&message, error) {
            (None, Some(mut error)) => {
                fields.set("exception.message".into(), Value::Text(error.clone()));
                cut_to_cost(&mut error, ERROR_BYTES);
                self.event_error = Some(error);
            }
            _ if *metadata.level() == Level::ERROR => {
                self.event_error.get_or_insert_default();
            }
            _ => {}
        }
        // Only a real error value has a chain; its exception is also the span's.
        if let (Some(message), Some(chain)) =
            (fields.get("exception.message").cloned(), fields.get("exception.stacktrace").cloned())
        {
            self.add_field("exception.message".into(), message, false);
            self.add_field("exception.stacktrace".into(), chain, false);
        }
        let exception = fields.get("exception.message").is_some();
        let name = match message {
            Some(Entry { value: Value::Text(text), .. }) => text,
            Some(Entry { value, .. }) => value_text(&value).into_owned(),
            None if exception => "exception".to_owned(),
            None => metadata.name().to_owned(),
        };

        let bytes = EMPTY_EVENT_BYTES
            + text_cost(&name)
            + text_cost(metadata.target())
            + fields.iter().map(|(key, value)| cost(key, value)).sum::<usize>();
        if self.events.len() == MAX_EVENTS || self.event_bytes + bytes > EVENT_BYTES {
            count(&mut self.left_out.events, true);
            return;
        }
        self.event_bytes += bytes;
        self.events.push(Event { at, name, metadata, fields });
    }

    pub(crate) fn add_link(&mut self, to: SpanContext) {
        if self.links.len() == MAX_LINKS {
            count(&mut self.left_out.links, true);
        } else {
            self.links.push(to);
        }
    }
}

fn count(counter: &mut u32, one_more: bool) {
    *counter = counter.saturating_add(u32::from(one_more));
}

fn cost(key: &str, value: &Value) -> usize {
    let value = match value {
        Value::Text(text) => text_cost(text),
        Value::List(items) => items.iter().map(|item| text_cost(item)).sum(),
        _ => 40,
    };
    text_cost(key) + value
}

/// `value` cut so that it costs at most `room`; `None` where nothing useful would be left.
fn shorten(key: &str, value: Value, room: usize) -> Option<Value> {
    let room = room.checked_sub(text_cost(key))?;
    match value {
        Value::Text(mut text) => {
            cut_to_cost(&mut text, room);
            (!text.is_empty()).then_some(Value::Text(text))
        }
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::encode;

    fn at(ns: u64) -> Monotonic {
        Monotonic::from_ns(ns)
    }

    #[test]
    fn duration_ends_with_the_last_exit() {
        let mut timing = Timing::start(at(100));
        timing.enter(at(110));
        timing.exit(at(130));
        timing.enter(at(150));
        timing.exit(at(155));
        let elapsed = timing.finish(at(900));
        assert_eq!((elapsed.duration_ns, elapsed.busy_ns), (55, 25));
    }

    #[test]
    fn reentrant_enters_are_busy_once() {
        let mut timing = Timing::start(at(0));
        timing.enter(at(10));
        timing.enter(at(20));
        timing.exit(at(30));
        timing.exit(at(40));
        let elapsed = timing.finish(at(50));
        assert_eq!((elapsed.duration_ns, elapsed.busy_ns), (40, 30));
    }

    #[test]
    fn never_entered_lasts_to_its_close() {
        let elapsed = Timing::start(at(5)).finish(at(25));
        assert_eq!((elapsed.duration_ns, elapsed.busy_ns), (20, 0));
        assert_eq!(Timing::start(at(5)).finish(at(5)).duration_ns, 1, "0 would mean unknown");
    }

    pub(crate) fn metadata() -> &'static Metadata<'static> {
        let callsite = tracing::callsite! {
            name: "work",
            kind: tracing::metadata::Kind::SPAN,
            fields:
        };
        tracing::callsite::Callsite::metadata(callsite)
    }

    fn record() -> Record {
        let thread = ThreadInfo { id: None, name: None };
        Record::new(metadata(), thread, Fields::default())
    }

    #[test]
    fn a_field_recorded_for_ever_is_not_lost() {
        let mut record = record();
        for n in 0..100_000 {
            record.add_field("progress".into(), Value::Text(format!("{n}")), false);
        }
        assert_eq!(record.fields.get("progress"), Some(&Value::Text("99999".into())));
        assert_eq!(record.left_out.attributes, 0);
    }

    #[test]
    fn attributes_beyond_the_limit_are_shortened_then_counted() {
        let mut record = record();
        let long = "\u{1}".repeat(1400);
        for n in 0..20 {
            record.add_field(format!("long {n}").into(), Value::Text(long.clone()), false);
            record.add_field(format!("short {n}").into(), Value::U64(n), false);
        }
        assert!(record.attribute_bytes <= ATTRIBUTE_BYTES);
        let kept = |key: &str| record.fields.get(key).map_or(0, |value| encode::value_text(value).len());
        assert_eq!(kept("long 0"), 1400);
        assert!((1..1400).contains(&kept("long 1")), "kept {}", kept("long 1"));
        assert_eq!(kept("long 19"), 0);
        assert!((0..20).all(|n| kept(&format!("short {n}")) > 0), "no short one is pushed out");
        let long_kept = (0..20).filter(|n| kept(&format!("long {n}")) > 0).count() as u32;
        assert_eq!(record.left_out.attributes, 20 - long_kept);
        assert_eq!(record.left_out.shortened, long_kept - 1);
    }

    #[test]
    fn events_in_an_endless_span_are_bounded_and_counted() {
        let mut record = record();
        for _ in 0..1000 {
            record.add_event(at(1), metadata(), None, Fields::default());
        }
        let kept = record.events.len();
        assert!((64..=MAX_EVENTS).contains(&kept), "{kept} kept");
        assert_eq!(record.left_out.events, 1000 - kept as u32);
    }
}
