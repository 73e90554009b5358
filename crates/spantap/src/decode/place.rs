//! Gives spans that were sent without their start or end the most likely time, and notes that in an attribute.
//!
//! Both are optional in Zipkin, and 0 means "not set" in protobuf. The time comes from the same datagram: from the span's
//! events, its children, its parent, or other spans of its trace; else it is the time of arrival. Spans that stay encoded
//! are not asked; those of the same process never do so beside a span without a time.
//!
//! Until all spans of the datagram are read, the span itself keeps its [`Times`]: a start or an end of 0 is unknown, and
//! if the start is unknown, the end holds the duration.

use std::collections::HashMap;

use opentelemetry_proto::tonic::trace::v1::Span;

use super::fault::Fault;
use super::faults::Faults;
use super::spans::{self, Spans};
use super::value::add_note;
use crate::text::readable;

/// The times of a span as its sender reports them, in nanoseconds.
#[derive(Clone, Copy, Default)]
pub(super) struct Times {
    pub(super) start: Option<u64>,
    pub(super) end: Option<u64>,
    pub(super) duration: Option<u64>,
}

impl Times {
    /// Stores the times in the span. Its events must have been read.
    pub(super) fn put(self, span: &mut Span, faults: &mut Faults) {
        let (start, end) = match self {
            // The usual case.
            Self { start: Some(start), end: Some(end), .. } => (start, end),
            Self { start: Some(start), duration: Some(duration), .. } => match start.checked_add(duration) {
                Some(end) => (start, end),
                None => {
                    faults.note(Fault::BadTime, || format!("a duration of {duration} ns"));
                    (start, 0)
                }
            },
            Self { start: Some(start), .. } => (start, 0),
            Self { end: Some(end), .. } => {
                let first = events(span).map(|(first, _)| first).filter(|first| *first < end);
                let how = if first.is_some() { "shown from its first event" } else { "shown at its end" };
                add_note(&mut span.attributes, format!("no start time: {how}"));
                faults.note(Fault::NoTime, || span.name.clone());
                (first.unwrap_or(end), end)
            }
            Self { duration, .. } => (0, duration.unwrap_or(0)),
        };
        (span.start_time_unix_nano, span.end_time_unix_nano) = (start, end);
        if start == 0 || end == 0 {
            faults.note(Fault::NoTime, || span.name.clone());
        } else {
            check(span, faults);
        }
    }
}

/// Checks and corrects the times of a span that has both.
fn check(span: &mut Span, faults: &mut Faults) {
    let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
    if end < start {
        // As Jaeger does. Most backends would take a negative duration for a very long one.
        span.end_time_unix_nano = start;
        let early = readable(start - end);
        add_note(
            &mut span.attributes,
            format!("ended {early} before it started, at {end} ns: shown without a duration"),
        );
        faults.note(Fault::BadTime, || format!("the end {end} is before the start {start}"));
    }
    faults.check_odd_time(start, span.end_time_unix_nano);
    // Events without a time are shown at the start. One note stands for all, because there may be very many.
    let mut without_time = 0;
    for event in span.events.iter_mut().filter(|event| event.time_unix_nano == 0) {
        event.time_unix_nano = start;
        without_time += 1;
    }
    if without_time > 0 {
        let events = if without_time == 1 { "event" } else { "events" };
        add_note(&mut span.attributes, format!("{without_time} {events} without a time: shown at the start"));
    }
}

/// A start and an end.
type Extent = (u64, u64);

/// What an extent belongs to: a span, the children of a span, or a trace.
#[derive(PartialEq, Eq, Hash)]
enum Owner {
    Span(Vec<u8>, Vec<u8>),
    Children(Vec<u8>, Vec<u8>),
    Trace(Vec<u8>),
}

fn events(span: &Span) -> Option<Extent> {
    let times = || span.events.iter().map(|event| event.time_unix_nano).filter(|time| *time > 0);
    Some((times().min()?, times().max()?))
}

/// Completes the times of all spans of a datagram that lack a start or an end.
pub(super) fn place(processes: &mut Spans, faults: &mut Faults) {
    let mut known = Known::default();
    let has_start = |span: &Span| span.start_time_unix_nano > 0;
    spans::each(processes).filter(|span| has_start(span)).for_each(|span| known.add(span));
    let without_start: Vec<&mut Span> = spans::each_mut(processes).filter(|span| !has_start(span)).collect();
    let placed: Vec<&Span> = without_start
        .into_iter()
        .map(|span| {
            known.give_start(span, faults.now_ns.max(1));
            check(span, faults);
            &*span
        })
        .collect();
    // Added only after all spans have a start: one guess should not be based on another.
    placed.into_iter().for_each(|span| known.add(span));
    for span in spans::each_mut(processes).filter(|span| span.end_time_unix_nano == 0) {
        known.give_end(span);
        check(span, faults);
    }
}

/// The extents that are known in a datagram.
#[derive(Default)]
struct Known(HashMap<Owner, Extent>);

impl Known {
    fn add(&mut self, span: &Span) {
        let start = span.start_time_unix_nano;
        let extent = (start, span.end_time_unix_nano.max(start));
        let (trace, id, parent) = (&span.trace_id, &span.span_id, &span.parent_span_id);
        self.join(Owner::Span(trace.clone(), id.clone()), extent);
        self.join(Owner::Children(trace.clone(), parent.clone()), extent);
        self.join(Owner::Trace(trace.clone()), extent);
    }

    fn join(&mut self, owner: Owner, (start, end): Extent) {
        let extent = self.0.entry(owner).or_insert((start, end));
        *extent = (extent.0.min(start), extent.1.max(end));
    }

    fn children(&self, span: &Span) -> Option<Extent> {
        self.0.get(&Owner::Children(span.trace_id.clone(), span.span_id.clone())).copied()
    }

    fn give_start(&self, span: &mut Span, now_ns: u64) {
        let duration = span.end_time_unix_nano;
        let trace = || span.trace_id.clone();
        let start_of = |owner: Owner| self.0.get(&owner).map(|(start, _)| (*start, *start));
        let ((start, end), how) = events(span)
            .map(|extent| (extent, "shown from its first event"))
            .or_else(|| Some((self.children(span)?, "shown from its first child")))
            .or_else(|| {
                Some((start_of(Owner::Span(trace(), span.parent_span_id.clone()))?, "shown with its parent"))
            })
            .or_else(|| Some((start_of(Owner::Trace(trace()))?, "shown with others of its trace")))
            .unwrap_or(((now_ns.saturating_sub(duration).max(1), now_ns), "shown when it arrived"));
        span.start_time_unix_nano = start;
        span.end_time_unix_nano = if duration > 0 { start.saturating_add(duration) } else { end };
        add_note(&mut span.attributes, format!("no start time: {how}"));
    }

    fn give_end(&self, span: &mut Span) {
        let start = span.start_time_unix_nano;
        let last = events(span).into_iter().chain(self.children(span)).map(|(_, end)| end).max();
        match last.filter(|last| *last > start) {
            Some(last) => {
                span.end_time_unix_nano = last;
                add_note(&mut span.attributes, "no end time: shown up to its last event or child");
            }
            None => {
                span.end_time_unix_nano = start;
                add_note(&mut span.attributes, "no end time: duration unknown");
            }
        }
    }
}
