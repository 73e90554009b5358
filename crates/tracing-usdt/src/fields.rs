//! Field values out of `tracing`'s visitor, with their types kept and their size bounded, in the
//! binary form in which they wait for the encoder.
//!
//! The visitor runs the user's own `Debug` and `Display` code. It therefore runs before any lock
//! is taken, writes only to memory of its own, and may panic without leaving anything half done.
//!
//! One buffer holds all fields of a span, so that recording them allocates nothing once the buffer
//! has grown, and handing them over is one copy. An entry is a key (the field's index in its
//! callsite, or a name), a type and the value's bytes.

use std::error::Error;
use std::fmt::{self, Write};

use tracing_core::Field;
use tracing_core::field::Visit;

use crate::callsite::Callsite;
use crate::limits::Limits;
use crate::span_ext::AttributeValue;

/// The longest text value kept, in bytes. A longer one is cut at a character boundary and counted.
pub(crate) const MAX_VALUE_BYTES: usize = 10 * 1024;

/// The same for what names a thing, and for each error of a chain.
pub(crate) const MAX_NAME_BYTES: usize = 512;

/// How many sources of an error are kept.
const MAX_CHAIN: usize = 16;

/// What the fields of a span may take in its text. See `span` for the sum.
const SPAN_COST: usize = 24 * 1024;
/// Of which a text that costs more than `SHORT_COST` leaves so much to shorter ones.
const RESERVED_COST: usize = 4 * 1024;
const SHORT_COST: usize = 256;

/// A text in an event is cut to this; so is the event's name.
const EVENT_TEXT_COST: usize = 4 * 1024;

/// What anything but a text costs, without its key.
const NUMBER_COST: usize = 40;

/// A field's value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Value<'a> {
    I64(i64),
    U64(u64),
    I128(i128),
    U128(u128),
    F64(f64),
    Bool(bool),
    Text(&'a str),
    List(List<'a>),
}

impl Value<'_> {
    /// Whether a field `error` of this value says that there was no error, in whatever type: `false`, `0`, and the
    /// `None` of an `Option` that was recorded by its `Debug`.
    pub(crate) fn denies_error(self) -> bool {
        match self {
            Self::Bool(is_error) => !is_error,
            Self::I64(0) | Self::U64(0) | Self::I128(0) | Self::U128(0) => true,
            Self::Text(text) => {
                let text = text.trim();
                text.eq_ignore_ascii_case("false") || text == "0" || text == "None"
            }
            _ => false,
        }
    }
}

/// Several texts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct List<'a>(&'a [u8]);

impl<'a> Iterator for List<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        (!self.0.is_empty()).then(|| take_text(&mut self.0))
    }
}

/// By what a field is known.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key<'a> {
    /// Its index in the callsite.
    Index(u16),
    Name(&'a str),
}

/// Fields in the order of their first recording; recorded again, the last value stands.
#[derive(Default)]
pub(crate) struct Fields {
    bytes: Vec<u8>,
    count: u32,
    /// At least what they cost, see [`text_cost`].
    cost: usize,
    /// A key may be here already unless it is an index from this on.
    fresh_from: usize,
    pub(crate) left_out: FieldsLeftOut,
}

/// What the limits kept out.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct FieldsLeftOut {
    pub(crate) attributes: u32,
    pub(crate) shortened: u32,
}

/// Whose fields they are, which decides how much room there is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Owner {
    Span,
    Event,
}

// The bytes of an entry: u16 key (NAMED: u16 length and the name), u8 type, the value; a text has its
// u16 length before it, and so has a list, which is texts.
const NAMED: u16 = u16::MAX;
const I64: u8 = 0;
const U64: u8 = 1;
const I128: u8 = 2;
const U128: u8 = 3;
const F64: u8 = 4;
const BOOL: u8 = 5;
const TEXT: u8 = 6;
const LIST: u8 = 7;

impl Fields {
    /// Runs `record`, which is `Attributes::record` or its like, with a visitor that adds to these.
    pub(crate) fn visit(
        &mut self,
        callsite: &'static Callsite,
        owner: Owner,
        limits: &Limits,
        record: impl FnOnce(&mut dyn Visit),
    ) {
        record(&mut Recorder { fields: self, callsite, owner, limits });
    }

