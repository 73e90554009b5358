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

/// The fields of a span, in at most so many columns.
pub(crate) fn fields_of(process: &Process, span: &Span, columns: usize) -> String {
    let look = Look::new(columns, false);
    let mut line = Line::new(&look);
    fields::put_span(&mut line, span, &process.resource, false);
    line.end().trim().to_owned()
}

/// `3.20 s: shop[4242] GET /orders {order=7} (trace 4bf92f3577b34da6a3ce929d0e0e4736)`. All text is safe for a terminal.
pub fn open_span(process: &Process, span: &Span, age_ns: u64) -> String {
    let fields = match &*fields_of(process, span, MAX_FIELDS) {
        "" => String::new(),
        fields => format!(" {{{fields}}}"),
    };
    let trace: String = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let (label, name) = (safe(&service::label(process)), cut(&span.name, MAX_NAME));
    format!("{}: {label} {name}{fields} (trace {trace})", readable(age_ns))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    use super::*;
    use crate::process::Sender;
    use crate::span::attributes::attribute;

    fn line(service: &str, name: &str, fields: &[(&str, &str)]) -> String {
        let sender = Sender { pid: 4242, uid: 0, gid: 0 };
        let process = Process { sender, service: service.into(), resource: Default::default() };
        let attributes = fields.iter().map(|(key, text)| attribute(*key, Value::StringValue((*text).into())));
        let trace_id = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes().into();
        let span = Span { trace_id, name: name.into(), attributes: attributes.collect(), ..Span::default() };
        open_span(&process, &span, 3_200_000_000)
    }

    #[test]
    fn a_line_has_the_process_the_name_the_fields_and_the_trace() {
        let trace = "(trace 4bf92f3577b34da6a3ce929d0e0e4736)";
        let fields = [("order", "7"), ("level", "INFO"), ("thread.id", "5")];
        assert_eq!(
            line("shop", "GET /orders", &fields),
            format!("3.20 s: shop[4242] GET /orders {{order=7}} {trace}")
        );
        assert_eq!(line("shop", "idle", &[]), format!("3.20 s: shop[4242] idle {trace}"));
    }

    #[test]
    fn a_line_is_safe_and_not_too_long() {
        let line = line("a\x1b[2J\nb", &"x\n".repeat(500), &[("k\x07", &"\u{202e}v ".repeat(500))]);
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert!(line.len() < 400, "{line:?}");
    }
}
