//! OTLP in JSON lines: the OpenTelemetry specification, "OpenTelemetry Protocol File Exporter".
//!
//! A collector reads the file with its receiver `otlpjsonfile`, and so do `spantap view` and the other commands.

use std::collections::VecDeque;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData};
use prost::Message;

use crate::capture::Spans;
use crate::text::write_json_with;

/// The most spans and bytes of a line, unless one span is larger. Readers take a line at once, and the receiver of a collector
/// does not take one beyond its `max_log_size`, which is 1 MiB unless it is set.
const SPANS_OF_A_LINE: usize = 500;
const BYTES_OF_A_LINE: usize = 512 << 10;

/// Lines with the spans. Each has spans of one process and scope.
pub(super) fn lines(of: &Spans) -> Vec<u8> {
    let mut lines = Vec::new();
    for mut scope in of.decode() {
        // An empty message, because more readers fail on `null` than on `{}`.
        scope.scope.get_or_insert_default();
        scope.spans.iter_mut().for_each(|span| _ = span.status.get_or_insert_default());
        let mut rest = std::mem::take(&mut scope.spans).into_iter().peekable();
        while rest.peek().is_some() {
            // JSON is longer than protobuf.
            let (mut bytes, mut spans) = (0, Vec::new());
            while let Some(span) = rest.next_if(|_| spans.len() < SPANS_OF_A_LINE && bytes < BYTES_OF_A_LINE)
            {
                bytes += span.encoded_len();
                spans.push(span);
            }
            split(&of.process.resource, ScopeSpans { spans, ..scope.clone() }, &mut lines);
        }
    }
    lines
}

/// Writes a line, or several if it is too long.
fn split(resource: &Resource, scope: ScopeSpans, lines: &mut Vec<u8>) {
    let mut next = vec![scope];
    while let Some(mut scope) = next.pop() {
        let (before, count) = (lines.len(), scope.spans.len());
        line(resource, scope.clone(), lines);
        if lines.len() - before > BYTES_OF_A_LINE && count > 1 {
            lines.truncate(before);
            let spans = scope.spans.split_off(count / 2);
            next.push(ScopeSpans { spans, ..scope.clone() });
            next.push(scope);
        }
    }
}

fn line(resource: &Resource, scope: ScopeSpans, lines: &mut Vec<u8>) {
    let not_finite = not_finite(resource, &scope);
    let (resource, scope_spans) = (Some(resource.clone()), vec![scope]);
    let spans = ResourceSpans { resource, scope_spans, schema_url: String::new() };
    // Writing to a list does not fail.
    let _ = write_json_with(&TracesData { resource_spans: vec![spans] }, not_finite, lines);
}

/// The values that are no numbers of JSON, in the order in which they are written.
fn not_finite(resource: &Resource, scope: &ScopeSpans) -> VecDeque<f64> {
    let of_scope = scope.scope.iter().flat_map(|scope| &scope.attributes);
    let mut found = VecDeque::new();
    let attributes =
        resource.attributes.iter().chain(of_scope).chain(scope.spans.iter().flat_map(attributes_of));
    // Values may be nested in any depth: the next one is the last of these.
    let mut next: Vec<&AnyValue> = Vec::new();
    for KeyValue { value, .. } in attributes {
        next.extend(value);
        while let Some(value) = next.pop() {
            match &value.value {
                Some(Value::DoubleValue(number)) if !number.is_finite() => found.push_back(*number),
                Some(Value::ArrayValue(list)) => next.extend(list.values.iter().rev()),
                Some(Value::KvlistValue(map)) => {
                    next.extend(map.values.iter().rev().filter_map(|pair| pair.value.as_ref()));
                }
                _ => {}
            }
        }
    }
    found
}

/// All attributes of a span, in the order in which they are written.
fn attributes_of(span: &Span) -> impl Iterator<Item = &KeyValue> {
    let Span { attributes, events, links, .. } = span;
    let of_events = events.iter().flat_map(|event| &event.attributes);
    attributes.iter().chain(of_events).chain(links.iter().flat_map(|link| &link.attributes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, InstrumentationScope, KeyValueList};
    use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};

    use super::*;
    use crate::span::attributes::attribute;

    fn value(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    #[test]
    fn a_long_line_is_split() {
        let text = |length| attribute("text", Value::StringValue("\u{1}".repeat(length)));
        let span = |id: u8| Span {
            span_id: vec![id; 8],
            attributes: vec![text(if id == 7 { BYTES_OF_A_LINE } else { 9_000 })],
            ..Span::default()
        };
        let mut out = Vec::new();
        split(
            &Resource::default(),
            ScopeSpans { spans: (0..40).map(span).collect(), ..ScopeSpans::default() },
            &mut out,
        );
        let mut ids = Vec::new();
        for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let data: TracesData = serde_json::from_slice(line).unwrap();
            let spans = &data.resource_spans[0].scope_spans[0].spans;
            assert!(line.len() <= BYTES_OF_A_LINE || spans.len() == 1, "{} bytes", line.len());
            ids.extend(spans.iter().map(|span| span.span_id[0]));
        }
        assert_eq!(ids, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_that_are_not_finite_are_written_in_their_places() {
        let (nan, up, down) = (f64::NAN, f64::INFINITY, f64::NEG_INFINITY);
        let with = |numbers: &[f64]| -> Vec<KeyValue> {
            numbers.iter().map(|number| attribute("doubleValue", Value::DoubleValue(*number))).collect()
        };
        let list = [nan, 1.0, down].map(|number| value(Value::DoubleValue(number)));
        let map = KeyValueList { values: with(&[up]) };
        let nested = vec![
            value(Value::KvlistValue(map)),
            AnyValue { value: None },
            value(Value::ArrayValue(ArrayValue { values: list.into() })),
        ];
        let mut attributes = with(&[up, 2.5, down]);
        attributes.push(KeyValue { key: "none".to_owned(), value: None, ..KeyValue::default() });
        attributes.push(attribute("nested", Value::ArrayValue(ArrayValue { values: nested })));
        let span = Span {
            attributes,
            events: vec![Event { attributes: with(&[nan, up]), ..Event::default() }],
            links: vec![Link { attributes: with(&[down, nan]), ..Link::default() }],
            ..Span::default()
        };
        let scope = InstrumentationScope { attributes: with(&[down]), ..InstrumentationScope::default() };
        let scope =
            ScopeSpans { scope: Some(scope), spans: vec![span.clone(), span], ..ScopeSpans::default() };
        let resource = Resource { attributes: with(&[nan, down, up]), ..Resource::default() };
        let mut out = Vec::new();
        line(&resource, scope, &mut out);
        let text = String::from_utf8(out).unwrap();
        let written = text.split("\"doubleValue\":").skip(1).map(|rest| rest.split('}').next().unwrap());
        let of_span = [
            "\"Infinity\"",
            "2.5",
            "\"-Infinity\"",
            "\"Infinity\"",
            "\"NaN\"",
            "1.0",
            "\"-Infinity\"",
            "\"NaN\"",
            "\"Infinity\"",
            "\"-Infinity\"",
            "\"NaN\"",
        ];
        let before = ["\"NaN\"", "\"-Infinity\"", "\"Infinity\"", "\"-Infinity\""];
        assert_eq!(written.collect::<Vec<_>>(), [&before[..], &of_span, &of_span].concat(), "{text}");
    }
}
