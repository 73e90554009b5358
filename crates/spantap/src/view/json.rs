//! A trace as JSON, for scripts. `docs/json.md` defines it; a change that could break a script gets a new [`VERSION`].

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use serde_json::{Map, Value, json};

use crate::span::attributes::{count, find};
use crate::span::is_error;
use crate::trace::tree::{Place, Row, rows};
use crate::trace::{Trace, self_times_ns};

/// The version of the schema.
const VERSION: u32 = 1;

/// The trace as an object.
pub fn json(trace: &Trace) -> Value {
    let rows = rows(trace);
    let mut processes = Processes::default();
    let start_ns = rows.iter().map(|row| row.span.span.start_time_unix_nano).min().unwrap_or(0);
    let end_ns = rows.iter().map(|row| row.span.span.end_time_unix_nano).max().unwrap_or(0);
    let of_rows = rows.iter().zip(self_times_ns(&rows));
    let spans: Vec<Value> = of_rows
        .map(|(row, self_ns)| {
            let process = processes.index(row);
            span(row, self_ns, start_ns, process)
        })
        .collect();
    let missing = rows.iter().filter(|row| row.place == Place::ParentMissing).count();
    json!({
        "version": VERSION,
        "trace_id": format!("{:032x}", trace.id),
        "start_unix_nano": start_ns.to_string(),
        "duration_ns": end_ns.saturating_sub(start_ns),
        "errors": rows.iter().filter(|row| is_error(&row.span.span)).count(),
        "missing_parents": missing,
        "left_out_spans": trace.left_out,
        "processes": processes.list,
        "spans": spans,
    })
}

/// The processes of a trace, each once.
#[derive(Default)]
struct Processes {
    list: Vec<Value>,
    by_address: HashMap<usize, usize>,
}

impl Processes {
    fn index(&mut self, row: &Row<'_>) -> usize {
        let process = &row.span.process;
        let next = self.list.len();
        let index = *self.by_address.entry(Arc::as_ptr(process).addr()).or_insert(next);
        if index == next {
            let resource = attributes(&process.resource.attributes);
            self.list.push(json!({ "service": process.service, "resource": resource }));
        }
        index
    }
}

fn span(row: &Row<'_>, self_ns: u64, start_ns: u64, process: usize) -> Value {
    let span = &row.span.span;
    let parent = (!span.parent_span_id.is_empty()).then(|| const_hex::encode(&span.parent_span_id));
    let kind = span.kind().as_str_name().trim_start_matches("SPAN_KIND_").to_lowercase();
    let message = span.status.as_ref().map(|status| &status.message).filter(|message| !message.is_empty());
    let busy = find(&span.attributes, "busy_ns").and_then(count);
    json!({
        "span_id": const_hex::encode(&span.span_id),
        "parent_span_id": parent,
        "depth": row.depth,
        "name": span.name,
        "kind": if span.kind() == SpanKind::Unspecified { None } else { Some(kind) },
        "process": process,
        "offset_ns": span.start_time_unix_nano - start_ns,
        "duration_ns": duration_ns(span),
        "self_ns": self_ns,
        "busy_ns": busy,
        "error": is_error(span),
        "status_message": message,
        "attributes": attributes(&span.attributes),
        "events": span.events.iter().map(|of| event(of, start_ns)).collect::<Vec<_>>(),
        "links": span.links.iter().map(link).collect::<Vec<_>>(),
    })
}

fn duration_ns(span: &Span) -> u64 {
    span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano)
}

fn event(event: &Event, start_ns: u64) -> Value {
    // An event may be older than the trace, by a wrong clock.
    let offset_ns = i128::from(event.time_unix_nano) - i128::from(start_ns);
    json!({
        "name": event.name,
        "offset_ns": i64::try_from(offset_ns).unwrap_or(i64::MAX),
        "attributes": attributes(&event.attributes),
    })
}

fn link(link: &Link) -> Value {
    json!({
        "trace_id": const_hex::encode(&link.trace_id),
        "span_id": const_hex::encode(&link.span_id),
        "attributes": attributes(&link.attributes),
    })
}

/// If a key is there twice, the first one counts, as in the tree.
fn attributes(attributes: &[KeyValue]) -> Map<String, Value> {
    let mut map = Map::new();
    for KeyValue { key, value, .. } in attributes {
        if !map.contains_key(key) {
            map.insert(key.clone(), value.as_ref().map_or(Value::Null, any));
        }
    }
    map
}

fn any(value: &AnyValue) -> Value {
    match &value.value {
        // References to a table of strings exist in profiles only.
        None | Some(Any::StringValueStrindex(_)) => Value::Null,
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::BoolValue(is)) => json!(is),
        Some(Any::IntValue(number)) => json!(number),
        // JSON has neither infinity nor NaN.
        Some(Any::DoubleValue(number)) if number.is_finite() => json!(number),
        Some(Any::DoubleValue(number)) => json!(number.to_string()),
        Some(Any::ArrayValue(list)) => list.values.iter().map(any).collect(),
        Some(Any::KvlistValue(map)) => attributes(&map.values).into(),
        Some(Any::BytesValue(bytes)) => json!(STANDARD.encode(bytes)),
    }
}