    pub(crate) fn view<'a>(&'a self, callsite: &'a Callsite) -> FieldsView<'a> {
        FieldsView { callsite, bytes: &self.bytes }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// Empty again, with a buffer of moderate size to fill anew.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > 1024 {
            self.bytes.shrink_to(1024);
        }
        (self.count, self.cost, self.fresh_from) = (0, 0, 0);
        self.left_out = FieldsLeftOut::default();
    }

    /// Adds all of `later`'s, of the same callsite.
    pub(crate) fn merge(&mut self, callsite: &Callsite, later: &Self, limits: &Limits) {
        for entry in later.view(callsite).entries() {
            let (kind, value) =
                (later.bytes[entry.value_at - 1], &later.bytes[entry.value_at..entry.range.end]);
            self.set(callsite, entry.key, Owner::Span, limits, kind, |bytes| {
                bytes.extend_from_slice(value);
                false
            });
        }
        let (ours, theirs) = (&mut self.left_out, later.left_out);
        ours.attributes = ours.attributes.saturating_add(theirs.attributes);
        ours.shortened = ours.shortened.saturating_add(theirs.shortened);
    }

    /// Adds a text that the layer knows of, under a name of its own.
    pub(crate) fn set_text(&mut self, callsite: &Callsite, name: &str, text: &str, limits: &Limits) {
        self.set(callsite, Key::Name(name), Owner::Span, limits, TEXT, |bytes| {
            text_into(bytes, limits.text_bytes(Owner::Span), limits.characters, |out| out.write_str(text))
        });
    }

    /// Adds any value likewise.
    pub(crate) fn set_value(
        &mut self,
        callsite: &Callsite,
        name: &str,
        value: &AttributeValue<'_>,
        limits: &Limits,
    ) {
        let (kind, bytes) = match value {
            AttributeValue::Str(text) => return self.set_text(callsite, name, text, limits),
            AttributeValue::Bool(value) => (BOOL, [u8::from(*value), 0, 0, 0, 0, 0, 0, 0]),
            AttributeValue::I64(number) => (I64, number.to_le_bytes()),
            AttributeValue::F64(number) => (F64, number.to_le_bytes()),
        };
        let length = if kind == BOOL { 1 } else { bytes.len() };
        self.set(callsite, Key::Name(name), Owner::Span, limits, kind, |out| {
            out.extend_from_slice(&bytes[..length]);
            false
        });
    }

    /// Adds a list likewise.
    pub(crate) fn set_list(&mut self, callsite: &Callsite, name: &str, list: List<'_>, limits: &Limits) {
        self.set(callsite, Key::Name(name), Owner::Span, limits, LIST, |bytes| {
            bytes.extend_from_slice(&(list.0.len() as u16).to_le_bytes());
            bytes.extend_from_slice(list.0);
            false
        });
    }

    /// Adds an entry whose value `write` appends, saying whether it had to cut it.
    fn set(
        &mut self,
        callsite: &Callsite,
        key: Key<'_>,
        owner: Owner,
        limits: &Limits,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>) -> bool,
    ) {
        let known = match key {
            Key::Index(index) if usize::from(index) >= self.fresh_from => {
                self.fresh_from = usize::from(index) + 1;
                None
            }
            _ => {
                // From now on any key may be here.
                self.fresh_from = usize::MAX;
                let name = callsite.key_name(key);
                self.view(callsite).entries().find(|entry| entry.name == name).map(|entry| entry.range)
            }
        };
        if known.is_none() && self.count >= limits.attributes {
            self.left_out.attributes = self.left_out.attributes.saturating_add(1);
            return;
        }
        let start = self.bytes.len();
        let key_cost = match key {
            Key::Index(index) => {
                self.bytes.extend_from_slice(&index.to_le_bytes());
                callsite.fields().get(usize::from(index)).map_or(0, |field| field.cost)
            }
            Key::Name(name) => {
                self.bytes.extend_from_slice(&NAMED.to_le_bytes());
                push_text(&mut self.bytes, &name[..floor_char_boundary(name, MAX_NAME_BYTES)]);
                text_cost(name)
            }
        };
        self.bytes.push(kind);
        let value_at = self.bytes.len();
        let cut = write(&mut self.bytes);
        let replaced = known.as_ref().map_or(0, |range| self.cost_of(callsite, range.clone()));
        let cut = match self.fit(callsite, owner, kind, value_at, key_cost, replaced) {
            Some(cost) => {
                self.cost = self.cost - replaced.min(self.cost) + cost.total;
                self.count += u32::from(known.is_none());
                if let Some(old) = known {
                    // The new value goes where the old one was.
                    let bytes = self.bytes.len() - start;
                    self.bytes[old.start..].rotate_right(bytes);
                    self.bytes.drain(old.start + bytes..old.end + bytes);
                }
                cut || cost.cut
            }
            None => {
                // Nor may the value of an earlier recording stand for this one.
                self.bytes.truncate(start);
                if let Some(old) = known {
                    self.bytes.drain(old);
                    self.cost -= replaced.min(self.cost);
                    self.count -= 1;
                }
                self.left_out.attributes = self.left_out.attributes.saturating_add(1);
                false
            }
        };
        self.left_out.shortened = self.left_out.shortened.saturating_add(u32::from(cut));
    }

    /// What the value from `value_at` on costs, after a text has been cut to the room there is;
    /// `None` where nothing useful would be left.
    fn fit(
        &mut self,
        callsite: &Callsite,
        owner: Owner,
        kind: u8,
        value_at: usize,
        key_cost: usize,
        replaced: usize,
    ) -> Option<Fit> {
        let value_cost = |bytes: &[u8]| match kind {
            TEXT => text_cost(&bytes[2..]),
            LIST => List(&bytes[2..]).map(text_cost).sum(),
            _ => NUMBER_COST,
        };
        let mut total = key_cost + value_cost(&self.bytes[value_at..]);
        let share = match owner {
            Owner::Event if kind == TEXT => key_cost + EVENT_TEXT_COST,
            Owner::Event => usize::MAX,
            Owner::Span => {
                if self.cost + total > SPAN_COST / 2 {
                    // Estimates have been added up until here.
                    self.cost = self.exact_cost(callsite, value_at);
                }
                let room = (SPAN_COST + replaced).saturating_sub(self.cost);
                // A long text gets half of the room at most, and none of the last of it: it should
                // not push out the short ones that come after.
                if total > SHORT_COST { room.saturating_sub(RESERVED_COST) / 2 } else { room }
            }
        };
        if total <= share {
            return Some(Fit { total, cut: false });
        }
        let text_at = value_at + 2;
        if kind != TEXT {
            return None;
        }
        let fits = prefix_of_cost(&self.bytes[text_at..], share.checked_sub(key_cost)?);
        if fits == 0 {
            return None;
        }
        self.bytes.truncate(text_at + fits);
        self.bytes[value_at..text_at].copy_from_slice(&(fits as u16).to_le_bytes());
        total = key_cost + value_cost(&self.bytes[value_at..]);
        Some(Fit { total, cut: true })
    }

    /// The cost of the complete entries before `end`.
    fn exact_cost(&self, callsite: &Callsite, end: usize) -> usize {
        let view = FieldsView { callsite, bytes: &self.bytes };
        view.entries().take_while(|entry| entry.range.end <= end).map(|entry| entry.cost()).sum()
    }

    fn cost_of(&self, callsite: &Callsite, range: std::ops::Range<usize>) -> usize {
        let view = FieldsView { callsite, bytes: &self.bytes[range] };
        view.entries().map(|entry| entry.cost()).sum()
    }
}

