//! What is known of a callsite for good, worked out once: C strings for the probes, and the JSON
//! that is the same in each of its spans.
//!
//! Kept as long as the program runs, as its callsites are. Being written once also puts the strings
//! into memory, so that an eBPF program that may not take a page fault can read them at once.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU32, Ordering};

use once_cell::race::{OnceBox, OnceRef};
use tracing_core::{Field, Level, Metadata};

use crate::encode::Fixed;
use crate::fields::{Key, text_cost};
use crate::sampler;

pub(crate) struct Callsite {
    /// For handing it over as a number, see [`by_id`].
    pub(crate) id: u32,
    pub(crate) metadata: &'static Metadata<'static>,
    pub(crate) name: CString,
    pub(crate) target: CString,
    fields: Box<[FieldName]>,
    /// Its spans may say whether they are sent.
    pub(crate) has_priority: bool,
    /// Its events are records of the `log` crate, each of which has a target of its own, as a field.
    pub(crate) is_log_bridge: bool,
    /// What the encoders say of it.
    pub(crate) fixed: Fixed,
}

/// Where tracing-log puts what a record of the `log` crate says of itself, since its own callsites, one for each level,
/// are the same for all records; and what that is called where it is known of a callsite.
const OF_LOG_RECORD: [(&str, &str); 4] = [
    ("log.target", "target"),
    ("log.module_path", "code.module.name"),
    ("log.file", "code.file.path"),
    ("log.line", "code.line.number"),
];

fn is_log_bridge(metadata: &Metadata<'_>) -> bool {
    let has_field = |(field, _): &(&str, &str)| metadata.fields().field(*field).is_some();
    metadata.is_event() && metadata.target() == "log" && OF_LOG_RECORD.iter().all(has_field)
}

pub(crate) struct FieldName {
    pub(crate) name: &'static str,
    /// What the name costs in a datagram.
    pub(crate) cost: usize,
    /// Its JSON string.
    pub(crate) json: Box<str>,
    /// The first field of the callsite with that name, mostly itself.
    first: u16,
    pub(crate) is_first: bool,
}

impl Callsite {
    fn new(id: u32, metadata: &'static Metadata<'static>) -> Self {
        let is_log_bridge = is_log_bridge(metadata);
        let renamed = |name: &'static str| {
            let known = OF_LOG_RECORD.iter().find(|(field, _)| is_log_bridge && *field == name);
            known.map_or(name, |(_, name)| *name)
        };
        let names: Vec<&'static str> = metadata.fields().iter().map(|field| renamed(field.name())).collect();
        let field = |(index, name): (usize, &&'static str)| {
            let first = names.iter().position(|other| other == name).unwrap_or(index);
            FieldName {
                name,
                cost: text_cost(name),
                json: crate::encode::json_string(name),
                first: first as u16,
                is_first: first == index,
            }
        };
        Self {
            id,
            metadata,
            name: c_string(metadata.name()),
            target: c_string(metadata.target()),
            fields: names.iter().enumerate().map(field).collect(),
            has_priority: names.contains(&sampler::PRIORITY),
            is_log_bridge,
            fixed: Fixed::new(metadata, &names),
        }
    }

    pub(crate) fn fields(&self) -> &[FieldName] {
        &self.fields
    }

    /// The key of one of its fields.
    #[inline]
    pub(crate) fn key_of(&self, field: &Field) -> Key<'static> {
        match self.fields.get(field.index()) {
            Some(known) => Key::Index(known.first),
            // Of another callsite, which `tracing` doesn't let through.
            None => Key::Name(field.name()),
        }
    }

    #[inline]
    pub(crate) fn key_name<'a>(&self, key: Key<'a>) -> &'a str {
        match key {
            Key::Index(index) => self.fields.get(usize::from(index)).map_or("", |field| field.name),
            Key::Name(name) => name,
        }
    }

    /// 1 ERROR to 5 TRACE, as the probes carry it.
    pub(crate) fn level(&self) -> u8 {
        match *self.metadata.level() {
            Level::ERROR => 1,
            Level::WARN => 2,
            Level::INFO => 3,
            Level::DEBUG => 4,
            Level::TRACE => 5,
        }
    }
}

