//! JSON for scripts that is also safe to look at in a terminal.

use std::collections::VecDeque;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Writes a value in a line.
pub(crate) fn write_json(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    write_json_with(value, VecDeque::new(), out)
}

/// Writes a value in a line for a script in a browser, which has no integers beyond 2⁵³: they are written as texts.
pub(crate) fn write_json_for_browser(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    let formatter = Escaping { are_large_texts: true, ..Escaping::default() };
    value.serialize(&mut Serializer::with_formatter(&mut *out, formatter))?;
    out.write_all(b"\n")
}

/// Writes a message of OTLP in a line. `not_finite` are its `doubleValue`s for which JSON has no number, in their order: they are
/// written as protobuf's JSON mapping does.
pub(crate) fn write_json_with(
    value: &impl Serialize,
    not_finite: VecDeque<f64>,
    out: &mut impl Write,
) -> io::Result<()> {
    let formatter = Escaping { not_finite, ..Escaping::default() };
    value.serialize(&mut Serializer::with_formatter(&mut *out, formatter))?;
    out.write_all(b"\n")
}

/// JavaScript's `Number.MAX_SAFE_INTEGER`.
const LARGEST_OF_BROWSER: u64 = (1 << 53) - 1;

/// Escapes characters that a terminal could take for a command or that change the direction of text. To a reader of
/// JSON, they are the same.
#[derive(Default)]
struct Escaping {
    are_large_texts: bool,
    not_finite: VecDeque<f64>,
    is_key: bool,
    /// The key is `doubleValue`.
    is_of_double: bool,
}

impl Formatter for Escaping {
    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, is_first: bool) -> io::Result<()> {
        self.is_key = true;
        if is_first { Ok(()) } else { out.write_all(b",") }
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.is_key = false;
        Ok(())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.is_of_double = false;
        Ok(())
    }

    fn write_i64<W: ?Sized + Write>(&mut self, out: &mut W, value: i64) -> io::Result<()> {
        match self.are_large_texts && value.unsigned_abs() > LARGEST_OF_BROWSER {
            true => write!(out, "\"{value}\""),
            false => write!(out, "{value}"),
        }
    }

    fn write_u64<W: ?Sized + Write>(&mut self, out: &mut W, value: u64) -> io::Result<()> {
        match self.are_large_texts && value > LARGEST_OF_BROWSER {
            true => write!(out, "\"{value}\""),
            false => write!(out, "{value}"),
        }
    }

    /// Also called for a number that is not finite.
    fn write_null<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        let number = if self.is_of_double { self.not_finite.pop_front() } else { None };
        out.write_all(match number {
            None => b"null",
            Some(number) if number.is_nan() => b"\"NaN\"",
            Some(number) if number > 0.0 => b"\"Infinity\"",
            Some(_) => b"\"-Infinity\"",
        })
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        if self.is_key {
            self.is_of_double = fragment == "doubleValue";
        }
        let mut from = 0;
        for (at, character) in fragment.char_indices().filter(|(_, character)| is_escaped(*character)) {
            out.write_all(fragment.get(from..at).unwrap_or_default().as_bytes())?;
            write!(out, "\\u{:04x}", u32::from(character))?;
            from = at + character.len_utf8();
        }
        out.write_all(fragment.get(from..).unwrap_or_default().as_bytes())
    }
}

/// All are below U+10000, so they take one escape.
fn is_escaped(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_integers_are_texts_for_browsers() {
        let numbers =
            (i64::MIN, -9_007_199_254_740_991_i64, 9_007_199_254_740_991_u64, 9_007_199_254_740_992_u64, 0.5);
        let mut out = Vec::new();
        write_json_for_browser(&numbers, &mut out).expect("a list takes everything");
        let expected =
            "[\"-9223372036854775808\",-9007199254740991,9007199254740991,\"9007199254740992\",0.5]\n";
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
    }

    #[test]
    fn what_a_terminal_could_obey_is_escaped() {
        let text = "a\u{9b}2J\u{7f}\u{1b}\u{202e}\u{2068}ü\"\\\n🦀";
        let mut out = Vec::new();
        write_json(&text, &mut out).expect("a list takes everything");
        let out = String::from_utf8(out).expect("UTF-8");
        assert_eq!(out, "\"a\\u009b2J\\u007f\\u001b\\u202e\\u2068ü\\\"\\\\\\n🦀\"\n");
        assert_eq!(serde_json::from_str::<String>(&out).expect("JSON"), text);
    }
}
