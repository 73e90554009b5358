//! Encodes values of fields as JSON.

use std::ffi::CString;

use crate::fields::{FieldsView, Value};
use crate::json::{Object, array, number_text, scalar, string};

/// Writes every field with its JSON type, except those named in `except`.
pub(crate) fn fields_into(object: &mut Object<'_>, fields: FieldsView<'_>, except: &[&str]) {
    for field in fields.entries().filter(|field| !except.contains(&field.name)) {
        value(object.any_key(field.name), field.value);
    }
}

/// Writes the value with its JSON type. Numbers that JSON can't hold become strings: NaN and the infinities,
/// with their names in OTLP/JSON, and integers beyond 64 bits, which most readers would round.
pub(crate) fn value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::I64(n) => scalar!(out, &n),
        Value::U64(n) => scalar!(out, &n),
        Value::I128(n) => match i64::try_from(n) {
            Ok(n) => scalar!(out, &n),
            Err(_) => string(out, &n.to_string()),
        },
        Value::U128(n) => match u64::try_from(n) {
            Ok(n) => scalar!(out, &n),
            Err(_) => string(out, &n.to_string()),
        },
        Value::F64(n) if n.is_nan() => string(out, "NaN"),
        Value::F64(n) if n.is_infinite() => string(out, if n > 0.0 { "Infinity" } else { "-Infinity" }),
        Value::F64(n) => scalar!(out, &n),
        Value::Bool(b) => scalar!(out, &b),
        Value::Text(text) => string(out, text),
        Value::List(items) => array(out, items, string),
    }
}

/// Writes the value as a JSON string, for Zipkin's tags.
pub(crate) fn value_as_string(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Text(text) => string(out, text),
        Value::U64(n) => number_text(out, n),
        _ => string(out, &value_text(value)),
    }
}

/// The value as text: like [`value`], but a string has no quotes.
pub(crate) fn value_text(value: Value<'_>) -> std::borrow::Cow<'_, str> {
    if let Value::Text(text) = value {
        return text.into();
    }
    let mut out = Vec::new();
    self::value(&mut out, value);
    let text = String::from_utf8(out).unwrap_or_default();
    match value {
        Value::List(_) => text.into(),
        // Only numbers that became strings have quotes, and nothing in them is escaped.
        _ => text.trim_matches('"').to_owned().into(),
    }
}

/// `fields` as a JSON object with JSON types, for the probes, without those named in `except`.
pub(crate) fn fields_object(fields: FieldsView<'_>, except: &[&str]) -> CString {
    let mut out = Vec::new();
    let mut object = Object::open(&mut out);
    fields_into(&mut object, fields, except);
    object.close();
    // JSON has no NUL: inside strings it is escaped.
    CString::new(out).unwrap_or_default()
}
