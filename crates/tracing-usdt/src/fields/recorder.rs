//! The visitor that records the fields of a span or an event from `tracing`.
//!
//! It calls `Debug` and `Display` implementations of the application. It therefore runs before any lock is
//! taken and writes only to its own memory, so that a panic leaves no shared state half changed.

use std::error::Error;
use std::fmt::{self, Write};

use tracing_core::Field;
use tracing_core::field::Visit;

use super::buffer::{Fields, SHORT_COST, SPAN_COST};
use super::limits::{Limits, Owner};
use super::text::{Bounded, text_into};
use super::view::{BOOL, F64, I64, I128, LIST, NUMBER_COST, TEXT, U64, U128};
use crate::bounds::{MAX_NAME_BYTES, MAX_VALUE_BYTES};
use crate::callsite::{Callsite, Key};

/// Maximum number of sources kept of an error.
const MAX_CHAIN: usize = 16;

impl Fields {
    /// Adds all fields that `record` passes to its visitor. `record` is `Attributes::record`, `Event::record`
    /// or alike.
    pub(crate) fn visit(
        &mut self,
        callsite: &'static Callsite,
        owner: Owner,
        limits: &Limits,
        record: impl FnOnce(&mut dyn Visit),
    ) {
        record(&mut Recorder { fields: self, callsite, owner, limits });
    }
}

/// The key and the type of an entry, see `view`.
#[inline]
fn entry_head(index: u16, kind: u8) -> [u8; 3] {
    let [low, high] = index.to_le_bytes();
    [low, high, kind]
}

/// The visitor. It adds the values to `fields`.
pub(super) struct Recorder<'a> {
    pub(super) fields: &'a mut Fields,
    pub(super) callsite: &'static Callsite,
    pub(super) owner: Owner,
    pub(super) limits: &'a Limits,
}

impl Recorder<'_> {
    #[inline]
    fn number<const N: usize>(&mut self, field: &Field, kind: u8, value: [u8; N]) {
        match self.try_fast(field, NUMBER_COST, 3 + N) {
            Some(index) => {
                // Appends the entry in one piece, so that the vector checks its capacity only once.
                let mut entry = [0; 3 + 16];
                entry[..3].copy_from_slice(&entry_head(index, kind));
                entry[3..3 + N].copy_from_slice(&value);
                self.fields.bytes.extend_from_slice(&entry[..3 + N]);
            }
            None => self.number_slow(field, kind, value),
        }
    }

    /// The fast path, for fields that are short, new and in order, as most are: counts the field and returns
    /// its index. The caller then appends the entry, of so many `bytes`, for which the buffer has room. `None` if the field
    /// needs [`Fields::set`]. `max_value_cost` bounds the cost of the value.
    #[inline]
    fn try_fast(&mut self, field: &Field, max_value_cost: usize, bytes: usize) -> Option<u16> {
        let (index, fields) = (field.index(), &mut *self.fields);
        let known = self.callsite.fields().get(index)?;
        let cost = known.cost_if_first + max_value_cost;
        let is_simple = index >= fields.unrecorded_from
            && cost <= SHORT_COST
            && fields.cost + cost <= SPAN_COST / 2
            && fields.count < self.limits.attributes
            && fields.bytes.capacity().wrapping_sub(fields.bytes.len()) >= bytes;
        if !is_simple {
            return None;
        }
        fields.unrecorded_from = index + 1;
        fields.cost += cost;
        fields.count += 1;
        Some(index as u16)
    }

    #[cold]
    fn number_slow<const N: usize>(&mut self, field: &Field, kind: u8, value: [u8; N]) {
        let key = self.callsite.key_of(field);
        self.fields.set(self.callsite, key, self.owner, self.limits, kind, |bytes| {
            bytes.extend_from_slice(&value);
            false
        });
    }

    #[cold]
    fn str_slow(&mut self, field: &Field, value: &str) {
        self.text(self.callsite.key_of(field), |out| out.write_str(value));
    }

    #[inline]
    pub(super) fn text(&mut self, key: Key<'_>, write: impl FnOnce(&mut Bounded<'_>) -> fmt::Result) {
        let characters = self.limits.characters;
        self.fields.set(self.callsite, key, self.owner, self.limits, TEXT, |bytes| {
            text_into(bytes, MAX_VALUE_BYTES, characters, write)
        });
    }

    pub(super) fn list(&mut self, name: &str, items: &[u8], shortened: bool) {
        self.fields.set(self.callsite, Key::Name(name), self.owner, self.limits, LIST, |bytes| {
            bytes.extend_from_slice(&(items.len() as u16).to_le_bytes());
            bytes.extend_from_slice(items);
            shortened
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
        // A text this short is within the limits whatever its bytes are: no need to examine each.
        if bytes <= self.limits.characters && bytes <= SHORT_COST {
            if let Some(index) = self.try_fast(field, 20 + 7 * bytes, 5 + bytes) {
                let length = (bytes as u16).to_le_bytes();
                let [low, high, kind] = entry_head(index, TEXT);
                self.fields.bytes.extend_from_slice(&[low, high, kind, length[0], length[1]]);
                self.fields.bytes.extend_from_slice(value.as_bytes());
                return;
            }
        }
        self.str_slow(field, value);
    }

    /// Records bytes as lower-case hex digits without separators, the usual form in which tools accept bytes
    /// as text.
    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        self.text(self.callsite.key_of(field), |out| {
            value.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
        });
    }

    /// Records the error's message and its chain of sources, and both again under their names in
    /// OpenTelemetry's conventions. tracing-opentelemetry records the same four attributes.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let sources = std::iter::successors(value.source(), |&error| error.source());
        let (mut chain, mut shortened) = (Vec::new(), false);
        for source in sources.take(MAX_CHAIN) {
            shortened |=
                text_into(&mut chain, MAX_NAME_BYTES, self.limits.characters, |out| write!(out, "{source}"));
        }
        if self.limits.vocabulary.exceptions {
            self.text(Key::Name("exception.message"), |out| write!(out, "{value}"));
            self.list("exception.stacktrace", &chain, shortened);
        }
        self.text(self.callsite.key_of(field), |out| write!(out, "{value}"));
        self.list(&format!("{}.chain", field.name()), &chain, shortened);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(self.callsite.key_of(field), |out| write!(out, "{value:?}"));
    }
}
