//! Counting, where nobody wants the spans themselves: half the time of decoding them.
//!
//! A datagram is counted only if all is well with it. Everything else is decoded after all, so that its
//! faults and what it tells of losses are found as ever. Only what is inside of tags, attributes, events
//! and links is not looked at, beyond that it is JSON.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::otlp::Request;
use super::processes::Processes;
use super::value::{Integer, LONG, Text};
use super::zipkin::{Endpoint, each_span};
use super::{DAY, Faults, LOSSES, YEAR_2000};
use crate::process::{Process, Sender};

/// Of a Zipkin span, what tells whether it is one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ZipkinHead<'a> {
    #[serde(borrow)]
    trace_id: Text<'a>,
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, default)]
    parent_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    timestamp: Integer<u64>,
    #[serde(default)]
    duration: Option<Integer<u64>>,
    #[serde(borrow, default)]
    local_endpoint: Option<Endpoint<'a>>,
    #[serde(borrow, default)]
    tags: Option<&'a RawValue>,
}

/// Of an OTLP span.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OtlpHead<'a> {
    #[serde(borrow)]
    trace_id: Text<'a>,
    #[serde(borrow)]
    span_id: Text<'a>,
    #[serde(borrow, default)]
    parent_span_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    start_time_unix_nano: Integer<u64>,
    end_time_unix_nano: Integer<u64>,
    #[serde(borrow, default)]
    attributes: Option<&'a RawValue>,
}

/// How many spans of which process.
pub type Counted = Vec<(Arc<Process>, u64)>;

/// Nothing if it must be decoded.
pub(super) fn count(processes: &mut Processes, bytes: &[u8], sender: Sender, now_ns: u64) -> Option<Counted> {
    let text = std::str::from_utf8(bytes).ok()?;
    match text.as_bytes().first()? {
        b'[' => zipkin(processes, text, sender, now_ns),
        b'{' => otlp(processes, text, sender, now_ns),
        _ => None,
    }
}

fn zipkin(processes: &mut Processes, text: &str, sender: Sender, now_ns: u64) -> Option<Counted> {
    let mut counted = Counted::new();
    let mut faults = Faults::default();
    let mut all_well = true;
    let mut take = |span: ZipkinHead<'_>| {
        let start = span.timestamp.0.checked_mul(1000);
        let duration = span.duration.map_or(0, |duration| duration.0).checked_mul(1000);
        let end = start.zip(duration).and_then(|(start, duration)| start.checked_add(duration));
        let trace_id = matches!(span.trace_id.0.len(), 16 | 32) && is_id(&span.trace_id.0);
        all_well &= trace_id
            && is_id_of(&span.id, 16)
            && span.parent_id.is_none_or(|id| is_id_of(&id, 16))
            && start.zip(end).is_some_and(|(start, end)| is_time(start, end, now_ns))
            && is_usual(span.name.as_ref(), span.tags);
        let service = span.local_endpoint.as_ref().and_then(|endpoint| endpoint.service_name.as_ref());
        let service = service.map_or("", |name| &name.0);
        match counted.last_mut() {
            Some((process, spans)) if process.service == service => *spans += 1,
            _ => counted.push((processes.of_service(sender, service, &mut faults), 1)),
        }
    };
    each_span(text, &mut take).ok()?;
    (all_well && faults.is_empty()).then_some(counted)
}

fn otlp(processes: &mut Processes, text: &str, sender: Sender, now_ns: u64) -> Option<Counted> {
    let mut counted = Counted::new();
    let mut faults = Faults::default();
    let request = serde_json::from_str::<Request<'_, OtlpHead<'_>>>(text).ok()?;
    for spans in request.resource_spans? {
        let resource = spans.resource.map_or("{}", RawValue::get);
        let process = processes.of_resource(sender, resource, &mut faults).ok()?;
        let mut of_process = 0;
        for span in spans.scope_spans?.into_iter().filter_map(|scope| scope.spans).flatten() {
            let (start, end) = (span.start_time_unix_nano.0, span.end_time_unix_nano.0);
            let all_well = is_id_of(&span.trace_id, 32)
                && is_id_of(&span.span_id, 16)
                && span.parent_span_id.is_none_or(|id| id.0.is_empty() || is_id_of(&id, 16))
                && is_time(start, end, now_ns)
                && is_usual(span.name.as_ref(), span.attributes);
            if !all_well {
                return None;
            }
            of_process += 1;
        }
        counted.push((process, of_process));
    }
    let spans: u64 = counted.iter().map(|(_, spans)| spans).sum();
    (spans > 0 && faults.is_empty()).then_some(counted)
}

fn is_id_of(id: &Text<'_>, digits: usize) -> bool {
    id.0.len() == digits && is_id(&id.0)
}

fn is_id(id: &str) -> bool {
    let mut zeros = true;
    id.bytes().all(|byte| {
        zeros &= byte == b'0';
        matches!(byte, b'0'..=b'9' | b'a'..=b'f')
    }) && !zeros
}

fn is_time(start_ns: u64, end_ns: u64, now_ns: u64) -> bool {
    YEAR_2000 <= start_ns && start_ns <= end_ns && end_ns <= now_ns.saturating_add(DAY)
}

/// It tells of no losses, and has no value that is worth a word.
fn is_usual(name: Option<&Text<'_>>, attributes: Option<&RawValue>) -> bool {
    name.is_none_or(|name| name.0 != LOSSES) && attributes.is_none_or(|text| text.get().len() <= LONG)
}
