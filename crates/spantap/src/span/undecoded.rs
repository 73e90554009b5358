//! Reads parts of an encoded span without decoding the rest. To decode the spans would be most of the work of a search.
//!
//! What is read is the same as in the decoded span. Only a part that is not looked at may be broken unnoticed.

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::numbers::{ATTRIBUTES, CODE, KEY, NAME, STATUS};
use super::short::short_bytes;

/// An encoded `Span`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undecoded<'a>(&'a [u8]);

/// The name of a span, as the field `spans` of a `ScopeSpans`. Empty if it can't be read.
pub(crate) fn name_of_field(field: &[u8]) -> &str {
    Undecoded::of_field(field).text(NAME).unwrap_or_default()
}

/// The value of a field.
enum Value<'a> {
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Undecoded<'a> {
    /// The span in a field `spans` of a `ScopeSpans`. Without a field there, a span without any.
    pub(crate) fn of_field(mut field: &'a [u8]) -> Self {
        match next(&mut field) {
            Some((_, Value::Bytes(span))) => Self(span),
            _ => Self(&[]),
        }
    }

    /// A field that is bytes; empty if the span does not have it. `None` if the span is broken.
    pub(crate) fn bytes(self, number: u32) -> Option<&'a [u8]> {
        last(self.0, number, |value| match value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        })
        .map(Option::unwrap_or_default)
    }

    /// A field that is a text, as [`bytes`](Self::bytes).
    pub(crate) fn text(self, number: u32) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(number)?).ok()
    }

    /// A field that is one of several words, as [`bytes`](Self::bytes); 0 if the span does not have it.
    pub(crate) fn code(self, number: u32) -> Option<i32> {
        code(self.0, number).map(Option::unwrap_or_default)
    }

    /// The code of the span's status, as [`code`](Self::code).
    pub(crate) fn status_code(self) -> Option<i32> {
        let (mut rest, mut found) = (self.0, 0);
        while !rest.is_empty() {
            // A message that comes in several fields is the merge of them.
            if let (STATUS, Value::Bytes(status)) = next(&mut rest)? {
                found = code(status, CODE)?.unwrap_or(found);
            }
        }
        Some(found)
    }

    /// The value of the first attribute with this key.
    pub(crate) fn attribute(self, key: &str) -> Option<any_value::Value> {
        let mut rest = self.0;
        while !rest.is_empty() {
            if let (ATTRIBUTES, Value::Bytes(attribute)) = next(&mut rest)?
                && key_of(attribute)? == key.as_bytes()
            {
                return KeyValue::decode(attribute).ok()?.value?.value;
            }
        }
        None
    }
}

/// Reads a field.
#[inline]
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u32, Value<'a>)> {
    match short_bytes(rest) {
        Some((number, bytes)) => Some((number, Value::Bytes(bytes))),
        None => next_of_any(rest),
    }
}

fn next_of_any<'a>(rest: &mut &'a [u8]) -> Option<(u32, Value<'a>)> {
    let (number, wire_type) = decode_key(rest).ok()?;
    let value = match wire_type {
        WireType::Varint => Value::Number(decode_varint(rest).ok()?),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
            let (bytes, after) = rest.split_at_checked(length)?;
            *rest = after;
            Value::Bytes(bytes)
        }
        _ => {
            skip_field(wire_type, number, rest, DecodeContext::default()).ok()?;
            Value::Other
        }
    };
    Some((number, value))
}

/// Of a field that is there several times, the last one counts, as protobuf defines.
fn last<'a, T>(mut message: &'a [u8], number: u32, of: impl Fn(Value<'a>) -> Option<T>) -> Option<Option<T>> {
    let mut found = None;
    while !message.is_empty() {
        let (at, value) = next(&mut message)?;
        if at == number {
            found = Some(of(value)?);
        }
    }
    Some(found)
}

fn code(message: &[u8], number: u32) -> Option<Option<i32>> {
    last(message, number, |value| match value {
        Value::Number(code) => Some(code as i32),
        _ => None,
    })
}

