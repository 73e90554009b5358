//! Field values out of `tracing`'s visitor, with their types kept and their size bounded.
//!
//! The visitor runs the user's own `Debug` and `Display` code. It therefore runs before any lock
//! is taken, writes only to memory of its own, and may panic without leaving anything half done.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Write};

use tracing_core::Field;
use tracing_core::field::Visit;

/// The longest text value kept, in bytes. A longer one is cut at a character boundary and counted.
pub(crate) const MAX_VALUE_BYTES: usize = 10 * 1024;

/// The same for what names a thing, and for each error of a chain.
pub(crate) const MAX_NAME_BYTES: usize = 512;

/// How many sources of an error are kept.
const MAX_CHAIN: usize = 16;

/// A field's value.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    I64(i64),
    U64(u64),
    I128(i128),
    U128(u128),
    F64(f64),
    Bool(bool),
    Text(String),
    List(Vec<String>),
}

/// Fields in the order of their first recording; recorded again, the last value stands.
#[derive(Clone, Default, Debug)]
pub(crate) struct Fields {
    entries: Vec<Entry>,
    /// The text just taken was cut.
    cut: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Cow<'static, str>,
    pub(crate) value: Value,
    /// It was longer.
    pub(crate) cut: bool,
}

impl Fields {
    /// Runs `record`, which is `Attributes::record` and its like, into a new set of fields.
    pub(crate) fn visit(record: impl FnOnce(&mut dyn Visit)) -> Self {
        let mut fields = Self::default();
        record(&mut fields);
        fields
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|entry| (&*entry.key, &entry.value))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.iter().find_map(|(k, value)| (k == key).then_some(value))
    }

    pub(crate) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }

    /// Takes `key` out.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at))
    }

    pub(crate) fn set(&mut self, key: Cow<'static, str>, value: Value) {
        let entry = Entry { key, value, cut: std::mem::take(&mut self.cut) };
        match self.entries.iter_mut().find(|old| old.key == entry.key) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    pub(crate) fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.entries.into_iter()
    }

    /// What is written to `write` as a text value of at most `max` bytes.
    fn text(&mut self, max: usize, write: impl FnOnce(&mut Bounded) -> fmt::Result) -> String {
        let mut bounded = Bounded { text: String::new(), max, cut: false };
        // A `Debug` that reports an error has said what it could; that is kept.
        let _ = write(&mut bounded);
        self.cut |= bounded.cut;
        bounded.text
    }

    fn set_text(&mut self, field: &Field, write: impl FnOnce(&mut Bounded) -> fmt::Result) {
        let text = self.text(MAX_VALUE_BYTES, write);
        self.set(field.name().into(), Value::Text(text));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name().into(), Value::F64(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name().into(), Value::I64(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name().into(), Value::U64(value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.set(field.name().into(), Value::I128(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.set(field.name().into(), Value::U128(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name().into(), Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set_text(field, |out| out.write_str(value));
    }

    /// Lower-case hex digits without separators, as tools that take bytes as text expect them.
    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        self.set_text(field, |out| value.iter().try_for_each(|byte| write!(out, "{byte:02x}")));
    }

    /// The message, its chain of sources, and both again under the names that OpenTelemetry has
    /// for them; the same four attributes that tracing-opentelemetry makes of an error.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let message = self.text(MAX_VALUE_BYTES, |out| write!(out, "{value}"));
        let sources = std::iter::successors(value.source(), |&error| error.source());
        let chain: Vec<String> = sources
            .take(MAX_CHAIN)
            .map(|source| self.text(MAX_NAME_BYTES, |out| write!(out, "{source}")))
            .collect();
        let chain_key = format!("{}.chain", field.name());
        let cut = self.cut;
        for (key, value) in [
            ("exception.message".into(), Value::Text(message.clone())),
            ("exception.stacktrace".into(), Value::List(chain.clone())),
            (field.name().into(), Value::Text(message)),
            (chain_key.into(), Value::List(chain)),
        ] {
            self.cut = cut;
            self.set(key, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set_text(field, |out| write!(out, "{value:?}"));
    }
}

/// Text of at most `max` bytes. What comes after is let go, not refused: a refusal would reach user
/// code as an error, and some of it unwraps.
struct Bounded {
    text: String,
    max: usize,
    cut: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.cut {
            return Ok(());
        }
        let fits = floor_char_boundary(part, self.max - self.text.len());
        self.cut = fits < part.len();
        self.text.push_str(&part[..fits]);
        Ok(())
    }
}

/// The greatest char boundary of `text` not after `max`.
pub(crate) fn floor_char_boundary(text: &str, max: usize) -> usize {
    if max >= text.len() {
        return text.len();
    }
    (0..=max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// At least the bytes that a text takes in a datagram, quotes and separators included. Event fields
/// are JSON inside of a JSON string, where a control character grows to seven bytes.
pub(crate) fn text_cost(text: &str) -> usize {
    20 + text.bytes().map(|byte| if grows(byte) { 7 } else { 1 }).sum::<usize>()
}

fn grows(byte: u8) -> bool {
    matches!(byte, 0..0x20 | b'"' | b'\\' | 0x7f)
}

/// Cuts `text` so that it costs at most `cost`; whether anything had to go.
pub(crate) fn cut_to_cost(text: &mut String, cost: usize) -> bool {
    let mut left = cost.saturating_sub(20);
    let fits = text.bytes().position(|byte| {
        let bytes = if grows(byte) { 7 } else { 1 };
        let over = bytes > left;
        left = left.saturating_sub(bytes);
        over
    });
    let Some(fits) = fits else { return false };
    text.truncate(floor_char_boundary(text, fits));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_character_boundary_and_counted() {
        let mut fields = Fields::default();
        let long = format!("a{}", "é".repeat(MAX_VALUE_BYTES));
        let text = fields.text(MAX_VALUE_BYTES, |out| out.write_str(&long));
        assert_eq!(text.len(), MAX_VALUE_BYTES - 1, "an é takes two bytes and must not be halved");
        assert!(long.starts_with(&text));
        assert!(std::mem::take(&mut fields.cut));

        let exact = "x".repeat(MAX_VALUE_BYTES);
        assert_eq!(fields.text(MAX_VALUE_BYTES, |out| out.write_str(&exact)), exact);
        assert!(!fields.cut);
    }

    #[test]
    fn a_failing_debug_keeps_what_it_wrote() {
        struct Fails;
        impl fmt::Debug for Fails {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half")?;
                Err(fmt::Error)
            }
        }
        assert_eq!(Fields::default().text(MAX_VALUE_BYTES, |out| write!(out, "{:?}", Fails)), "half");
    }
}
