//! Tests of recording, bounding and reading fields.

use std::fmt::{self, Write};

use super::buffer::{DroppedFields, Fields, SPAN_COST};
use super::limits::{Limits, Owner};
use super::recorder::Recorder;
use super::text::text_into;
use super::value::Value;
use super::view::{BOOL, F64, I64, I128, U64, U128};
use crate::bounds::{MAX_NAME_BYTES, MAX_VALUE_BYTES};
use crate::bytes::take_text;
use crate::callsite::{self, Key, tests::metadata};

/// A value of any type, owned by a test.
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
    /// Records `value` under any name, as the visitor does.
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
    let shortened = text_into(&mut bytes, max, characters, |out| out.write_str(text));
    (take_text(&mut &bytes[..]).to_owned(), shortened)
}

#[test]
fn shortens_texts_at_a_character_boundary_and_counts_them() {
    let long = format!("a{}", "é".repeat(MAX_VALUE_BYTES));
    let (text, shortened) = text_of(MAX_VALUE_BYTES, usize::MAX, &long);
    assert_eq!(text.len(), MAX_VALUE_BYTES - 1, "an é takes two bytes and must not be split");
    assert!(long.starts_with(&text) && shortened);

    let exact = "x".repeat(MAX_VALUE_BYTES);
    assert_eq!(text_of(MAX_VALUE_BYTES, usize::MAX, &exact), (exact, false));
    assert_eq!(text_of(MAX_VALUE_BYTES, 3, "éaéa"), ("éaé".into(), true));
    assert_eq!(text_of(MAX_VALUE_BYTES, 3, "éaé"), ("éaé".into(), false));
}

#[test]
fn the_limit_of_characters_applies_to_all_parts_of_a_text_together() {
    let mut bytes = Vec::new();
    let parts = ["ab", "", "cdé"];
    let shortened =
        text_into(&mut bytes, 100, 4, |out| parts.iter().try_for_each(|part| out.write_str(part)));
    assert_eq!((take_text(&mut &bytes[..]), shortened), ("abcd", true));
}

#[test]
fn keeps_the_output_of_a_failing_debug() {
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
fn a_field_recorded_again_keeps_its_place_and_takes_the_new_value() {
    let mut fields = Fields::default();
    for (name, text) in [("a", "1"), ("b", "2"), ("c", "3"), ("b", "longer"), ("a", ""), ("c", "4")] {
        fields.put_text(name, text);
    }
    let entries = fields.view(callsite::of(metadata())).entries().map(|e| (e.name, e.value));
    let expected = [("a", ""), ("b", "longer"), ("c", "4")].map(|(name, text)| (name, Value::Text(text)));
    assert_eq!(entries.collect::<Vec<_>>(), expected);
}

#[test]
fn a_field_recorded_many_times_keeps_its_last_value() {
    let mut fields = Fields::default();
    const TIMES: u32 = if cfg!(miri) { 500 } else { 100_000 };
    for n in 0..TIMES {
        fields.put_text("progress", &n.to_string());
    }
    assert_eq!(fields.text_of("progress"), Some(&*(TIMES - 1).to_string()));
    assert_eq!(fields.dropped, DroppedFields::default());
}

#[test]
fn shortens_and_then_drops_attributes_beyond_the_limit() {
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
    assert!((0..20).all(short), "all short fields are kept");
    let long_kept = (0..20).filter(|n| kept(&format!("long {n}")) > 0).count() as u32;
    assert_eq!(fields.dropped.attributes, 20 - long_kept);
    assert_eq!(fields.dropped.shortened, long_kept - 1);
}

#[test]
fn short_texts_may_fill_all_available_room() {
    let mut fields = Fields::default();
    let limits = Limits { attributes: u32::MAX, ..Limits::default() };
    for n in 0..1000 {
        fields.put(Owner::Span, &limits, &format!("{n:03}"), &Any::Text("x".repeat(20)));
    }
    let kept = fields.view(callsite::of(metadata())).entries().count();
    // The cost of a key is 23, that of a value 40.
    assert_eq!(kept, SPAN_COST / 63);
    assert_eq!(fields.dropped.attributes as usize, 1000 - kept);
}

#[test]
fn keeps_no_more_attributes_than_the_configured_limit() {
    let mut fields = Fields::default();
    let limits = Limits { attributes: 2, ..Limits::default() };
    for name in ["a", "b", "c", "a", "d"] {
        fields.put(Owner::Span, &limits, name, &Any::Bool(true));
    }
    assert_eq!((fields.count, fields.dropped.attributes), (2, 2));
}

/// Whatever is set, replaced, shortened, dropped and merged.
#[test]
fn fields_behind_other_bytes_are_as_without_these() {
    let callsite = callsite::of(metadata());
    let limits = Limits { attributes: 30, ..Limits::default() };
    let [mut plain, mut behind, mut both] = [(); 3].map(|()| Fields::default());
    for before in [&b"a thread"[..], b"a thread of a longer name", b""] {
        behind.set_before(before);
        for n in 0..60 {
            let (name, text) = (format!("field {}", n % 40), "\u{1}".repeat(n * 37 % 1400));
            for fields in [&mut plain, &mut behind] {
                fields.put(Owner::Span, &limits, &name, &Any::Text(text.clone()));
                fields.put(Owner::Span, &limits, "number", &Any::U64(n as u64));
            }
            if n == 20 {
                // The bytes may also be set later.
                behind.set_before(b"another");
                behind.set_before(before);
            }
        }
        assert_eq!(behind.bytes(), plain.bytes());
        assert_eq!((behind.count, behind.cost, behind.dropped), (plain.count, plain.cost, plain.dropped));
        assert!(plain.dropped.attributes > 0 && plain.dropped.shortened > 0, "{:?}", plain.dropped);
        assert_eq!(behind.with_before(), (&*[before, plain.bytes()].concat(), before.len()));
        both.set_before(before);
        both.merge(callsite, &behind, &limits);
        let mut expected = Fields::default();
        expected.merge(callsite, &plain, &limits);
        assert_eq!((both.bytes(), both.dropped), (expected.bytes(), expected.dropped));
        [&mut plain, &mut behind, &mut both].into_iter().for_each(Fields::clear);
        assert_eq!(behind.with_before(), (before, before.len()), "they stay");
    }
}