#[inline]
fn entry_head(index: u16, kind: u8) -> [u8; 3] {
    let [low, high] = index.to_le_bytes();
    [low, high, kind]
}

struct Fit {
    total: usize,
    cut: bool,
}

/// Fields to read.
#[derive(Clone, Copy)]
pub(crate) struct FieldsView<'a> {
    callsite: &'a Callsite,
    bytes: &'a [u8],
}

pub(crate) struct Entry<'a> {
    pub(crate) key: Key<'a>,
    pub(crate) name: &'a str,
    pub(crate) value: Value<'a>,
    /// Where it lies, and in it the value after its type.
    range: std::ops::Range<usize>,
    value_at: usize,
}

impl Entry<'_> {
    fn cost(&self) -> usize {
        let value = match self.value {
            Value::Text(text) => text_cost(text),
            Value::List(items) => items.map(text_cost).sum(),
            _ => NUMBER_COST,
        };
        text_cost(self.name) + value
    }
}

impl<'a> FieldsView<'a> {
    /// `bytes` are those of a [`Fields`] of the callsite.
    pub(crate) fn new(callsite: &'a Callsite, bytes: &'a [u8]) -> Self {
        Self { callsite, bytes }
    }

    pub(crate) fn entries(self) -> impl Iterator<Item = Entry<'a>> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let start = self.bytes.len() - rest.len();
            let key = match u16::from_le_bytes(take(&mut rest)) {
                NAMED => Key::Name(take_text(&mut rest)),
                index => Key::Index(index),
            };
            let value_at = self.bytes.len() - rest.len() + 1;
            let value = take_value(&mut rest);
            let range = start..self.bytes.len() - rest.len();
            Some(Entry { key, name: self.callsite.key_name(key), value, range, value_at })
        })
    }

    pub(crate) fn get(self, name: &str) -> Option<Value<'a>> {
        self.entries().find_map(|entry| (entry.name == name).then_some(entry.value))
    }

    pub(crate) fn callsite(self) -> &'a Callsite {
        self.callsite
    }
}

