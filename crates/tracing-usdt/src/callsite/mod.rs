//! Data derived once per callsite: C strings for the probes, and what is the same in all of
//! its encoded spans.
//!
//! It is never freed, like the callsites themselves. As the strings are written at run time, their pages are
//! in memory, so that eBPF programs, most of which can't take a page fault, can read them.
//!
//! `table` finds a callsite by its metadata or by its id.

mod table;

use std::ffi::{CStr, CString};

use once_cell::race::OnceBox;
use tracing_core::{Field, Level, Metadata};

pub(crate) use table::{by_id, of};

use crate::bounds::text_cost;
use crate::json::json_string;
use crate::sampler;

/// A callsite with the data derived from its metadata.
pub(crate) struct Callsite {
    /// Stands for the callsite in binary records, see [`by_id`].
    pub(crate) id: u32,
    pub(crate) metadata: &'static Metadata<'static>,
    pub(crate) name: CString,
    pub(crate) target: CString,
    fields: Box<[FieldName]>,
    /// The callsite has a field `sampling.priority`.
    pub(crate) has_priority: bool,
    /// Its events come from the `log` crate through tracing-log. Each has its own target, in a field.
    pub(crate) is_log_bridge: bool,
    /// The cost of an event of this callsite without its fields.
    pub(crate) event_cost: usize,
    /// What is the same in all encoded spans. The encoders set it.
    pub(crate) encoded: OnceBox<Encoded>,
}

/// What is the same in all encoded spans of a callsite. The encoders make it, but it is kept here, so that a span
/// finds it with one load.
pub(crate) struct Encoded {
    /// The span's name as a JSON string.
    pub(crate) name: Box<str>,
    /// The attributes that the callsite determines, as Zipkin tags.
    pub(crate) zipkin: String,
    /// The same attributes in OTLP/JSON.
    pub(crate) otlp: String,
    /// The same attributes in protobuf.
    pub(crate) otlp_protobuf: Box<[u8]>,
    /// No field has a reserved name, see `Vocabulary::is_reserved`.
    pub(crate) is_plain: bool,
}

/// Identifies a field of a span or an event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key<'a> {
    /// The index of the field in the callsite.
    Index(u16),
    /// The name, for an attribute that is not a field of the callsite.
    Name(&'a str),
}

/// Fields in which tracing-log puts the target and location of a record of the `log` crate, and the
/// attributes that these become. tracing-log has one callsite per level, so their metadata say nothing about
/// the record.
const LOG_FIELDS: [(&str, &str); 4] = [
    ("log.target", "target"),
    ("log.module_path", "code.module.name"),
    ("log.file", "code.file.path"),
    ("log.line", "code.line.number"),
];

fn is_log_bridge(metadata: &Metadata<'_>) -> bool {
    let has_field = |(field, _): &(&str, &str)| metadata.fields().field(*field).is_some();
    metadata.is_event() && metadata.target() == "log" && LOG_FIELDS.iter().all(has_field)
}

/// A field of a callsite.
pub(crate) struct FieldName {
    pub(crate) name: &'static str,
    /// The cost of the name.
    pub(crate) cost: usize,
    /// The same for a field that is its callsite's first of this name, as nearly all are; else more than any limit.
    pub(crate) cost_if_first: usize,
    /// The name as a JSON string.
    pub(crate) json: Box<str>,
    /// Index of the callsite's first field of this name. Normally this field's own.
    first: u16,
}

impl Callsite {
    fn new(id: u32, metadata: &'static Metadata<'static>) -> Self {
        let is_log_bridge = is_log_bridge(metadata);
        let renamed = |name: &'static str| {
            let known = LOG_FIELDS.iter().find(|(field, _)| is_log_bridge && *field == name);
            known.map_or(name, |(_, name)| *name)
        };
        let names: Vec<&'static str> = metadata.fields().iter().map(|field| renamed(field.name())).collect();
        let field = |(index, name): (usize, &&'static str)| {
            let first = names.iter().position(|other| other == name).unwrap_or(index);
            FieldName {
                name,
                cost: text_cost(name),
                cost_if_first: if first == index { text_cost(name) } else { usize::MAX / 2 },
                json: json_string(name),
                first: first as u16,
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
            event_cost: text_cost(metadata.name()) + text_cost(metadata.target()),
            encoded: OnceBox::new(),
        }
    }

    pub(crate) fn fields(&self) -> &[FieldName] {
        &self.fields
    }

    /// The key of a field. Fields of the same name have the same key.
    #[inline]
    pub(crate) fn key_of(&self, field: &Field) -> Key<'static> {
        match self.fields.get(field.index()) {
            Some(known) => Key::Index(known.first),
            // A field of another callsite. `tracing` does not pass such fields on.
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

    /// The level as the probes carry it: 1 for ERROR to 5 for TRACE.
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

/// Copies `text` into a C string. A NUL inside would end the string, and becomes U+FFFD.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| {
        CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_else(|_| CStr::to_owned(c""))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tracing_core::Metadata;

    pub(crate) fn metadata() -> &'static Metadata<'static> {
        let callsite = tracing::callsite! {
            name: "work",
            kind: tracing::metadata::Kind::SPAN,
            fields:
        };
        tracing::callsite::Callsite::metadata(callsite)
    }

    #[test]
    fn each_callsite_has_one_entry_and_one_id() {
        let first = of(metadata());
        let again = std::thread::spawn(|| of(metadata())).join().expect("no panic");
        assert!(std::ptr::eq(first, again));
        assert!(by_id(first.id).is_some_and(|found| std::ptr::eq(found, first)));
        assert_eq!((&*first.name, &*first.target), (c"work", c"tracing_usdt::callsite::tests"));
    }

    #[test]
    fn replaces_nul_characters_in_c_strings() {
        assert_eq!(c_string("a\0b").as_c_str(), c"a\u{fffd}b");
    }
}
