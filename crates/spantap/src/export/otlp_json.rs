//! OTLP in JSON lines: the OpenTelemetry specification, "OpenTelemetry Protocol File Exporter".
//!
//! A collector reads the file with its receiver `otlpjsonfile`, and so do `spantap view` and the other commands.

use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, TracesData};
use prost::Message;

use crate::capture::Spans;
use crate::encode::write_line;

/// The most spans and bytes of a line, unless one span is larger. Readers take a line at once, and the receiver of a collector
/// does not take one beyond its `max_log_size`, which is 1 MiB unless it is set.
const SPANS_OF_A_LINE: usize = 500;
const BYTES_OF_A_LINE: usize = 512 << 10;

/// Lines with the spans. Each has spans of one process and scope.
pub(super) fn lines(of: &Spans) -> Vec<u8> {
    let mut lines = Vec::new();
    for mut scope in merged(of.decode()) {
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

/// Neighbours of the same scope as one: each datagram has a scope of its own, and may have a single span.
fn merged(scopes: Vec<ScopeSpans>) -> Vec<ScopeSpans> {
    let mut merged: Vec<ScopeSpans> = Vec::new();
    for scope in scopes {
        match merged.last_mut() {
            Some(last) if last.scope == scope.scope && last.schema_url == scope.schema_url => {
                last.spans.extend(scope.spans);
            }
            _ => merged.push(scope),
        }
    }
    merged
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
    let (resource, scope_spans) = (Some(resource.clone()), vec![scope]);
    let spans = ResourceSpans { resource, scope_spans, schema_url: String::new() };
    // Writing to a list does not fail.
    let _ = write_line(&TracesData { resource_spans: vec![spans] }, lines);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failing test is a panic
mod tests {
    use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::trace::v1::Span;

    use super::*;
    use crate::span::attributes::attribute;

    #[test]
    fn spans_of_one_scope_share_a_line() {
        let scope = |name: &str, schema_url: &str, id: u8| ScopeSpans {
            scope: Some(InstrumentationScope { name: name.to_owned(), ..InstrumentationScope::default() }),
            spans: vec![Span { span_id: vec![id; 8], ..Span::default() }],
            schema_url: schema_url.to_owned(),
        };
        let scopes = vec![scope("a", "", 1), scope("a", "", 2), scope("a", "x", 3), scope("b", "x", 4)];
        let ids = |scope: &ScopeSpans| scope.spans.iter().map(|span| span.span_id[0]).collect::<Vec<_>>();
        assert_eq!(merged(scopes).iter().map(ids).collect::<Vec<_>>(), [vec![1, 2], vec![3], vec![4]]);
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
}