fn take_value<'a>(rest: &mut &'a [u8]) -> Value<'a> {
    let [kind] = take(rest);
    match kind {
        I64 => Value::I64(i64::from_le_bytes(take(rest))),
        U64 => Value::U64(u64::from_le_bytes(take(rest))),
        I128 => Value::I128(i128::from_le_bytes(take(rest))),
        U128 => Value::U128(u128::from_le_bytes(take(rest))),
        F64 => Value::F64(f64::from_le_bytes(take(rest))),
        BOOL => Value::Bool(take::<1>(rest) == [1]),
        TEXT => Value::Text(take_text(rest)),
        _ => Value::List(List(take_sized(rest))),
    }
}

/// The next `N` bytes; zeros where there are no more, which only a broken buffer has.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    match rest.split_first_chunk() {
        Some((taken, after)) => {
            *rest = after;
            *taken
        }
        None => {
            *rest = &[];
            [0; N]
        }
    }
}

fn take_sized<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::from(u16::from_le_bytes(take(rest)));
    let (taken, after) = rest.split_at(length.min(rest.len()));
    *rest = after;
    taken
}

fn take_text<'a>(rest: &mut &'a [u8]) -> &'a str {
    std::str::from_utf8(take_sized(rest)).unwrap_or_default()
}

/// A text shorter than 64 KiB with its length before it.
fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// Appends what is written to `write` as such a text, cut to its bounds; whether it had to be cut.
fn text_into(
    bytes: &mut Vec<u8>,
    max_bytes: usize,
    max_characters: usize,
    write: impl FnOnce(&mut Bounded<'_>) -> fmt::Result,
) -> bool {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 2]);
    let mut bounded = Bounded { bytes, left: max_bytes, characters_left: max_characters, cut: false };
    // A `Debug` that reports an error has said what it could; that is kept.
    let _ = write(&mut bounded);
    let cut = bounded.cut;
    let length = (bytes.len() - start - 2) as u16;
    bytes[start..start + 2].copy_from_slice(&length.to_le_bytes());
    cut
}

/// Text of bounded length. What comes after is let go, not refused: a refusal would reach user code
/// as an error, and some of it unwraps.
struct Bounded<'a> {
    bytes: &'a mut Vec<u8>,
    left: usize,
    /// `usize::MAX`: not counted, since bytes bound them too.
    characters_left: usize,
    cut: bool,
}

impl Write for Bounded<'_> {
    #[inline]
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.cut {
            return Ok(());
        }
        let mut fits = floor_char_boundary(part, self.left);
        if self.characters_left != usize::MAX {
            if let Some((end, _)) = part[..fits].char_indices().nth(self.characters_left) {
                fits = end;
            }
            self.characters_left -= part[..fits].chars().count();
        }
        self.cut = fits < part.len();
        self.left -= fits;
        self.bytes.extend_from_slice(&part.as_bytes()[..fits]);
        Ok(())
    }
}

struct Recorder<'a> {
    fields: &'a mut Fields,
    callsite: &'static Callsite,
    owner: Owner,
    limits: &'a Limits,
}

