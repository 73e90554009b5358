//! Reads the fields of an encoded message.

use prost::encoding::{WireType, decode_key, decode_varint};

use super::super::fault::{Fault, Found};
use crate::span::short_bytes;

/// The value of a field.
pub(super) enum Value<'a> {
    Integer(u64),
    Fixed64(u64),
    Fixed32,
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
}

/// The fields that are left to read.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The number and the value of the next field.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Found> {
        match short_bytes(&mut self.0) {
            Some((number, bytes)) => Ok(Some((number, Value::Bytes(bytes)))),
            None if self.0.is_empty() => Ok(None),
            None => self.next_of_any().map(Some),
        }
    }

    fn next_of_any(&mut self) -> Result<(u32, Value<'a>), Found> {
        let before = self.0.len();
        let (number, wire) = decode_key(&mut self.0)?;
        self.check_varint(before)?;
        let value = match wire {
            WireType::Varint => Value::Integer(decode_varint(&mut self.0)?),
            WireType::SixtyFourBit => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            WireType::ThirtyTwoBit => {
                self.array::<4>()?;
                Value::Fixed32
            }
            WireType::LengthDelimited => {
                let before = self.0.len();
                let length = decode_varint(&mut self.0)?;
                self.check_varint(before)?;
                Value::Bytes(self.bytes(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            // Deprecated, and not in OTLP.
            WireType::StartGroup | WireType::EndGroup => {
                return Err(Found::new(Fault::BadProtobuf, format!("a group (field {number})")));
            }
        };
        Ok((number, value))
    }

    /// Some readers of protobuf refuse a key or a length of more than 5 bytes.
    #[inline]
    fn check_varint(&self, before: usize) -> Result<(), Found> {
        match before - self.0.len() {
            0..=5 => Ok(()),
            bytes => Err(Found::new(Fault::BadProtobuf, format!("a key or a length of {bytes} bytes"))),
        }
    }

    #[inline]
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Found> {
        let cut_short = || Found::new(Fault::CutShort, format!("{} bytes of {length}", self.0.len()));
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Found> {
        Ok(self.bytes(N)?.try_into().unwrap_or([0; N]))
    }
}

/// Passes the texts, bytes and messages of a message to `take`, and skips other fields.
pub(super) fn each<'a>(message: &'a [u8], mut take: impl FnMut(u32, &'a [u8])) -> Result<(), Found> {
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        if let Value::Bytes(bytes) = value {
            take(number, bytes);
        }
    }
    Ok(())
}
