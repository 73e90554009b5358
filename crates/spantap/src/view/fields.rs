//! Chooses the attributes to show, and formats them.

use std::collections::HashSet;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::bar::Shares;
use super::line::{DIM, Line, PLAIN};
use crate::span::account;
use crate::span::attributes::{WAKER_SPAN, count, find};
use crate::text::{on_one_line, readable, safe, width};

/// Attributes that are not shown: the tree shows them in another way, or they describe the source code, not the run.
/// A key with a dot at its end stands for all keys that begin with it.
const HIDDEN: [&str; 17] = [
    "busy_ns",
    "code.",
    "exception.",
    "idle_ns",
    "kernel.partial",
    "kernel.waker.pid",
    WAKER_SPAN,
    "level",
    "network.local.",
    "network.transport",
    "network.type",
    "otel.",
    "spantap.",
    "target",
    "thread.",
    "tracing_usdt.",
    "zipkin.",
];

/// The prefix of attributes for kernel activity. It is not shown, and neither is the suffix of times.
const KERNEL: &str = "kernel.";
const NANOSECONDS: &str = "_ns";

/// The most informative attributes, by OpenTelemetry's current and former names. They come before the user's own fields.
const FIRST: [&str; 6] =
    ["http.response.status_code", "http.status_code", "db.query.text", "db.statement", "http.", "db."];

/// OpenTelemetry's attributes whose values are often part of the span's name. They are not shown if they are.
const NAMING: [&str; 6] = ["http.", "url.", "db.", "rpc.", "messaging.", "graphql."];

/// Columns between a name and its fields.
pub(super) const GAP: usize = 2;

/// How long the text of a value may get, roughly, in characters or bytes: more than any line shows.
const MAX_LENGTH: usize = 2_000;
const MAX_NESTING: usize = 4;
/// In fewer columns, a field is not legible.
const MIN_COLUMNS: usize = 8;

fn is_one_of(key: &str, known: &[&str]) -> bool {
    known.iter().any(|known| key == *known || (known.ends_with('.') && key.starts_with(known)))
}

fn number(field: &KeyValue) -> Option<u64> {
    count(field.value.as_ref()?.value.as_ref()?)
}

/// Reads `busy_ns` and `idle_ns`.
pub(super) fn shares(span: &Span) -> Option<Shares> {
    let number = |key| count(find(&span.attributes, key)?);
    Some(Shares { busy: number("busy_ns")?, idle: number("idle_ns")? })
        .filter(|shares| shares.busy > 0 || shares.idle > 0)
}

/// Adds the span's fields, until the line is full.
pub(super) fn put_span(line: &mut Line<'_>, span: &Span, resource: &Resource, is_error: bool) {
    let resource: HashSet<&str> = resource.attributes.iter().map(|attribute| &*attribute.key).collect();
    let is_hidden = |field: &&KeyValue| {
        let key = &*field.key;
        is_one_of(key, &HIDDEN)
            || account::KEYS.contains(&key)
            || resource.contains(key)
            || (key == "error" && is_error)
            || (key == "follows_from" && !span.links.is_empty())
            || (is_one_of(key, &NAMING) && is_in_name(field, &span.name))
    };
    put(line, span.attributes.iter().filter(|field| !is_hidden(field)), GAP);
}

/// Adds an event's fields after `gap` blanks, until the line is full.
pub(super) fn put_event(line: &mut Line<'_>, attributes: &[KeyValue], gap: usize) {
    put(line, of_event(attributes), gap);
}

/// The fields of an event, without its exception, which is the event's text.
pub(super) fn of_event(attributes: &[KeyValue]) -> impl Iterator<Item = &KeyValue> {
    attributes.iter().filter(|field| !is_one_of(&field.key, &HIDDEN))
}

fn is_in_name(field: &KeyValue, name: &str) -> bool {
    let value = value_text(field.value.as_ref());
    name.split(' ').any(|word| word == value)
}