impl Recorder<'_> {
    #[inline]
    fn number<const N: usize>(&mut self, field: &Field, kind: u8, value: [u8; N]) {
        match self.quickly(field, NUMBER_COST) {
            Some(index) => {
                // At once: each time that a vector grows, it has to look whether it has room.
                let mut entry = [0; 3 + 16];
                entry[..3].copy_from_slice(&entry_head(index, kind));
                entry[3..3 + N].copy_from_slice(&value);
                self.fields.bytes.extend_from_slice(&entry[..3 + N]);
            }
            None => self.number_at_length(self.callsite.key_of(field), kind, &value),
        }
    }

    /// Most fields come in order and are short: their index, if that is so, counting them.
    #[inline]
    fn quickly(&mut self, field: &Field, at_most: usize) -> Option<u16> {
        let (index, fields) = (field.index(), &mut *self.fields);
        let known = self.callsite.fields().get(index)?;
        let cost = known.cost + at_most;
        let quick = index >= fields.fresh_from
            && known.is_first
            && cost <= SHORT_COST
            && fields.cost + cost <= SPAN_COST / 2
            && fields.count < self.limits.attributes;
        if !quick {
            return None;
        }
        fields.fresh_from = index + 1;
        fields.cost += cost;
        fields.count += 1;
        Some(index as u16)
    }

    #[cold]
    fn number_at_length(&mut self, key: Key<'_>, kind: u8, value: &[u8]) {
        self.fields.set(self.callsite, key, self.owner, self.limits, kind, |bytes| {
            bytes.extend_from_slice(value);
            false
        });
    }

    #[inline]
    fn text(&mut self, key: Key<'_>, write: impl FnOnce(&mut Bounded<'_>) -> fmt::Result) {
        let (max, characters) = (self.limits.text_bytes(self.owner), self.limits.characters);
        self.fields.set(self.callsite, key, self.owner, self.limits, TEXT, |bytes| {
            text_into(bytes, max, characters, write)
        });
    }

    fn list(&mut self, name: &str, items: &[u8], cut: bool) {
        self.fields.set(self.callsite, Key::Name(name), self.owner, self.limits, LIST, |bytes| {
            bytes.extend_from_slice(&(items.len() as u16).to_le_bytes());
            bytes.extend_from_slice(items);
            cut
        });
    }
}

impl Visit for Recorder<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.number(field, F64, value.to_le_bytes());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, I64, value.to_le_bytes());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, U64, value.to_le_bytes());
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.number(field, I128, value.to_le_bytes());
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.number(field, U128, value.to_le_bytes());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, BOOL, [u8::from(value)]);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let bytes = value.len();
        // No need to look at each byte, nor to count them.
        if bytes <= self.limits.characters && bytes <= SHORT_COST {
            if let Some(index) = self.quickly(field, 20 + 7 * bytes) {
                let length = (bytes as u16).to_le_bytes();
                let [low, high, kind] = entry_head(index, TEXT);
                self.fields.bytes.reserve(5 + bytes);
                self.fields.bytes.extend_from_slice(&[low, high, kind, length[0], length[1]]);
                self.fields.bytes.extend_from_slice(value.as_bytes());
                return;
            }
        }
        self.text(self.callsite.key_of(field), |out| out.write_str(value));
    }

    /// Lower-case hex digits without separators, as tools that take bytes as text expect them.
    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        self.text(self.callsite.key_of(field), |out| {
            value.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
        });
    }

    /// The message, its chain of sources, and both again under the names that OpenTelemetry has
    /// for them; the same four attributes that tracing-opentelemetry makes of an error.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let sources = std::iter::successors(value.source(), |&error| error.source());
        let (mut chain, mut cut) = (Vec::new(), false);
        for source in sources.take(MAX_CHAIN) {
            cut |=
                text_into(&mut chain, MAX_NAME_BYTES, self.limits.characters, |out| write!(out, "{source}"));
        }
        if self.limits.vocabulary.exceptions {
            self.text(Key::Name("exception.message"), |out| write!(out, "{value}"));
            self.list("exception.stacktrace", &chain, cut);
        }
        self.text(self.callsite.key_of(field), |out| write!(out, "{value}"));
        self.list(&format!("{}.chain", field.name()), &chain, cut);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(self.callsite.key_of(field), |out| write!(out, "{value:?}"));
    }
}

