//! Rows for the table `otel_traces` in ClickHouse, whose columns are those of an OpenTelemetry Collector's ClickHouse exporter
//! (`traces_table.sql` and `exporter_traces.go` in `exporter/clickhouseexporter` of opentelemetry-collector-contrib).
//!
//! Each row is a line in ClickHouse's format `JSONEachRow`, so one `INSERT` takes the whole file. The values are as the exporter
//! writes them, so that its dashboards and queries find these spans as well.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use serde::Serialize;

use crate::capture::Spans;
use crate::process::Process;
use crate::text::write_json;
use crate::view::json_value;

/// The columns, in the order of the table. A column of `Events` or `Links` has as many values as the span has events or links.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row<'a> {
    timestamp: String,
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    trace_state: &'a str,
    span_name: &'a str,
    span_kind: &'static str,
    service_name: &'a str,
    resource_attributes: &'a Texts<'a>,
    scope_name: &'a str,
    scope_version: &'a str,
    span_attributes: Texts<'a>,
    duration: u64,
    status_code: &'static str,
    status_message: &'a str,
    #[serde(rename = "Events.Timestamp")]
    event_timestamps: Vec<String>,
    #[serde(rename = "Events.Name")]
    event_names: Vec<&'a str>,
    #[serde(rename = "Events.Attributes")]
    event_attributes: Vec<Texts<'a>>,
    #[serde(rename = "Links.TraceId")]
    link_trace_ids: Vec<String>,
    #[serde(rename = "Links.SpanId")]
    link_span_ids: Vec<String>,
    #[serde(rename = "Links.TraceState")]
    link_trace_states: Vec<&'a str>,
    #[serde(rename = "Links.Attributes")]
    link_attributes: Vec<Texts<'a>>,
}

/// Attributes as texts.
type Texts<'a> = BTreeMap<&'a str, String>;

/// A line for each span.
pub(super) fn rows(of: &Spans) -> Vec<u8> {
    let mut lines = Vec::new();
    let resource = texts(&of.process.resource.attributes);
    for scope in of.decode() {
        let name = scope.scope.unwrap_or_default();
        for span in &scope.spans {
            // Writing to a list does not fail.
            let _ = write_json(&row(&of.process, &resource, &name, span), &mut lines);
        }
    }
    lines
}

fn row<'a>(
    process: &'a Process,
    resource: &'a Texts<'a>,
    scope: &'a InstrumentationScope,
    span: &'a Span,
) -> Row<'a> {
    let (events, links) = (&span.events, &span.links);
    Row {
        timestamp: timestamp(span.start_time_unix_nano),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_span_id: hex(&span.parent_span_id),
        trace_state: &span.trace_state,
        span_name: &span.name,
        span_kind: kind(span),
        service_name: &process.service,
        resource_attributes: resource,
        scope_name: &scope.name,
        scope_version: &scope.version,
        span_attributes: texts(&span.attributes),
        duration: span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano),
        status_code: span.status.as_ref().map_or("Unset", status),
        status_message: span.status.as_ref().map_or("", |status| &status.message),
        event_timestamps: events.iter().map(|event| timestamp(event.time_unix_nano)).collect(),
        event_names: events.iter().map(|event| &*event.name).collect(),
        event_attributes: events.iter().map(|event| texts(&event.attributes)).collect(),
        link_trace_ids: links.iter().map(|link| hex(&link.trace_id)).collect(),
        link_span_ids: links.iter().map(|link| hex(&link.span_id)).collect(),
        link_trace_states: links.iter().map(|link| &*link.trace_state).collect(),
        link_attributes: links.iter().map(|link| texts(&link.attributes)).collect(),
    }
}

/// A time as ClickHouse reads it whatever its time zone is: seconds since 1970, in ten digits so that it is not taken for a year, and a
/// fraction. A `DateTime64(9)` ends in the year 2262, as 63 bits of nanoseconds do.
fn timestamp(ns: u64) -> String {
    let ns = ns.min(i64::MAX as u64);
    format!("{:010}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// An id; empty if there is none.
fn hex(id: &[u8]) -> String {
    if id.iter().all(|byte| *byte == 0) { String::new() } else { const_hex::encode(id) }
}

fn kind(span: &Span) -> &'static str {
    match span.kind() {
        SpanKind::Unspecified => "Unspecified",
        SpanKind::Internal => "Internal",
        SpanKind::Server => "Server",
        SpanKind::Client => "Client",
        SpanKind::Producer => "Producer",
        SpanKind::Consumer => "Consumer",
    }
}

fn status(status: &Status) -> &'static str {
    match status.code() {
        StatusCode::Unset => "Unset",
        StatusCode::Ok => "Ok",
        StatusCode::Error => "Error",
    }
}

