//! The text of an event's line.

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Event;

use super::{fields, location};
use crate::span::attributes::{find, find_text};
use crate::text::on_one_line;

pub(super) fn is_exception(event: &Event) -> bool {
    event.name == "exception"
        || find(&event.attributes, "exception.message").is_some()
        || find_text(&event.attributes, "level") == Some("ERROR")
}

/// Whether the event only repeats the span's error, which has a line of its own.
pub(super) fn repeats_error(event: &Event, error: Option<&str>) -> bool {
    let message = find_text(&event.attributes, "exception.message").unwrap_or(&event.name);
    let has_no_fields = fields::of_event(&event.attributes).next().is_none();
    is_exception(event) && has_no_fields && error == Some(message.trim())
}

/// The event's exception or name. Empty if the name is only a location and the fields say more.
pub(super) fn event_text(event: &Event) -> String {
    let part = |key: &str| find_text(&event.attributes, key).filter(|text| !text.is_empty());
    let location = location::of_event(&event.name);
    let has_fields = fields::of_event(&event.attributes).next().is_some();
    let name = match location {
        Some(_) if has_fields => String::new(),
        Some(location) => location::short(location),
        None if event.name.is_empty() => "(no name)".to_owned(),
        None => event.name.clone(),
    };
    let text = match (part("exception.type"), part("exception.message")) {
        (Some(kind), Some(message)) => format!("✗ {kind}: {message}"),
        (Some(text), None) | (None, Some(text)) => format!("✗ {text}"),
        (None, None) => name,
    };
    on_one_line(&text)
}

/// The target of an event from another crate than its span's, such as a library's log line.
pub(super) fn target_elsewhere<'a>(event: &'a Event, span: &Span) -> Option<&'a str> {
    let target = find_text(&event.attributes, "target")?;
    let own = find_text(&span.attributes, "target")?;
    let of_crate = |target: &str| target.split("::").next().unwrap_or_default().to_owned();
    (of_crate(target) != of_crate(own)).then_some(target)
}