/// The greatest char boundary of `text` not after `max`.
#[inline]
pub(crate) fn floor_char_boundary(text: &str, max: usize) -> usize {
    if max >= text.len() {
        return text.len();
    }
    (0..=max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// At least the bytes that a text takes in a datagram, quotes and separators included. Event fields
/// are JSON inside of a JSON string, where a control character grows to seven bytes.
pub(crate) fn text_cost(text: impl AsRef<[u8]>) -> usize {
    20 + text.as_ref().iter().map(|&byte| if grows(byte) { 7 } else { 1 }).sum::<usize>()
}

fn grows(byte: u8) -> bool {
    matches!(byte, 0..0x20 | b'"' | b'\\' | 0x7f)
}

/// How much of the UTF-8 `text` costs at most `cost`, in bytes, up to a character boundary.
fn prefix_of_cost(text: &[u8], cost: usize) -> usize {
    let mut left = cost.saturating_sub(20);
    let fits = text.iter().position(|&byte| {
        let bytes = if grows(byte) { 7 } else { 1 };
        let over = bytes > left;
        left = left.saturating_sub(bytes);
        over
    });
    // A byte of the form 10xxxxxx continues a character.
    fits.map_or(text.len(), |fits| (0..=fits).rev().find(|&at| text[at] & 0xc0 != 0x80).unwrap_or(0))
}

/// `text` cut so that it costs at most `cost`.
pub(crate) fn cut_to_cost(text: &str, cost: usize) -> &str {
    &text[..prefix_of_cost(text.as_bytes(), cost)]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::callsite;
    use crate::span::tests::metadata;

    /// A value as a test has it.
    #[derive(Clone, Debug)]
    pub(crate) enum Any {
        I64(i64),
        U64(u64),
        I128(i128),
        U128(u128),
        F64(f64),
        Bool(bool),
        Text(String),
        List(Vec<String>),
    }

    impl Fields {
        /// Records `value` under any name, as the visitor does with a field's.
        pub(crate) fn put(&mut self, owner: Owner, limits: &Limits, name: &str, value: &Any) {
            let callsite = callsite::of(metadata());
            let mut recorder = Recorder { fields: self, callsite, owner, limits };
            let key = Key::Name(name);
            let mut number = |kind, value: &[u8]| {
                recorder.fields.set(callsite, key, owner, limits, kind, |bytes| {
                    bytes.extend_from_slice(value);
                    false
                });
            };
            match value {
                Any::I64(n) => number(I64, &n.to_le_bytes()),
                Any::U64(n) => number(U64, &n.to_le_bytes()),
                Any::I128(n) => number(I128, &n.to_le_bytes()),
                Any::U128(n) => number(U128, &n.to_le_bytes()),
                Any::F64(n) => number(F64, &n.to_le_bytes()),
                Any::Bool(b) => number(BOOL, &[u8::from(*b)]),
                Any::Text(text) => recorder.text(key, |out| out.write_str(text)),
                Any::List(items) => {
                    let mut bytes = Vec::new();
                    for item in items {
                        text_into(&mut bytes, MAX_NAME_BYTES, usize::MAX, |out| out.write_str(item));
                    }
                    recorder.list(name, &bytes, false);
                }
            }
        }

        fn put_text(&mut self, name: &str, text: &str) {
            self.put(Owner::Span, &Limits::default(), name, &Any::Text(text.to_owned()));
        }

        fn text_of(&self, name: &str) -> Option<&str> {
            match self.view(callsite::of(metadata())).get(name) {
                Some(Value::Text(text)) => Some(text),
                _ => None,
            }
        }
    }

    fn text_of(max: usize, characters: usize, text: &str) -> (String, bool) {
        let mut bytes = Vec::new();
        let cut = text_into(&mut bytes, max, characters, |out| out.write_str(text));
        (take_text(&mut &bytes[..]).to_owned(), cut)
    }

    #[test]
    fn text_is_cut_at_a_character_boundary_and_counted() {
        let long = format!("a{}", "é".repeat(MAX_VALUE_BYTES));
        let (text, cut) = text_of(MAX_VALUE_BYTES, usize::MAX, &long);
        assert_eq!(text.len(), MAX_VALUE_BYTES - 1, "an é takes two bytes and must not be halved");
        assert!(long.starts_with(&text) && cut);

        let exact = "x".repeat(MAX_VALUE_BYTES);
        assert_eq!(text_of(MAX_VALUE_BYTES, usize::MAX, &exact), (exact, false));
        assert_eq!(text_of(MAX_VALUE_BYTES, 3, "éaéa"), ("éaé".into(), true));
        assert_eq!(text_of(MAX_VALUE_BYTES, 3, "éaé"), ("éaé".into(), false));
    }

    #[test]
    fn characters_are_counted_over_all_parts_of_a_text() {
        let mut bytes = Vec::new();
        let parts = ["ab", "", "cdé"];
        let cut = text_into(&mut bytes, 100, 4, |out| parts.iter().try_for_each(|part| out.write_str(part)));
        assert_eq!((take_text(&mut &bytes[..]), cut), ("abcd", true));
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
        let mut bytes = Vec::new();
        text_into(&mut bytes, 100, usize::MAX, |out| write!(out, "{Fails:?}"));
        assert_eq!(take_text(&mut &bytes[..]), "half");
    }

    #[test]
    fn a_value_recorded_again_takes_the_place_of_the_first() {
        let mut fields = Fields::default();
        for (name, text) in [("a", "1"), ("b", "2"), ("c", "3"), ("b", "longer"), ("a", ""), ("c", "4")] {
            fields.put_text(name, text);
        }
        let entries = fields.view(callsite::of(metadata())).entries().map(|e| (e.name, e.value));
        let expected = [("a", ""), ("b", "longer"), ("c", "4")].map(|(name, text)| (name, Value::Text(text)));
        assert_eq!(entries.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_field_recorded_for_ever_is_not_lost() {
        let mut fields = Fields::default();
        const TIMES: u32 = if cfg!(miri) { 500 } else { 100_000 };
        for n in 0..TIMES {
            fields.put_text("progress", &n.to_string());
        }
        assert_eq!(fields.text_of("progress"), Some(&*(TIMES - 1).to_string()));
        assert_eq!(fields.left_out, FieldsLeftOut::default());
    }

    #[test]
    fn attributes_beyond_the_limit_are_shortened_then_counted() {
        let mut fields = Fields::default();
        let long = "\u{1}".repeat(1400);
        for n in 0..20 {
            fields.put_text(&format!("long {n}"), &long);
            fields.put(Owner::Span, &Limits::default(), &format!("short {n}"), &Any::U64(n));
        }
        let callsite = callsite::of(metadata());
        assert!(fields.exact_cost(callsite, fields.bytes.len()) <= SPAN_COST);
        let kept = |key: &str| fields.text_of(key).map_or(0, str::len);
        assert_eq!(kept("long 0"), 1400);
        assert!((1..1400).contains(&kept("long 1")), "kept {}", kept("long 1"));
        assert_eq!(kept("long 19"), 0);
        let short = |n: u32| fields.view(callsite).get(&format!("short {n}")).is_some();
        assert!((0..20).all(short), "no short one is pushed out");
        let long_kept = (0..20).filter(|n| kept(&format!("long {n}")) > 0).count() as u32;
        assert_eq!(fields.left_out.attributes, 20 - long_kept);
        assert_eq!(fields.left_out.shortened, long_kept - 1);
    }

    #[test]
    fn short_texts_fill_all_the_room_there_is() {
        let mut fields = Fields::default();
        let limits = Limits { attributes: u32::MAX, ..Limits::default() };
        for n in 0..1000 {
            fields.put(Owner::Span, &limits, &format!("{n:03}"), &Any::Text("x".repeat(20)));
        }
        let kept = fields.view(callsite::of(metadata())).entries().count();
        // 23 for the key and 40 for the value.
        assert_eq!(kept, SPAN_COST / 63);
        assert_eq!(fields.left_out.attributes as usize, 1000 - kept);
    }

    #[test]
    fn no_more_attributes_than_the_user_allows() {
        let mut fields = Fields::default();
        let limits = Limits { attributes: 2, ..Limits::default() };
        for name in ["a", "b", "c", "a", "d"] {
            fields.put(Owner::Span, &limits, name, &Any::Bool(true));
        }
        assert_eq!((fields.count, fields.left_out.attributes), (2, 2));
    }
}
