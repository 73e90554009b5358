//! Spans as a line of OTLP in JSON: the OpenTelemetry specification, "OpenTelemetry Protocol File Exporter".

use std::collections::VecDeque;
use std::io::{self, Write};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData};

use crate::text::write_json_with;

/// Writes a line with the spans.
///
/// # Errors
///
/// When `out` fails.
pub(crate) fn write_line(data: &TracesData, out: &mut impl Write) -> io::Result<()> {
    let not_finite = data.resource_spans.iter().flat_map(attributes).flat_map(not_finite).collect();
    write_json_with(data, not_finite, out)
}

/// All attributes, in the order in which they are written.
fn attributes(of: &ResourceSpans) -> impl Iterator<Item = &KeyValue> {
    let resource = of.resource.iter().flat_map(|resource| &resource.attributes);
    resource.chain(of.scope_spans.iter().flat_map(attributes_of_scope))
}

fn attributes_of_scope(of: &ScopeSpans) -> impl Iterator<Item = &KeyValue> {
    let scope = of.scope.iter().flat_map(|scope| &scope.attributes);
    scope.chain(of.spans.iter().flat_map(attributes_of_span))
}

fn attributes_of_span(span: &Span) -> impl Iterator<Item = &KeyValue> {
    let Span { attributes, events, links, .. } = span;
    let of_events = events.iter().flat_map(|event| &event.attributes);
    attributes.iter().chain(of_events).chain(links.iter().flat_map(|link| &link.attributes))
}

/// The values that are no numbers of JSON, in the order in which they are written.
fn not_finite(attribute: &KeyValue) -> VecDeque<f64> {
    let mut found = VecDeque::new();
    // Values may be nested in any depth: the next one is the last of these.
    let mut next: Vec<&AnyValue> = attribute.value.iter().collect();
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
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, InstrumentationScope, KeyValueList};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};

    use super::*;
    use crate::span::attributes::attribute;

    fn value(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
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
        let spans =
            ResourceSpans { resource: Some(resource), scope_spans: vec![scope], schema_url: String::new() };
        write_line(&TracesData { resource_spans: vec![spans] }, &mut out).unwrap();
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
