//! The few JSON shapes the encoders write. Numbers, and strings with anything in them to escape, are
//! serde_json's; the structure is written straight into the buffer, without a tree or a derive in
//! between.

use crate::fields::{FieldsView, Value};

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

    /// Writes a key of ours, in which there is nothing to escape; the value is the caller's to append.
    #[inline(always)] // where its length is known, it is copied in a few steps
    pub(crate) fn key(&mut self, key: &'static str) -> &mut Vec<u8> {
        self.out.reserve(key.len() + 4);
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Writes any key.
    pub(crate) fn any_key(&mut self, key: &str) -> &mut Vec<u8> {
        self.comma();
        string(self.out, key);
        self.out.push(b':');
        self.out
    }

    /// Writes a key that is a JSON string already.
    pub(crate) fn json_key(&mut self, key: &str) -> &mut Vec<u8> {
        self.comma();
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b':');
        self.out
    }

    /// Writes members that were written before, with commas between them.
    pub(crate) fn members(&mut self, members: &str) {
        if !members.is_empty() {
            self.comma();
            self.out.extend_from_slice(members.as_bytes());
        }
    }

    #[inline(always)]
    pub(crate) fn string(&mut self, key: &'static str, text: &str) {
        string(self.key(key), text);
    }

    #[inline(always)]
    pub(crate) fn number(&mut self, key: &'static str, number: u64) {
        self::number(self.key(key), number);
    }

    /// A number as a string.
    #[inline(always)]
    pub(crate) fn number_text(&mut self, key: &'static str, number: u64) {
        self::number_text(self.key(key), number);
    }

    /// An id of 16 digits, or with `high` one of 32.
    #[inline(always)]
    pub(crate) fn id(&mut self, key: &'static str, high: Option<u64>, low: u64) {
        let out = self.key(key);
        out.reserve(34);
        out.push(b'"');
        if let Some(high) = high {
            out.extend_from_slice(&hex(high));
        }
        out.extend_from_slice(&hex(low));
        out.push(b'"');
    }

    pub(crate) fn close(self) {
        self.out.push(b'}');
    }

    #[inline(always)]
    fn comma(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
    }
}

/// The digits of `number`, all at once: half of them in each of two words, a digit a byte.
pub(crate) fn hex(number: u64) -> [u8; 16] {
    let digits = |half: u32| {
        // Eight digits of four bits, moved apart to eight bytes.
        let apart = u64::from(half);
        let apart = (apart | apart << 16) & 0x0000_ffff_0000_ffff;
        let apart = (apart | apart << 8) & 0x00ff_00ff_00ff_00ff;
        let apart = (apart | apart << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        // Those above 9 carry into their byte's upper half.
        let letters = (apart + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        (apart + 0x3030_3030_3030_3030 + letters * 0x27).to_be_bytes()
    };
    let mut hex = [0; 16];
    hex[..8].copy_from_slice(&digits((number >> 32) as u32));
    hex[8..].copy_from_slice(&digits(number as u32));
    hex
}

/// Every field with its type, but for those named in `except`.
pub(crate) fn fields_into(object: &mut Object<'_>, fields: FieldsView<'_>, except: &[&str]) {
    for field in fields.entries().filter(|field| !except.contains(&field.name)) {
        value(object.any_key(field.name), field.value);
    }
}

pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    // All bytes are looked at, without a way out of the loop, so that it runs on many at a time.
    let plain = text.bytes().fold(true, |plain, b| plain & (b >= 0x20) & (b != b'"') & (b != b'\\'));
    if plain {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        scalar!(out, text);
    }
}

/// The text's JSON string.
pub(crate) fn json_string(text: &str) -> Box<str> {
    let mut out = Vec::new();
    string(&mut out, text);
    String::from_utf8(out).unwrap_or_default().into()
}

pub(crate) fn number(out: &mut Vec<u8>, number: u64) {
    scalar!(out, &number);
}

pub(crate) fn number_text(out: &mut Vec<u8>, number: u64) {
    out.push(b'"');
    self::number(out, number);
    out.push(b'"');
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

/// The value as a JSON string, for formats whose attributes are strings.
pub(crate) fn value_as_string(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Text(text) => string(out, text),
        Value::U64(n) => number_text(out, n),
        _ => string(out, &value_text(value)),
    }
}

/// The value as text: what [`value`] writes, a string without its quotes.
pub(crate) fn value_text(value: Value<'_>) -> std::borrow::Cow<'_, str> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_what_fmt_writes() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX, 0x9a9a_a9a9_0f0f_f0f0] {
            assert_eq!(std::str::from_utf8(&hex(number)), Ok(&*format!("{number:016x}")));
        }
    }
}
