//! Spans whose sender left out when they started or ended: they get the most likely time, and say so.
//!
//! Zipkin leaves both open, and to protobuf 0 is no time. What the same datagram tells of the span decides: its own
//! events, its children, its parent, others of its trace; else when it came.
//!
//! Until then [`Times`] is kept in the span itself: a start of 0 is unknown, and so is an end of 0; where only the start
//! is unknown, the end is the duration.

use std::collections::HashMap;

use opentelemetry_proto::tonic::trace::v1::Span;

use super::fault::Fault;
use super::json::Json;
use super::value::say;
use super::{Faults, Spans};
use crate::view::readable;

/// When a span was, by its sender's word, in nanoseconds.
#[derive(Clone, Copy, Default)]
pub(super) struct Times {
    pub(super) start: Option<u64>,
    pub(super) end: Option<u64>,
    pub(super) duration: Option<u64>,
}

impl Times {
    /// Puts them into the span, whose events were read.
    pub(super) fn put(self, span: &mut Span, json: &mut Json<'_>) {
        let (start, end) = match self {
            // Usually.
            Self { start: Some(start), end: Some(end), .. } => (start, end),
            Self { start: Some(start), duration: Some(duration), .. } => match start.checked_add(duration) {
                Some(end) => (start, end),
                None => {
                    json.faults.note(Fault::BadTime, || format!("a duration of {duration} ns"));
                    (start, 0)
                }
            },
            Self { start: Some(start), .. } => (start, 0),
            Self { end: Some(end), .. } => {
                let first = events(span).map(|(first, _)| first).filter(|first| *first < end);
                let how = if first.is_some() { "shown from its first event" } else { "shown at its end" };
                say(&mut span.attributes, format!("no start time: {how}"));
                json.faults.note(Fault::NoTime, || span.name.clone());
                (first.unwrap_or(end), end)
            }
            Self { duration, .. } => (0, duration.unwrap_or(0)),
        };
        (span.start_time_unix_nano, span.end_time_unix_nano) = (start, end);
        if start == 0 || end == 0 {
            json.faults.note(Fault::NoTime, || span.name.clone());
        } else {
            check(span, &mut json.faults);
        }
    }
}

/// The times of a span that has them.
fn check(span: &mut Span, faults: &mut Faults) {
    let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
    if end < start {
        // As Jaeger does it: a negative duration is a very long one to most.
        span.end_time_unix_nano = start;
        let early = readable(start - end);
        say(
            &mut span.attributes,
            format!("ended {early} before it started, at {end} ns: shown without a duration"),
        );
        faults.note(Fault::BadTime, || format!("the end {end} is before the start {start}"));
    }
    faults.check_odd_time(start, span.end_time_unix_nano);
    // An event without a time is shown at the start. The span says so once: it may have very many of them.
    let mut without_time = 0;
    for event in span.events.iter_mut().filter(|event| event.time_unix_nano == 0) {
        event.time_unix_nano = start;
        without_time += 1;
    }
    if without_time > 0 {
        let events = if without_time == 1 { "event" } else { "events" };
        say(&mut span.attributes, format!("{without_time} {events} without a time: shown at the start"));
    }
}

/// From when to when.
type Extent = (u64, u64);

/// What a time is known of.
#[derive(PartialEq, Eq, Hash)]
enum Of {
    Span(Vec<u8>, Vec<u8>),
    Children(Vec<u8>, Vec<u8>),
    Trace(Vec<u8>),
}

fn events(span: &Span) -> Option<Extent> {
    let times = || span.events.iter().map(|event| event.time_unix_nano).filter(|time| *time > 0);
    Some((times().min()?, times().max()?))
}

/// Places the spans of a datagram that were left without a start or an end.
pub(super) fn place(processes: &mut Spans, faults: &mut Faults) {
    let mut known = Known::default();
    let has_start = |span: &Span| span.start_time_unix_nano > 0;
    super::each(processes).filter(|span| has_start(span)).for_each(|span| known.add(span));
    let without_start: Vec<&mut Span> = super::each_mut(processes).filter(|span| !has_start(span)).collect();
    let placed: Vec<&Span> = without_start
        .into_iter()
        .map(|span| {
            known.give_start(span, faults.now_ns.max(1));
            check(span, faults);
            &*span
        })
        .collect();
    // Not before all have been looked at: what is a guess itself says little of others.
    placed.into_iter().for_each(|span| known.add(span));
    for span in super::each_mut(processes).filter(|span| span.end_time_unix_nano == 0) {
        known.give_end(span);
        check(span, faults);
    }
}

/// What the spans of a datagram tell of others.
#[derive(Default)]
struct Known(HashMap<Of, Extent>);

impl Known {
    fn add(&mut self, span: &Span) {
        let start = span.start_time_unix_nano;
        let extent = (start, span.end_time_unix_nano.max(start));
        let (trace, id, parent) = (&span.trace_id, &span.span_id, &span.parent_span_id);
        self.join(Of::Span(trace.clone(), id.clone()), extent);
        self.join(Of::Children(trace.clone(), parent.clone()), extent);
        self.join(Of::Trace(trace.clone()), extent);
    }

    fn join(&mut self, of: Of, (start, end): Extent) {
        let extent = self.0.entry(of).or_insert((start, end));
        *extent = (extent.0.min(start), extent.1.max(end));
    }

    fn children(&self, span: &Span) -> Option<Extent> {
        self.0.get(&Of::Children(span.trace_id.clone(), span.span_id.clone())).copied()
    }

    fn give_start(&self, span: &mut Span, now_ns: u64) {
        let duration = span.end_time_unix_nano;
        let trace = || span.trace_id.clone();
        let start_of = |of: Of| self.0.get(&of).map(|(start, _)| (*start, *start));
        let ((start, end), how) = events(span)
            .map(|extent| (extent, "shown from its first event"))
            .or_else(|| Some((self.children(span)?, "shown from its first child")))
            .or_else(|| {
                Some((start_of(Of::Span(trace(), span.parent_span_id.clone()))?, "shown with its parent"))
            })
            .or_else(|| Some((start_of(Of::Trace(trace()))?, "shown with others of its trace")))
            .unwrap_or(((now_ns.saturating_sub(duration).max(1), now_ns), "shown when it came"));
        span.start_time_unix_nano = start;
        span.end_time_unix_nano = if duration > 0 { start.saturating_add(duration) } else { end };
        say(&mut span.attributes, format!("no start time: {how}"));
    }

    fn give_end(&self, span: &mut Span) {
        let start = span.start_time_unix_nano;
        let last = events(span).into_iter().chain(self.children(span)).map(|(_, end)| end).max();
        match last.filter(|last| *last > start) {
            Some(last) => {
                span.end_time_unix_nano = last;
                say(&mut span.attributes, "no end time: shown up to the last that is known of it");
            }
            None => {
                span.end_time_unix_nano = start;
                say(&mut span.attributes, "no end time: how long it took is unknown");
            }
        }
    }
}
