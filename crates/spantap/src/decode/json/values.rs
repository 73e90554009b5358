//! Reads strings, numbers and other values, as leniently as senders require.

use std::borrow::Cow;
use std::str::FromStr;

use super::decimal::decimal;
use super::document::Json;
use super::string::{Bytes, Text, replace_halves};
use crate::decode::fault::{Fault, Found};

/// The value of a tag.
pub(in crate::decode) enum Scalar {
    Null,
    Text(String),
    Bool(bool),
    Int(i64),
    Double(f64),
}

impl<'a> Json<'a> {
    /// Reads a string.
    #[inline]
    pub(in crate::decode) fn text(&mut self) -> Result<Cow<'a, str>, Found> {
        if !self.is_text() {
            return Err(self.unexpected("a string"));
        }
        match self.deserialize() {
            Ok(Text(text)) => Ok(text),
            Err(found) => self.text_with_halves().map(Cow::Owned).ok_or(found),
        }
    }

    /// Reads a string in which half of a surrogate pair may occur alone.
    #[cold]
    fn text_with_halves(&mut self) -> Option<String> {
        let start = self.rest();
        let Bytes(mut bytes) = self.deserialize().ok()?;
        // Here, serde_json accepts control characters.
        let raw = &start[..start.len() - self.rest().len()];
        if raw.bytes().any(|byte| byte < b' ') {
            return None;
        }
        if replace_halves(&mut bytes) {
            self.faults.note(Fault::BadText, || String::from_utf8_lossy(&bytes).into_owned());
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads a string, or the JSON text of any other value.
    #[inline]
    pub(in crate::decode) fn string(&mut self) -> Result<String, Found> {
        match self.peek() {
            Some(b'"') => self.text().map(Cow::into_owned),
            _ => self.raw().map(str::to_owned),
        }
    }

    pub(in crate::decode) fn boolean(&mut self) -> Result<bool, Found> {
        match self.peek() {
            Some(b't' | b'f') => self.deserialize(),
            _ => Err(self.unexpected("true or false")),
        }
    }

    /// Reads an integer. As in protobuf's JSON, it may have a fraction of zeros or an exponent, or be a string.
    #[inline]
    pub(in crate::decode) fn integer<T: FromStr + TryFrom<i128>>(&mut self) -> Result<T, Found> {
        let text = self.number_text("an integer")?;
        text.parse().or_else(|_| {
            let integer = decimal(&text).filter(|(_, is_whole)| *is_whole);
            integer
                .and_then(|(integer, _)| T::try_from(integer).ok())
                .ok_or_else(|| Found::misplaced(&text, "an integer in its range"))
        })
    }

    /// Reads a time or a duration: an integer that is not negative. A fraction is cut off.
    #[inline]
    pub(in crate::decode) fn time(&mut self) -> Result<u64, Found> {
        let text = self.number_text("a time")?;
        text.parse().or_else(|_| {
            let time = decimal(&text).and_then(|(time, _)| u64::try_from(time).ok());
            time.ok_or_else(|| Found::misplaced(&text, "a time"))
        })
    }

    /// Reads a floating-point number. Protobuf's JSON writes NaN and the infinities as strings.
    pub(in crate::decode) fn double(&mut self) -> Result<f64, Found> {
        let is_text = self.is_text();
        let text = self.number_text("a number")?;
        match text.parse::<f64>() {
            Ok(number) if is_text || number.is_finite() => Ok(number),
            _ => Err(Found::misplaced(&text, "a number in its range")),
        }
    }

    /// Reads an enum of protobuf: a number, or a name that `named` knows.
    pub(in crate::decode) fn choice(
        &mut self,
        named: impl FnOnce(&str) -> Option<i32>,
    ) -> Result<i32, Found> {
        if !self.is_text() {
            return self.integer();
        }
        let text = self.text()?;
        named(&text)
            .or_else(|| text.parse().ok())
            .ok_or_else(|| Found::misplaced(&text, "one of the known values"))
    }

    /// Reads the value of a tag. A list or an object becomes its JSON text.
    #[inline]
    pub(in crate::decode) fn scalar(&mut self) -> Result<Scalar, Found> {
        Ok(match self.peek() {
            Some(b't' | b'f') => Scalar::Bool(self.boolean()?),
            Some(b'-' | b'0'..=b'9') => {
                let text = self.raw()?;
                let is_integer = !text.contains(['.', 'e', 'E']);
                match (text.parse(), text.parse::<f64>()) {
                    (Ok(number), _) => Scalar::Int(number),
                    (_, Ok(number)) if !is_integer && number.is_finite() => Scalar::Double(number),
                    // As elsewhere in OpenTelemetry, an integer beyond 63 bits becomes a string.
                    _ => Scalar::Text(text.to_owned()),
                }
            }
            Some(b'n') if self.is_null() => Scalar::Null,
            _ => Scalar::Text(self.string()?),
        })
    }

    /// Whether the next value is a string.
    #[inline]
    pub(in crate::decode) fn is_text(&mut self) -> bool {
        self.peek() == Some(b'"')
    }

    /// Whether the next value is null. If it is, skips it.
    #[inline]
    pub(in crate::decode) fn is_null(&mut self) -> bool {
        self.take("null")
    }

    /// The text of a number, which may be in a string.
    #[inline]
    fn number_text(&mut self, expected: &str) -> Result<Cow<'a, str>, Found> {
        match self.peek() {
            Some(b'"') => self.text(),
            Some(b'-' | b'0'..=b'9') => self.raw().map(Cow::Borrowed),
            _ => Err(self.unexpected(expected)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::faults::Faults;

    #[test]
    fn halves_of_surrogate_pairs_become_replacement_characters() {
        for (text, expected, is_odd) in [
            (r#""thanks \ud83d""#, "thanks \u{fffd}", true),
            (r#""\udc4d\ud83d""#, "\u{fffd}\u{fffd}", true),
            (r#""\ud83d!\u0041""#, "\u{fffd}!A", true),
            (r#""\ud83d\u0041""#, "\u{fffd}A", true),
            (r#""\ud83d\ud83d\udc4d""#, "\u{fffd}👍", true),
            (r#""\ud83d\udc4d""#, "👍", false),
            (r#""\uD7FF\uE000í퟿""#, "\u{d7ff}\u{e000}í\u{d7ff}", false),
        ] {
            let mut json = Json::new(text, Faults::default());
            assert_eq!(json.text().ok().as_deref(), Some(expected));
            assert_eq!(json.faults.iter().count(), usize::from(is_odd), "{text}");
            assert!(json.end().is_ok());
        }
    }
}