/// If a key is there twice, the first one counts, as elsewhere in spantap.
fn texts(attributes: &[KeyValue]) -> Texts<'_> {
    let mut texts = Texts::new();
    for KeyValue { key, value, .. } in attributes {
        texts.entry(key).or_insert_with(|| value.as_ref().map(text).unwrap_or_default());
    }
    texts
}

/// A value as a Collector's `AsString` writes it, except for infinity and NaN, of which it makes the text of an error, and inside lists and
/// maps, where Go's `json.Marshal` writes whole numbers without a fraction and some characters escaped.
fn text(value: &AnyValue) -> String {
    match &value.value {
        // References to a table of strings exist in profiles only.
        None | Some(Value::StringValueStrindex(_)) => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(is)) => is.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number_text(*number),
        Some(Value::ArrayValue(_) | Value::KvlistValue(_) | Value::BytesValue(_)) => {
            match json_value(value) {
                serde_json::Value::String(base64) => base64,
                nested => nested.to_string(),
            }
        }
    }
}

/// A number as JavaScript writes it.
fn number_text(number: f64) -> String {
    let size = number.abs();
    match size == 0.0 || !size.is_finite() || (1e-6..1e21).contains(&size) {
        true => number.to_string(),
        false => format!("{number:e}").replace('e', if size < 1.0 { "e" } else { "e+" }),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};

    use super::*;
    use crate::span::attributes::attribute;

    #[test]
    fn times_are_seconds_of_ten_digits() {
        let cases = [
            (0, "0000000000.000000000"),
            (1_800_000_000_123_456_789, "1800000000.123456789"),
            (u64::MAX, "9223372036.854775807"),
        ];
        for (ns, expected) in cases {
            assert_eq!(timestamp(ns), expected);
        }
    }

    #[test]
    fn values_are_texts_as_those_of_a_collector() {
        let of = |value| text(&AnyValue { value: Some(value) });
        let numbers = [
            (1.0, "1"),
            (-0.5, "-0.5"),
            (1e-6, "0.000001"),
            (1.5e-7, "1.5e-7"),
            (1e20, "100000000000000000000"),
            (-2.5e21, "-2.5e+21"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (number, expected) in numbers {
            assert_eq!(of(Value::DoubleValue(number)), expected);
        }
        let list = ["a\"b", "c"].map(|text| AnyValue { value: Some(Value::StringValue(text.to_owned())) });
        let map = KeyValueList {
            values: vec![attribute("z", Value::IntValue(-7)), attribute("a", Value::BoolValue(true))],
        };
        let cases = [
            (Value::StringValue("a\"b".to_owned()), "a\"b"),
            (Value::BoolValue(false), "false"),
            (Value::IntValue(i64::MIN), "-9223372036854775808"),
            (Value::BytesValue(vec![255, 0]), "/wA="),
            (Value::ArrayValue(ArrayValue { values: list.into() }), "[\"a\\\"b\",\"c\"]"),
            (Value::KvlistValue(map), "{\"a\":true,\"z\":-7}"),
        ];
        for (value, expected) in cases {
            assert_eq!(of(value), expected);
        }
        assert_eq!(text(&AnyValue { value: None }), "");
    }

    #[test]
    fn ids_that_are_missing_are_empty() {
        assert_eq!(
            [hex(&[]), hex(&[0; 8]), hex(&[0, 1, 255])],
            [String::new(), String::new(), "0001ff".to_owned()]
        );
    }

    #[test]
    fn the_first_of_two_equal_keys_counts() {
        let both = ["1", "2"].map(|text| attribute("key", Value::StringValue(text.to_owned())));
        assert_eq!(texts(&both), Texts::from([("key", "1".to_owned())]));
    }
}