/// A hash table whose lists only grow, so that to look into it takes no lock, and to add to it neither:
/// a forked child finds no thread in the midst of it that it would wait for. Of two that add to the same
/// list at once, one has worked out its callsite for nothing.
static TABLE: [Slot; 1 << TABLE_BITS] = [const { Slot::new() }; 1 << TABLE_BITS];
const TABLE_BITS: u32 = 10;

type Slot = OnceBox<Entry>;

struct Entry {
    callsite: &'static Callsite,
    next: Slot,
}

/// What is known of the callsite.
#[inline]
pub(crate) fn of(metadata: &'static Metadata<'static>) -> &'static Callsite {
    // Fibonacci hashing: the upper bits of the product depend on all bits of the address.
    let address = std::ptr::from_ref(metadata) as u64;
    let hash = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - TABLE_BITS);
    let mut slot = &TABLE[hash as usize];
    loop {
        let entry = match slot.get() {
            Some(entry) => entry,
            None => {
                let _ = slot.set(Box::new(Entry { callsite: add(metadata), next: Slot::new() }));
                continue;
            }
        };
        if std::ptr::eq(entry.callsite.metadata, metadata) {
            return entry.callsite;
        }
        slot = &entry.next;
    }
}

/// The callsites by their number, in parts of 256, 512, 1024 and so on.
static BY_ID: [OnceBox<Vec<OnceRef<'static, Callsite>>>; 25] = [const { OnceBox::new() }; 25];
const FIRST_PART: u32 = 256;

fn place(id: u32) -> (usize, usize) {
    let part = (id / FIRST_PART + 1).ilog2();
    (part as usize, (id - FIRST_PART * ((1 << part) - 1)) as usize)
}

#[cold]
fn add(metadata: &'static Metadata<'static>) -> &'static Callsite {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let id = COUNT.fetch_add(1, Ordering::Relaxed);
    let callsite: &'static Callsite = Box::leak(Box::new(Callsite::new(id, metadata)));
    let (part, at) = place(id);
    if BY_ID[part].get().is_none() {
        let _ = BY_ID[part].set(Box::new((0..FIRST_PART << part).map(|_| OnceRef::new()).collect()));
    }
    if let Some(slots) = BY_ID[part].get() {
        let _ = slots[at].set(callsite);
    }
    callsite
}

/// The callsite of this number; `None` if there never was one.
pub(crate) fn by_id(id: u32) -> Option<&'static Callsite> {
    let (part, at) = place(id);
    BY_ID.get(part)?.get()?.get(at)?.get()
}

/// A copy with a NUL at its end; one inside would end it too early and becomes U+FFFD.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| {
        CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_else(|_| CStr::to_owned(c""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::tests::metadata;

    #[test]
    fn a_callsite_is_worked_out_once_and_has_a_number() {
        let first = of(metadata());
        let again = std::thread::spawn(|| of(metadata())).join().expect("no panic");
        assert!(std::ptr::eq(first, again));
        assert!(by_id(first.id).is_some_and(|found| std::ptr::eq(found, first)));
        assert_eq!((&*first.name, &*first.target), (c"work", c"tracing_usdt::span::tests"));
    }

    #[test]
    fn numbers_have_places_of_their_own() {
        let places: Vec<_> = [0, 255, 256, 767, 768].map(place).to_vec();
        assert_eq!(places, [(0, 0), (0, 255), (1, 0), (1, 511), (2, 0)]);
    }

    #[test]
    fn a_nul_inside_does_not_end_the_string() {
        assert_eq!(c_string("a\0b").as_c_str(), c"a\u{fffd}b");
    }
}
