//! The few JSON shapes the encoders write. Strings and numbers are serde_json's; the structure is
//! written straight into the buffer, without a tree or a derive in between.

use crate::fields::{Fields, Value};

/// Writing a scalar to memory has no way to fail; where it did, `null` keeps the text valid.
macro_rules! scalar {
    ($out:expr, $value:expr) => {
        if serde_json::to_writer(&mut *$out, $value).is_err() {
            $out.extend_from_slice(b"null");
        }
    };
}

/// An object being written. `close` ends it.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Writes the key; the value is the caller's to append.
    pub(crate) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        string(self.out, key);
        self.out.push(b':');
        self.out
    }

    pub(crate) fn string(&mut self, key: &str, text: &str) {
        string(self.key(key), text);
    }

    pub(crate) fn number(&mut self, key: &str, number: u64) {
        scalar!(self.key(key), &number);
    }

    pub(crate) fn close(self) {
        self.out.push(b'}');
    }
}

/// Every field with its type.
pub(crate) fn fields_into(object: &mut Object<'_>, fields: &Fields) {
    for (key, field) in fields.iter() {
        value(object.key(key), field);
    }
}

pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    scalar!(out, text);
}

pub(crate) fn array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// The value with its type. What JSON numbers can't hold becomes a string: NaN and the infinities
/// (named as in OTLP/JSON), and integers beyond 64 bits, which most readers would round.
pub(crate) fn value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::I64(n) => scalar!(out, n),
        Value::U64(n) => scalar!(out, n),
        Value::I128(n) => match i64::try_from(*n) {
            Ok(n) => scalar!(out, &n),
            Err(_) => string(out, &n.to_string()),
        },
        Value::U128(n) => match u64::try_from(*n) {
            Ok(n) => scalar!(out, &n),
            Err(_) => string(out, &n.to_string()),
        },
        Value::F64(n) if n.is_nan() => string(out, "NaN"),
        Value::F64(n) if n.is_infinite() => string(out, if *n > 0.0 { "Infinity" } else { "-Infinity" }),
        Value::F64(n) => scalar!(out, n),
        Value::Bool(b) => scalar!(out, b),
        Value::Text(text) => string(out, text),
        Value::List(items) => array(out, items, |out, item| string(out, item)),
    }
}

/// The value as text, for formats whose attributes are strings: what [`value`] writes, a string
/// without its quotes.
pub(crate) fn value_text(value: &Value) -> std::borrow::Cow<'_, str> {
    if let Value::Text(text) = value {
        return text.into();
    }
    let mut out = Vec::new();
    self::value(&mut out, value);
    let text = String::from_utf8(out).unwrap_or_default();
    match value {
        Value::List(_) => text.into(),
        // Only the special numbers are quoted, and nothing in them is escaped.
        _ => text.trim_matches('"').to_owned().into(),
    }
}
