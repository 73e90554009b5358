//! Values of fields as they are read from a record.

use crate::bytes::take_text;

/// The value of a field.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Value<'a> {
    I64(i64),
    U64(u64),
    I128(i128),
    U128(u128),
    F64(f64),
    Bool(bool),
    Text(&'a str),
    List(List<'a>),
}

impl Value<'_> {
    /// Whether a field `error` with this value means that there was no error: `false` or `0`, as a value or a
    /// text, or `None`, which is an `Option` recorded with its `Debug`.
    pub(crate) fn means_no_error(self) -> bool {
        match self {
            Self::Bool(is_error) => !is_error,
            Self::I64(0) | Self::U64(0) | Self::I128(0) | Self::U128(0) => true,
            Self::Text(text) => {
                let text = text.trim();
                text.eq_ignore_ascii_case("false") || text == "0" || text == "None"
            }
            _ => false,
        }
    }
}

/// An iterator over a list of texts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct List<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for List<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        (!self.0.is_empty()).then(|| take_text(&mut self.0))
    }
}
