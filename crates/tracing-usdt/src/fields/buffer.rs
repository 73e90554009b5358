//! The fields of a span or an event, encoded one after the other in one buffer. `view` describes the format.
//!
//! Once the buffer has grown, recording a field does not allocate. Passing all fields on is one copy.

use super::AttributeValue;
use super::limits::{Limits, Owner};
use super::text::text_into;
use super::value::List;
use super::view::{BOOL, Entry, F64, FieldsView, I64, I128, LIST, NAMED, NUMBER_COST, TEXT, U64, U128};
use crate::bounds::{MAX_NAME_BYTES, MAX_VALUE_BYTES, floor_char_boundary, prefix_of_cost, text_cost};
use crate::bytes::push_text;
use crate::callsite::{Callsite, Key};
use std::fmt::Write as _;

/// Maximum cost of the fields of a span. `span::record` lists what else a datagram must hold.
pub(super) const SPAN_COST: usize = 24 * 1024;
/// The part of [`SPAN_COST`] that only fields of up to [`SHORT_COST`] may use.
const RESERVED_COST: usize = 4 * 1024;
pub(super) const SHORT_COST: usize = 256;

/// Maximum cost of a text in an event.
const EVENT_TEXT_COST: usize = 4 * 1024;

/// Fields in the order in which they were first recorded. A field recorded again keeps its place and takes
/// the new value.
#[derive(Default)]
pub(crate) struct Fields {
    pub(super) bytes: Vec<u8>,
    /// Where the fields begin in `bytes`. What is before them is not of this module, see [`set_before`](Self::set_before).
    begin: usize,
    pub(super) count: u32,
    /// Upper bound on the sum of the fields' costs, see [`text_cost`].
    pub(super) cost: usize,
    /// Fields with this index or a higher one are not recorded yet; lower indexes and named keys may be.
    pub(super) unrecorded_from: usize,
    pub(crate) dropped: DroppedFields,
}

/// Counts of attributes that the limits dropped, and of values that they shortened.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct DroppedFields {
    pub(crate) attributes: u32,
    pub(crate) shortened: u32,
}

impl Fields {
    pub(crate) fn view<'a>(&'a self, callsite: &'a Callsite) -> FieldsView<'a> {
        FieldsView::new(callsite, self.bytes())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }

    /// Puts `bytes` before the fields, to be passed on with them in one piece. They stay until others are set.
    pub(crate) fn set_before(&mut self, bytes: &[u8]) {
        self.bytes.splice(..self.begin, bytes.iter().copied());
        self.begin = bytes.len();
    }