fn put<'a>(line: &mut Line<'_>, fields: impl Iterator<Item = &'a KeyValue>, gap: usize) {
    let rank = |key: &str| FIRST.iter().position(|first| is_one_of(key, &[first])).unwrap_or(FIRST.len());
    let mut fields: Vec<&KeyValue> = fields.collect();
    fields.sort_by_key(|field| rank(&field.key));
    let short = !fit(&fields, line.room());
    for (index, field) in fields.into_iter().enumerate() {
        line.gap(if index == 0 { gap } else { 1 });
        if line.room() < MIN_COLUMNS {
            line.put(DIM, "…");
            return;
        }
        line.put(DIM, &key(field, short));
        line.put(PLAIN, &value(field));
    }
}

/// Whether all fields fit with their full keys.
fn fit(fields: &[&KeyValue], columns: usize) -> bool {
    let mut used = 1;
    // Stops at the first field that does not fit: a span may have very many.
    fields.iter().all(|field| {
        used += 1 + width(&key(field, false)) + width(&value(field));
        used <= columns
    })
}

/// The key with its sign: `http.response.status_code=`, or short: `…status_code=`.
fn key(field: &KeyValue, short: bool) -> String {
    let key = clipped(&field.key);
    if let Some(key) = key.strip_prefix(KERNEL) {
        return safe(&format!("{}=", key.strip_suffix(NANOSECONDS).unwrap_or(key)));
    }
    match key.rsplit_once('.') {
        Some((_, end)) if short => safe(&format!("…{end}=")),
        _ => safe(&format!("{key}=")),
    }
}

/// The value, in quotes if its end would not be visible without them.
fn value(field: &KeyValue) -> String {
    if let (true, Some(ns)) =
        (field.key.starts_with(KERNEL) && field.key.ends_with(NANOSECONDS), self::number(field))
    {
        return readable(ns);
    }
    // A query of several lines reads as well on one line.
    let value = safe(&on_one_line(&value_text(field.value.as_ref())));
    if value.is_empty() || value.contains([' ', '"', '=']) { format!("\"{value}\"") } else { value }
}

/// The value as it is, on one line, without escapes. Times of the kernel have a unit.
pub(super) fn whole(field: &KeyValue) -> String {
    match number(field).filter(|_| field.key.ends_with(NANOSECONDS)) {
        Some(ns) => readable(ns),
        None => on_one_line(&value_text(field.value.as_ref())),
    }
}

/// The key, as far as it is shown.
pub(super) fn label(field: &KeyValue) -> &str {
    clipped(&field.key)
}

