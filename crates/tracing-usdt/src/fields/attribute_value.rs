//! Values of attributes that the application sets by name.

use std::borrow::Cow;

/// The value of an attribute.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum AttributeValue<'a> {
    /// A string.
    Str(Cow<'a, str>),
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    I64(i64),
    /// An unsigned integer. OTLP has only `i64`: a value that does not fit is sent as a string of its digits.
    U64(u64),
    /// A signed integer of up to 128 bits. A value that does not fit into an `i64` is sent to OTLP as a
    /// string of its digits.
    I128(i128),
    /// An unsigned integer of up to 128 bits, which OTLP gets like [`I128`](Self::I128).
    U128(u128),
    /// A floating-point number.
    F64(f64),
}

macro_rules! from {
    ($($from:ty => $variant:ident),+ $(,)?) => {$(
        impl<'a> From<$from> for AttributeValue<'a> {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )+};
}

from! {
    &'a str => Str, &'a String => Str, String => Str, Cow<'a, str> => Str, bool => Bool,
    i8 => I64, i16 => I64, i32 => I64, i64 => I64, i128 => I128,
    u8 => I64, u16 => I64, u32 => I64, u64 => U64, u128 => U128, f32 => F64, f64 => F64,
}

impl From<isize> for AttributeValue<'_> {
    fn from(value: isize) -> Self {
        // No supported platform has addresses wider than 64 bits.
        Self::I64(value as i64)
    }
}

impl From<usize> for AttributeValue<'_> {
    fn from(value: usize) -> Self {
        Self::U64(value as u64)
    }
}
