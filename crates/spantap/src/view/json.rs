//! A trace as JSON, for scripts. `docs/json.md` defines it; a change that could break a script gets a new [`VERSION`].

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::process::Process;
use crate::span::attributes::{count, find};
use crate::span::is_error;
use crate::text::{timestamp, write_json, write_json_for_browser};
use crate::trace::tree::{Place, Row, rows};
use crate::trace::{Segment, Trace, critical_path, self_times_ns};

/// The version of the schema.
const VERSION: u32 = 1;

/// Writes the trace as an object in a line.
///
/// # Errors
///
/// When `out` fails.
pub fn json(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    let rows = rows(trace);
    let all: Vec<usize> = (0..rows.len()).collect();
    write_json(&of_trace(trace, &rows, &all), out)
}

/// Writes the trace for a browser, with only some of its rows, given by their indices in ascending order. All numbers are those of
/// the whole trace.
pub(crate) fn json_of_rows(
    trace: &Trace,
    rows: &[Row<'_>],
    kept: &[usize],
    out: &mut impl Write,
) -> io::Result<()> {
    write_json_for_browser(&of_trace(trace, rows, kept), out)
}

#[derive(Serialize)]
struct OfTrace<'a> {
    version: u32,
    trace_id: String,
    start_time: String,
    start_unix_nano: String,
    duration_ns: u64,
    errors: usize,
    missing_parents: usize,
    left_out_spans: u64,
    duplicate_spans: u64,
    critical_path: Vec<OfSegment>,
    processes: Vec<OfProcess<'a>>,
    spans: Vec<OfSpan<'a>>,
}

#[derive(Serialize)]
struct OfSegment {
    span: usize,
    offset_ns: u64,
    duration_ns: u64,
}

#[derive(Serialize)]
struct OfProcess<'a> {
    service: &'a str,
    resource: Map<String, Value>,
}

#[derive(Serialize)]
struct OfSpan<'a> {
    span_id: String,
    parent_span_id: Option<String>,
    parent: Option<usize>,
    depth: usize,
    name: &'a str,
    kind: Option<&'static str>,
    process: usize,
    offset_ns: u64,
    duration_ns: u64,
    self_ns: u64,
    critical_path_ns: u64,
    busy_ns: Option<u64>,
    error: bool,
    status_message: Option<&'a str>,
    attributes: Map<String, Value>,
    events: Vec<OfEvent<'a>>,
    links: Vec<OfLink>,
}

#[derive(Serialize)]
struct OfEvent<'a> {
    name: &'a str,
    offset_ns: i64,
    attributes: Map<String, Value>,
}

#[derive(Serialize)]
struct OfLink {
    trace_id: String,
    span_id: String,
    attributes: Map<String, Value>,
}

fn of_trace<'a>(trace: &Trace, rows: &[Row<'a>], kept: &[usize]) -> OfTrace<'a> {
    let mut processes = Processes::default();
    let start_ns = rows.iter().map(|row| row.span.span.start_time_unix_nano).min().unwrap_or(0);
    let end_ns = rows.iter().map(|row| row.span.span.end_time_unix_nano).max().unwrap_or(0);
    // Where each row that is kept is in the list.
    let mut places = vec![None; rows.len()];
    kept.iter().enumerate().for_each(|(place, row)| places[*row] = Some(place));
    let (mut on_path_ns, mut path) = (vec![0; rows.len()], Vec::new());
    for segment in critical_path(rows) {
        on_path_ns[segment.row] += segment.end_ns - segment.start_ns;
        path.extend(places[segment.row].map(|place| of_segment(segment, place, start_ns)));
    }
    let self_ns = self_times_ns(rows);
    let of_row = |index: &usize| {
        let row = &rows[*index];
        let parent = match row.place {
            Place::Child(parent) => places[parent],
            Place::Root | Place::ParentMissing | Place::Circle => None,
        };
        let times = (self_ns[*index], on_path_ns[*index]);
        of_span(row, parent, times, start_ns, processes.index(row))
    };
    let spans = kept.iter().map(of_row).collect();
    OfTrace {
        version: VERSION,
        trace_id: format!("{:032x}", trace.id),
        start_time: timestamp(start_ns),
        start_unix_nano: start_ns.to_string(),
        duration_ns: end_ns.saturating_sub(start_ns),
        errors: rows.iter().filter(|row| is_error(&row.span.span)).count(),
        missing_parents: rows.iter().filter(|row| row.place == Place::ParentMissing).count(),
        left_out_spans: trace.left_out + (rows.len() - kept.len()) as u64,
        duplicate_spans: trace.duplicates,
        critical_path: path,
        processes: processes.list.into_iter().map(of_process).collect(),
        spans,
    }
}

