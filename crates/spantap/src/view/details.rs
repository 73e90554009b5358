//! All that is known of one span, for a screen that shows it by itself.

use opentelemetry_proto::tonic::trace::v1::Span;

use super::event::event_text;
use super::notes::notes;
use super::{fields, service};
use crate::span::is_error;
use crate::text::{local_time, readable};
use crate::trace::tree::{Place, Row};

/// What a [`Detail`] is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum About {
    /// Why the span failed.
    Error,
    /// What is odd.
    Note,
    /// The span, its attributes and its links.
    Span,
    /// An event, or a field of it.
    Event,
}

/// Something that is known of a span. The texts are from the sender and not escaped.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Detail {
    pub(crate) about: About,
    pub(crate) label: String,
    pub(crate) text: String,
}

/// All that is known of the span of a row.
pub(crate) fn details(rows: &[Row<'_>], index: usize) -> Vec<Detail> {
    let Some(row) = rows.get(index) else { return Vec::new() };
    let (process, span) = (&row.span.process, &row.span.span);
    let parent = match row.place {
        Place::Child(parent) => rows.get(parent).map(|row| row.span),
        _ => None,
    };
    let detail = |about, label: &str, text: String| Detail { about, label: label.to_owned(), text };
    let mut details = Vec::new();
    if let Some(status) = span.status.as_ref().filter(|_| is_error(span)) {
        let message = status.message.trim();
        details.push(detail(
            About::Error,
            "error",
            if message.is_empty() { "failed" } else { message }.into(),
        ));
    }
    details.extend(notes(row, parent).into_iter().map(|note| detail(About::Note, "note", note)));
    details.push(detail(About::Span, "name", span.name.clone()));
    details.push(detail(About::Span, "process", service::label(process)));
    details.push(detail(About::Span, "began", local_time(span.start_time_unix_nano)));
    details.push(detail(About::Span, "span id", const_hex::encode(&span.span_id)));
    details.extend(span.links.iter().map(|link| {
        let id =
            format!("{} of trace {}", const_hex::encode(&link.span_id), const_hex::encode(&link.trace_id));
        detail(About::Span, "link", id)
    }));
    details.extend(span.attributes.iter().map(|field| detail(About::Span, &field.key, fields::whole(field))));
    let of_event = |event| of_event(span, event);
    details.extend(span.events.iter().flat_map(of_event));
    details
}

fn of_event(span: &Span, event: &opentelemetry_proto::tonic::trace::v1::span::Event) -> Vec<Detail> {
    let (at_ns, start_ns) = (event.time_unix_nano, span.start_time_unix_nano);
    let sign = if at_ns < start_ns { '-' } else { '+' };
    let label = format!("{sign}{}", readable(at_ns.abs_diff(start_ns)));
    let head = Detail { about: About::Event, label, text: event_text(event) };
    let field = |field| {
        let text = format!("{}={}", fields::label(field), fields::whole(field));
        Detail { about: About::Event, label: String::new(), text }
    };
    std::iter::once(head).chain(fields::of_event(&event.attributes).map(field)).collect()
}
