//! What both formats are made of: texts, numbers, ids and times, as they stand in the JSON.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::Faults;
use super::fault::{Fault, Found};

/// Text that stays where it is, unless it has escapes.
#[derive(Debug, Default)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

struct TextVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for TextVisitor<'a> {
    type Value = Text<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

// serde's own `Cow` copies inside of `Option`, `Vec` and maps.
impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

/// A 64-bit integer, as a number or, as protobuf's JSON has it, as a string of digits.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Integer<T>(pub(super) T);

impl<'de, T> Deserialize<'de> for Integer<T>
where
    T: TryFrom<u64> + TryFrom<i64> + std::str::FromStr,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerVisitor<T>(PhantomData<T>);
        impl<T: TryFrom<u64> + TryFrom<i64> + std::str::FromStr> Visitor<'_> for IntegerVisitor<T> {
            type Value = Integer<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer of 64 bits")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                let value = T::try_from(number).ok().map(Integer);
                value.ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                let value = T::try_from(number).ok().map(Integer);
                value.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let value = text.parse().ok().map(Integer);
                value.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(IntegerVisitor(PhantomData))
    }
}

/// An id in hex, of `N` bytes.
pub(super) fn id<const N: usize>(text: &str, faults: &mut Faults) -> Result<Vec<u8>, Found> {
    let mut bytes = vec![0; N];
    // The decoder takes a leading `0x`, which is of no use here.
    if text.len() != 2 * N || const_hex::decode_to_slice(text, &mut bytes).is_err() {
        let shown: String = text.chars().take(40).collect();
        return Err(Found::new(Fault::BadId, format!("{shown:?} where {} hex digits belong", 2 * N)));
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(Found::new(Fault::ZeroId, format!("{} zeros", 2 * N)));
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        faults.note(Fault::UpperCaseId, || text.to_owned());
    }
    Ok(bytes)
}

/// A parent's: none if it is empty or, as some senders say it, zero.
pub(super) fn parent_id(text: Option<&str>, faults: &mut Faults) -> Result<Vec<u8>, Found> {
    match text {
        None => Ok(Vec::new()),
        Some(text) if text.bytes().all(|byte| byte == b'0') && matches!(text.len(), 0 | 16) => Ok(Vec::new()),
        Some(text) => id::<8>(text, faults),
    }
}

/// Whether nothing is wrong with a time.
pub(super) fn check_times(start_ns: u64, end_ns: u64, faults: &mut Faults) -> Result<(), Found> {
    if start_ns == 0 {
        return Err(Found::new(Fault::BadTime, "the start is 0"));
    }
    if end_ns < start_ns {
        return Err(Found::new(Fault::BadTime, format!("the end {end_ns} is before the start {start_ns}")));
    }
    faults.check_odd_time(start_ns, end_ns);
    Ok(())
}

/// Longer values than this are worth a word.
pub(super) const LONG: usize = 64 * 1024;

/// An attribute with a text.
pub(super) fn text_attribute(key: &str, value: Cow<'_, str>, faults: &mut Faults) -> KeyValue {
    if value.len() > LONG {
        faults.note(Fault::LongValue, || format!("{} bytes of {key}", value.len()));
    }
    attribute(key, any_value::Value::StringValue(value.into_owned()))
}

pub(super) fn attribute(key: impl Into<String>, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}