    /// The bytes before the fields and the fields, and where the fields begin.
    #[inline]
    pub(crate) fn with_before(&self) -> (&[u8], usize) {
        (&self.bytes, self.begin)
    }

    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// Removes all fields. Keeps up to 1 KiB of the buffer for the next span or event.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(self.begin);
        if self.bytes.capacity() > 1024 {
            self.bytes.shrink_to(1024);
        }
        (self.count, self.cost, self.unrecorded_from) = (0, 0, 0);
        self.dropped = DroppedFields::default();
    }

    /// Adds all fields of `later`, which belongs to the same callsite. They replace fields of the same name.
    pub(crate) fn merge(&mut self, callsite: &Callsite, later: &Self, limits: &Limits) {
        for entry in later.view(callsite).entries() {
            let (kind, value) =
                (later.bytes()[entry.value_at - 1], &later.bytes()[entry.value_at..entry.range.end]);
            self.set(callsite, entry.key, Owner::Span, limits, kind, |bytes| {
                bytes.extend_from_slice(value);
                false
            });
        }
        let (ours, theirs) = (&mut self.dropped, later.dropped);
        ours.attributes = ours.attributes.saturating_add(theirs.attributes);
        ours.shortened = ours.shortened.saturating_add(theirs.shortened);
    }

    /// Adds a text under any name.
    pub(crate) fn set_text(&mut self, callsite: &Callsite, name: &str, text: &str, limits: &Limits) {
        self.set(callsite, Key::Name(name), Owner::Span, limits, TEXT, |bytes| {
            text_into(bytes, MAX_VALUE_BYTES, limits.characters, |out| out.write_str(text))
        });
    }

    /// Adds a value under any name.
    pub(crate) fn set_value(
        &mut self,
        callsite: &Callsite,
        name: &str,
        value: &AttributeValue<'_>,
        limits: &Limits,
    ) {
        let mut set = |kind, bytes: &[u8]| {
            self.set(callsite, Key::Name(name), Owner::Span, limits, kind, |out| {
                out.extend_from_slice(bytes);
                false
            });
        };
        match value {
            AttributeValue::Str(text) => self.set_text(callsite, name, text, limits),
            AttributeValue::Bool(value) => set(BOOL, &[u8::from(*value)]),
            AttributeValue::I64(number) => set(I64, &number.to_le_bytes()),
            AttributeValue::U64(number) => set(U64, &number.to_le_bytes()),
            AttributeValue::I128(number) => set(I128, &number.to_le_bytes()),
            AttributeValue::U128(number) => set(U128, &number.to_le_bytes()),
            AttributeValue::F64(number) => set(F64, &number.to_le_bytes()),
        }
    }

    /// Adds a list of texts under any name.
    pub(crate) fn set_list(&mut self, callsite: &Callsite, name: &str, list: List<'_>, limits: &Limits) {
        self.set(callsite, Key::Name(name), Owner::Span, limits, LIST, |bytes| {
            bytes.extend_from_slice(&(list.0.len() as u16).to_le_bytes());
            bytes.extend_from_slice(list.0);
            false
        });
    }

    /// Adds an entry, or replaces that of the same name. `write` appends the value and returns whether it
    /// shortened it.
    pub(super) fn set(
        &mut self,
        callsite: &Callsite,
        key: Key<'_>,
        owner: Owner,
        limits: &Limits,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>) -> bool,
    ) {
        let old = match key {
            Key::Index(index) if usize::from(index) >= self.unrecorded_from => {
                self.unrecorded_from = usize::from(index) + 1;
                None
            }
            _ => {
                // From now on, any key may be present.
                self.unrecorded_from = usize::MAX;
                let name = callsite.key_name(key);
                let known = self.view(callsite).entries().find(|entry| entry.name == name);
                known.map(|Entry { range, .. }| self.begin + range.start..self.begin + range.end)
            }
        };
        if old.is_none() && self.count >= limits.attributes {
            self.dropped.attributes = self.dropped.attributes.saturating_add(1);
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
        let shortened = write(&mut self.bytes);
        let replaced = old.as_ref().map_or(0, |range| self.cost_of(callsite, range.clone()));
        let shortened = match self.shorten_to_fit(callsite, owner, kind, value_at, key_cost, replaced) {
            Some(cost) => {
                self.cost = self.cost - replaced.min(self.cost) + cost.total;
                self.count += u32::from(old.is_none());
                if let Some(old) = old {
                    // Moves the new entry to the place of the old one.
                    let bytes = self.bytes.len() - start;
                    self.bytes[old.start..].rotate_right(bytes);
                    self.bytes.drain(old.start + bytes..old.end + bytes);
                }
                shortened || cost.shortened
            }
            None => {
                // Removes the earlier value too: it would be wrong by now.
                self.bytes.truncate(start);
                if let Some(old) = old {
                    self.bytes.drain(old);
                    self.cost -= replaced.min(self.cost);
                    self.count -= 1;
                }
                self.dropped.attributes = self.dropped.attributes.saturating_add(1);
                false
            }
        };
        self.dropped.shortened = self.dropped.shortened.saturating_add(u32::from(shortened));
    }

    /// Shortens the text from `value_at` on to the available room, and returns the cost of the entry. `None`
    /// if no part of the value fits. `replaced` is the cost of the entry that this one replaces.
    fn shorten_to_fit(
        &mut self,
        callsite: &Callsite,
        owner: Owner,
        kind: u8,
        value_at: usize,
        key_cost: usize,
        replaced: usize,
    ) -> Option<Fitted> {
        let value_cost = |bytes: &[u8]| match kind {
            TEXT => text_cost(&bytes[2..]),
            LIST => List(&bytes[2..]).map(text_cost).sum(),
            _ => NUMBER_COST,
        };
        let mut total = key_cost + value_cost(&self.bytes[value_at..]);
        let available = match owner {
            Owner::Event if kind == TEXT => key_cost + EVENT_TEXT_COST,
            Owner::Event => usize::MAX,
            Owner::Span => {
                if self.cost + total > SPAN_COST / 2 {
                    // `self.cost` is a sum of estimates. Near the limit, uses the exact cost.
                    self.cost = self.exact_cost(callsite, value_at);
                }
                let room = (SPAN_COST + replaced).saturating_sub(self.cost);
                // A long text gets at most half of the room, and nothing of the reserve, so that shorter
                // fields after it still fit.
                if total > SHORT_COST { room.saturating_sub(RESERVED_COST) / 2 } else { room }
            }
        };
        if total <= available {
            return Some(Fitted { total, shortened: false });
        }
        let text_at = value_at + 2;
        if kind != TEXT {
            return None;
        }
        let fits = prefix_of_cost(&self.bytes[text_at..], available.checked_sub(key_cost)?);
        if fits == 0 {
            return None;
        }
        self.bytes.truncate(text_at + fits);
        self.bytes[value_at..text_at].copy_from_slice(&(fits as u16).to_le_bytes());
        total = key_cost + value_cost(&self.bytes[value_at..]);
        Some(Fitted { total, shortened: true })
    }

    /// The exact cost of the entries that end at or before `end`.
    pub(super) fn exact_cost(&self, callsite: &Callsite, end: usize) -> usize {
        let view = self.view(callsite);
        view.entries().take_while(|entry| self.begin + entry.range.end <= end).map(|entry| entry.cost()).sum()
    }

    fn cost_of(&self, callsite: &Callsite, range: std::ops::Range<usize>) -> usize {
        let view = FieldsView::new(callsite, &self.bytes[range]);
        view.entries().map(|entry| entry.cost()).sum()
    }
}

/// An entry that fits.
struct Fitted {
    total: usize,
    shortened: bool,
}