/// The processes of a trace, each once.
#[derive(Default)]
struct Processes<'a> {
    list: Vec<&'a Process>,
    by_address: HashMap<usize, usize>,
}

impl<'a> Processes<'a> {
    fn index(&mut self, row: &Row<'a>) -> usize {
        let process = &row.span.process;
        let next = self.list.len();
        let index = *self.by_address.entry(Arc::as_ptr(process).addr()).or_insert(next);
        if index == next {
            self.list.push(process);
        }
        index
    }
}

fn of_process(process: &Process) -> OfProcess<'_> {
    OfProcess { service: &process.service, resource: attributes(&process.resource.attributes) }
}

fn of_segment(segment: Segment, span: usize, start_ns: u64) -> OfSegment {
    OfSegment { span, offset_ns: segment.start_ns - start_ns, duration_ns: segment.end_ns - segment.start_ns }
}

fn of_span<'a>(
    row: &Row<'a>,
    parent: Option<usize>,
    (self_ns, critical_path_ns): (u64, u64),
    start_ns: u64,
    process: usize,
) -> OfSpan<'a> {
    let span = &row.span.span;
    let message = span.status.as_ref().map(|status| &*status.message);
    OfSpan {
        span_id: const_hex::encode(&span.span_id),
        parent_span_id: (!span.parent_span_id.is_empty()).then(|| const_hex::encode(&span.parent_span_id)),
        parent,
        depth: row.depth,
        name: &span.name,
        kind: kind_name(span),
        process,
        offset_ns: span.start_time_unix_nano - start_ns,
        duration_ns: span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano),
        self_ns,
        critical_path_ns,
        busy_ns: find(&span.attributes, "busy_ns").and_then(count),
        error: is_error(span),
        status_message: message.filter(|message| !message.is_empty()),
        attributes: attributes(&span.attributes),
        events: span.events.iter().map(|event| of_event(event, start_ns)).collect(),
        links: span.links.iter().map(of_link).collect(),
    }
}

fn of_event(event: &Event, start_ns: u64) -> OfEvent<'_> {
    // An event may be older than the trace, by a wrong clock.
    let offset_ns = i128::from(event.time_unix_nano) - i128::from(start_ns);
    let offset_ns = offset_ns.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    OfEvent { name: &event.name, offset_ns, attributes: attributes(&event.attributes) }
}

fn of_link(link: &Link) -> OfLink {
    OfLink {
        trace_id: const_hex::encode(&link.trace_id),
        span_id: const_hex::encode(&link.span_id),
        attributes: attributes(&link.attributes),
    }
}

/// If a key is there twice, the first one counts, as in the tree.
pub(crate) fn attributes(attributes: &[KeyValue]) -> Map<String, Value> {
    let mut map = Map::new();
    for KeyValue { key, value, .. } in attributes {
        if !map.contains_key(key) {
            map.insert(key.clone(), value.as_ref().map_or(Value::Null, json_value));
        }
    }
    map
}

/// The value of an attribute.
pub(crate) fn json_value(value: &AnyValue) -> Value {
    match &value.value {
        // References to a table of strings exist in profiles only.
        None | Some(Any::StringValueStrindex(_)) => Value::Null,
        Some(Any::StringValue(text)) => text.as_str().into(),
        Some(Any::BoolValue(is)) => (*is).into(),
        Some(Any::IntValue(number)) => (*number).into(),
        // JSON has neither infinity nor NaN.
        Some(Any::DoubleValue(number)) if number.is_finite() => (*number).into(),
        Some(Any::DoubleValue(number)) => number.to_string().into(),
        Some(Any::ArrayValue(list)) => list.values.iter().map(json_value).collect(),
        Some(Any::KvlistValue(map)) => attributes(&map.values).into(),
        Some(Any::BytesValue(bytes)) => STANDARD.encode(bytes).into(),
    }
}

/// The kind of a span, if it has one.
pub(crate) fn kind_name(span: &Span) -> Option<&'static str> {
    match span.kind() {
        SpanKind::Unspecified => None,
        SpanKind::Internal => Some("internal"),
        SpanKind::Server => Some("server"),
        SpanKind::Client => Some("client"),
        SpanKind::Producer => Some("producer"),
        SpanKind::Consumer => Some("consumer"),
    }
}
