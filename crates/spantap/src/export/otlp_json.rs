//! OTLP in JSON lines: the OpenTelemetry specification, "OpenTelemetry Protocol File Exporter".
//!
//! A collector reads the file with its receiver `otlpjsonfile`, and so do `spantap view` and the other commands.

use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, TracesData};

use crate::capture::Spans;
use crate::text::write_json;

/// The most spans in a line. Readers take a line at once, and some have a limit for its length.
const SPANS_OF_A_LINE: usize = 500;

/// Lines with the spans. Each has spans of one process and scope.
pub(super) fn lines(of: &Spans) -> Vec<u8> {
    let mut lines = Vec::new();
    for mut scope in of.decode() {
        // An empty message, because more readers fail on `null` than on `{}`.
        scope.scope.get_or_insert_default();
        scope.spans.iter_mut().for_each(|span| _ = span.status.get_or_insert_default());
        while !scope.spans.is_empty() {
            let rest = scope.spans.split_off(scope.spans.len().min(SPANS_OF_A_LINE));
            line(&of.process.resource, scope.clone(), &mut lines);
            scope.spans = rest;
        }
    }
    lines
}

fn line(resource: &Resource, scope: ScopeSpans, lines: &mut Vec<u8>) {
    let (resource, scope_spans) = (Some(resource.clone()), vec![scope]);
    let spans = ResourceSpans { resource, scope_spans, schema_url: String::new() };
    // Writing to a list does not fail.
    let _ = write_json(&TracesData { resource_spans: vec![spans] }, lines);
}
