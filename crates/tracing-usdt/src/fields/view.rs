//! Reads recorded fields, for the encoders and the probes.
//!
//! An entry consists of a key, a `u8` type and the bytes of the value. The key is the `u16` index of the
//! field in its callsite, or `NAMED` followed by a `u16` length and the name. A text has its `u16` length in
//! front. A list is a `u16` length in bytes and its texts. Numbers are little-endian.

use super::value::{List, Value};
use crate::bounds::text_cost;
use crate::bytes::{take, take_sized, take_text};
use crate::callsite::{Callsite, Key};

/// The cost of a number or a boolean, without its key.
pub(super) const NUMBER_COST: usize = 40;

/// The key of an entry that is not a field of the callsite. Its name follows.
pub(super) const NAMED: u16 = u16::MAX;
pub(super) const I64: u8 = 0;
pub(super) const U64: u8 = 1;
pub(super) const I128: u8 = 2;
pub(super) const U128: u8 = 3;
pub(super) const F64: u8 = 4;
pub(super) const BOOL: u8 = 5;
pub(super) const TEXT: u8 = 6;
pub(super) const LIST: u8 = 7;

/// Recorded fields of a callsite, to be read.
#[derive(Clone, Copy)]
pub(crate) struct FieldsView<'a> {
    callsite: &'a Callsite,
    bytes: &'a [u8],
}

/// A field with its value.
pub(crate) struct Entry<'a> {
    pub(crate) key: Key<'a>,
    pub(crate) name: &'a str,
    pub(crate) value: Value<'a>,
    /// The position of the entry in the buffer.
    pub(super) range: std::ops::Range<usize>,
    /// The position of the value, after its type.
    pub(super) value_at: usize,
}

impl Entry<'_> {
    pub(super) fn cost(&self) -> usize {
        let value = match self.value {
            Value::Text(text) => text_cost(text),
            Value::List(items) => items.map(text_cost).sum(),
            _ => NUMBER_COST,
        };
        text_cost(self.name) + value
    }
}

impl<'a> FieldsView<'a> {
    /// `bytes` must come from [`Fields::bytes`](super::Fields::bytes) for the same callsite.
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
