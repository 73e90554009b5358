//! A line about a span that is open for long.

use opentelemetry_proto::tonic::trace::v1::Span;

use super::fields;
use super::line::Line;
use super::look::Look;
use super::service;
use crate::process::Process;
use crate::text::{cut, readable, safe};

/// The most columns of a span's name.
const MAX_NAME: usize = 60;

/// The most columns of the span's fields.
const MAX_FIELDS: usize = 120;

/// `3.20 s: shop[4242] GET /orders {order=7} (trace 4bf92f3577b34da6a3ce929d0e0e4736)`. All text is safe for a terminal.
pub fn open_span(process: &Process, span: &Span, age_ns: u64) -> String {
    let look = Look::new(MAX_FIELDS, false);
    let mut line = Line::new(&look);
    fields::put_span(&mut line, span, &process.resource, false);
    let fields = line.end();
    let fields = match fields.trim() {
        "" => String::new(),
        fields => format!(" {{{fields}}}"),
    };
    let trace: String = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let (label, name) = (safe(&service::label(process)), cut(&span.name, MAX_NAME));
    format!("{}: {label} {name}{fields} (trace {trace})", readable(age_ns))
}