/// The first [`MAX_LENGTH`] characters.
fn clipped(text: &str) -> &str {
    match text.char_indices().nth(MAX_LENGTH) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

fn value_text(value: Option<&AnyValue>) -> String {
    let mut out = String::new();
    write_value(&mut out, value.and_then(|value| value.value.as_ref()), MAX_NESTING);
    out
}

/// Limits both depth and length, because nested lists are untrusted.
fn write_value(out: &mut String, value: Option<&Value>, depth: usize) {
    match value {
        None => {}
        Some(Value::StringValue(text)) => out.push_str(clipped(text)),
        Some(Value::BoolValue(value)) => out.push_str(&value.to_string()),
        Some(Value::IntValue(value)) => out.push_str(&value.to_string()),
        Some(Value::DoubleValue(value)) => out.push_str(&value.to_string()),
        Some(Value::BytesValue(bytes)) => out.push_str(&format!("{} bytes", bytes.len())),
        Some(Value::StringValueStrindex(index)) => out.push_str(&format!("#{index}")),
        Some(Value::ArrayValue(_) | Value::KvlistValue(_)) if depth == 0 => out.push('…'),
        Some(Value::ArrayValue(array)) => {
            let items = array.values.iter().map(|item| ("", Some(item)));
            write_list(out, ['[', ']'], items, depth);
        }
        Some(Value::KvlistValue(list)) => {
            let items = list.values.iter().map(|item| (&*item.key, item.value.as_ref()));
            write_list(out, ['{', '}'], items, depth);
        }
    }
}

fn write_list<'a>(
    out: &mut String,
    [open, close]: [char; 2],
    items: impl Iterator<Item = (&'a str, Option<&'a AnyValue>)>,
    depth: usize,
) {
    out.push(open);
    for (index, (key, item)) in items.enumerate() {
        if out.len() > MAX_LENGTH {
            break;
        }
        out.push_str(if index > 0 { ", " } else { "" });
        if !key.is_empty() {
            out.push_str(&format!("{}: ", clipped(key)));
        }
        write_value(out, item.and_then(|item| item.value.as_ref()), depth - 1);
    }
    out.push(close);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::ArrayValue;

    use super::*;
    use crate::span::attributes::attribute;
    use crate::view::Look;

    fn attributes(texts: &[(&str, &str)]) -> Vec<KeyValue> {
        texts.iter().map(|&(key, text)| attribute(key, Value::StringValue(text.into()))).collect()
    }

    fn drawn(span: &Span, resource: &[(&str, &str)], columns: usize) -> String {
        let resource = Resource { attributes: attributes(resource), ..Resource::default() };
        let look = Look::new(columns, false);
        let mut line = Line::new(&look);
        put_span(&mut line, span, &resource, false);
        line.end().trim().to_owned()
    }

    fn span(name: &str, fields: &[(&str, &str)]) -> Span {
        Span { name: name.into(), attributes: attributes(fields), ..Span::default() }
    }

    #[test]
    fn fields_that_the_tree_shows_in_another_way_are_hidden() {
        let fields = [
            ("level", "INFO"),
            ("target", "shop"),
            ("code.line.number", "7"),
            ("busy_ns", "1"),
            ("http.request.method", "POST"),
            ("http.route", "/orders"),
            ("deployment.environment.name", "prod"),
            ("levels", "3"),
            ("error", "none yet"),
            ("user", "POST"),
        ];
        let drawn = drawn(&span("POST /orders", &fields), &[("deployment.environment.name", "prod")], 80);
        assert_eq!(drawn, "levels=3 error=\"none yet\" user=POST");
    }

    #[test]
    fn informative_fields_come_first_and_keys_are_cut_before_values() {
        let fields = [("user", "ada"), ("url.path", "/7"), ("http.response.status_code", "409")];
        let span = span("request", &fields);
        assert_eq!(drawn(&span, &[], 80), "http.response.status_code=409 user=ada url.path=/7");
        assert_eq!(drawn(&span, &[], 47), "…status_code=409 user=ada …path=/7");
        assert_eq!(drawn(&span, &[], 40), "…status_code=409 user=ada …path=/7");
    }

    #[test]
    fn values_stay_on_one_line_with_a_visible_end() {
        let all =
            [("a b", "\"a b\""), ("", "\"\""), ("x admin=yes", "\"x admin=yes\""), ("a\n  b", "\"a b\"")];
        for (text, expected) in all {
            assert_eq!(value(&attributes(&[("key", text)])[0]), expected);
        }
        assert_eq!(value(&attributes(&[("key", "\x1b[2J")])[0]), r"\x1b[2J");
    }

    #[test]
    fn nested_and_long_lists_are_cut() {
        let list = |values| Value::ArrayValue(ArrayValue { values });
        let any = |value| AnyValue { value: Some(value) };
        let ints = list([1, 2].map(|int| any(Value::IntValue(int))).to_vec());
        assert_eq!(value(&attribute("key", ints.clone())), "\"[1, 2]\"");
        let deep = (0..90).fold(ints.clone(), |inner, _| list(vec![any(inner)]));
        assert_eq!(value(&attribute("key", deep)), "[[[[…]]]]");
        let long = list(vec![any(ints); 100_000]);
        assert!(value(&attribute("key", long)).len() < 2 * MAX_LENGTH);
    }
}