fn key_of(attribute: &[u8]) -> Option<&[u8]> {
    Undecoded(attribute).bytes(KEY)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};
    use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, Status};
    use proptest::prelude::*;

    use super::*;
    use crate::span::attributes::find;
    use crate::span::decode_field;
    use crate::span::numbers::{KIND, PARENT_ID, SPAN_ID, TRACE_ID};

    const KEYS: [&str; 4] = ["", "a", "b", "long.key"];

    fn value() -> impl Strategy<Value = Option<AnyValue>> + Clone {
        let leaf = prop_oneof![
            "[a-zé]{0,3}".prop_map(Any::StringValue),
            any::<i64>().prop_map(Any::IntValue),
            Just(Any::BoolValue(true)),
        ];
        let list = prop::collection::vec(leaf.clone(), 0..3).prop_map(|values| {
            let values = values.into_iter().map(|value| AnyValue { value: Some(value) });
            Any::ArrayValue(ArrayValue { values: values.collect() })
        });
        let value = prop_oneof![4 => leaf, 1 => list];
        prop::option::of(prop::option::of(value).prop_map(|value| AnyValue { value }))
    }

    /// A `KeyValue`; now and then two of them in one, which are merged.
    fn pair() -> impl Strategy<Value = Vec<u8>> {
        let one = (prop::sample::select(&KEYS[..]), value()).prop_map(|(key, value)| {
            KeyValue { key: key.to_owned(), value, ..KeyValue::default() }.encode_to_vec()
        });
        prop_oneof![8 => one.clone(), 1 => (one.clone(), one).prop_map(|(a, b)| [a, b].concat())]
    }

    fn tagged(number: u32, bytes: &[u8]) -> Vec<u8> {
        let mut field = Vec::new();
        prost::encoding::bytes::encode(number, &bytes.to_vec(), &mut field);
        field
    }

    /// A field of a span, in the usual encoding, or unknown.
    fn part() -> impl Strategy<Value = Vec<u8>> {
        let span = |span: Span| span.encode_to_vec();
        prop_oneof![
            6 => pair().prop_map(|pair| tagged(ATTRIBUTES, &pair)),
            2 => "[a-zé]{0,4}".prop_map(move |name| span(Span { name, ..Span::default() })),
            1 => any::<i32>().prop_map(move |kind| span(Span { kind, ..Span::default() })),
            2 => (0..3_i32, "[a-z]{0,2}").prop_map(|(code, message)| {
                tagged(STATUS, &Status { code, message }.encode_to_vec())
            }),
            1 => (prop::sample::select(vec![TRACE_ID, SPAN_ID, PARENT_ID]), any::<[u8; 8]>())
                .prop_map(|(number, id)| tagged(number, &id)),
            1 => (16u32..2000, any::<Vec<u8>>()).prop_map(|(number, bytes)| tagged(number, &bytes)),
            // Unknown fields of the other types, among them a group.
            1 => Just(vec![0x81, 0x10, 1, 2, 3, 4, 5, 6, 7, 8, 0x80, 0x10, 7, 0x85, 0x10, 1, 2, 3, 4]),
            1 => Just(vec![0x83, 0x10, 0x08, 7, 0x84, 0x10]),
        ]
    }

    fn field_of(span: &[u8]) -> Vec<u8> {
        tagged(super::super::numbers::SPANS, span)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_part_is_that_of_the_decoded_span(
            parts in prop::collection::vec(part(), 0..12),
            damage in prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
            cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
        ) {
            let mut field = field_of(&parts.concat());
            if let Some((at, byte)) = damage {
                let at = at.index(field.len());
                field[at] = byte;
            }
            if let Some(at) = cut {
                field.truncate(at.index(field.len()));
            }
            let found = Undecoded::of_field(&field);
            let attributes = KEYS.map(|key| found.attribute(key));
            let ids = [TRACE_ID, SPAN_ID, PARENT_ID].map(|number| found.bytes(number));
            let rest = (found.text(NAME), found.code(KIND), found.status_code());
            // Of a broken span, anything may be read, but nothing panics.
            let is_one = ScopeSpans::decode(&*field).is_ok_and(|scope| scope.spans.len() == 1);
            let Some(span) = decode_field(&field).filter(|_| is_one) else { return Ok(()) };
            prop_assert_eq!(attributes, KEYS.map(|key| find(&span.attributes, key).cloned()));
            prop_assert_eq!(ids, [&span.trace_id, &span.span_id, &span.parent_span_id].map(|id| Some(&**id)));
            let status = span.status.as_ref().map_or(0, |status| status.code);
            prop_assert_eq!(rest, (Some(&*span.name), Some(span.kind), Some(status)));
        }
    }
}
