//! Reading JSON as it comes, with no copy of it between the text and what is made of it.
//!
//! `scan` reads what is as usual. serde_json reads the rest on from there, as leniently as RFC 8259 allows: half of
//! a surrogate pair becomes U+FFFD, and nesting has no limit. A value that can't be read costs no more than
//! itself: [`Json::attempt`] goes on behind it. `skip` passes over what nobody reads.
//!
//! Measured on requests of this project's, into OpenTelemetry's types: serde_json with derived structs that borrow,
//! which are matched and moved at each level, takes 1.4 times as long as jiter alone, which takes twice as long as this.

use std::borrow::Cow;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, IgnoredAny, Visitor};

use super::Faults;
use super::fault::{Fault, Found};
use super::scan::Scan;
use super::skip;
use crate::sequence::Sequence;

/// A text, how far it is read, and what was odd about that.
pub(super) struct Json<'a> {
    text: &'a str,
    scan: Scan<'a>,
    /// Members that mean nothing here.
    pub(super) unknown: u64,
    pub(super) faults: Faults,
    /// Where the text stands among all that its sender sends.
    pub(super) sequence: Option<Sequence>,
}

/// The members of an object that mean something.
pub(super) trait Member: Copy {
    /// None for an unknown name.
    fn named(key: &str) -> Option<Self>;

    /// The one whose name `text` begins with, in quotation marks and with a colon, and the length of that.
    fn in_front(text: &[u8]) -> Option<(Self, usize)>;

    /// Its name.
    fn name(self) -> &'static str;

    /// A distinct bit per member, to detect duplicates.
    fn bit(self) -> u32;
}

/// An enum of the members of an object, with the usual name of each, and its other names:
/// `members! { Link { TraceId = "traceId" | "trace_id" } }`.
macro_rules! members {
    ($visibility:vis $name:ident { $($member:ident = $key:literal $(| $other:literal)*),+ $(,)? }) => {
        #[derive(Clone, Copy)]
        $visibility enum $name {
            $($member),+
        }

        impl $crate::decode::json::Member for $name {
            fn named(key: &str) -> Option<Self> {
                match key {
                    $($key $(| $other)* => Some(Self::$member),)+
                    _ => None,
                }
            }

            #[inline]
            fn in_front(text: &[u8]) -> Option<(Self, usize)> {
                $(if text.starts_with(concat!('"', $key, "\":").as_bytes()) {
                    return Some((Self::$member, $key.len() + 3));
                })+
                None
            }

            fn name(self) -> &'static str {
                match self {
                    $(Self::$member => $key,)+
                }
            }

            fn bit(self) -> u32 {
                1 << self as u32
            }
        }
    };
}
pub(super) use members;

impl<'a> Json<'a> {
    pub(super) fn new(text: &'a str, faults: Faults) -> Self {
        Self { text, scan: Scan::new(text.as_bytes()), unknown: 0, faults, sequence: None }
    }

    /// The byte that comes first, behind white space.
    pub(super) fn first(&mut self) -> Option<u8> {
        self.scan.peek()
    }

    /// The text that is not read yet.
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.scan.position()..).unwrap_or_default()
    }

    /// Nothing more may come.
    pub(super) fn end(&mut self) -> Result<(), Found> {
        match self.scan.end() {
            Some(()) => Ok(()),
            None => Err(Found::new(Fault::NotJson, "more text behind the end")),
        }
    }

    /// What `usual` reads; nothing, if it is not as usual.
    #[inline]
    pub(super) fn as_usual<T>(&mut self, usual: impl FnOnce(&str, &mut Scan<'a>) -> Option<T>) -> Option<T> {
        let text = self.text;
        self.scan.attempt(|scan| usual(text, scan))
    }

    /// Gives each known member of an object that is not null to `take`, which must read its value. A member that is
    /// there twice is given twice.
    #[inline]
    pub(super) fn members<M: Member>(
        &mut self,
        take: impl FnMut(&mut Self, M) -> Result<(), Found>,
    ) -> Result<(), Found> {
        self.each_member(take, |_, _, _, found| Err(found))
    }

    /// The same, but a member that `take` can't read is left out, and the others are taken.
    #[inline]
    pub(super) fn optional_members<M: Member>(
        &mut self,
        take: impl FnMut(&mut Self, M) -> Result<(), Found>,
    ) -> Result<(), Found> {
        self.each_member(take, |json, start, member, found| {
            json.go_behind(start)?;
            json.faults.leave_out(found.of(member.name()));
            Ok(())
        })
    }

    /// The same for members that hold spans: one that `take` can't read is refused, and the spans of the others are taken.
    #[inline]
    pub(super) fn members_of_spans<M: Member>(
        &mut self,
        take: impl FnMut(&mut Self, M) -> Result<(), Found>,
    ) -> Result<(), Found> {
        self.each_member(take, |json, start, member, found| {
            json.go_behind(start)?;
            json.faults.add(found.of(member.name()));
            Ok(())
        })
    }

    /// `fail` decides what it means that `take` can't read a member. It gets the start of the member's value.
    #[inline]
    fn each_member<M: Member>(
        &mut self,
        mut take: impl FnMut(&mut Self, M) -> Result<(), Found>,
        mut fail: impl FnMut(&mut Self, usize, M, Found) -> Result<(), Found>,
    ) -> Result<(), Found> {
        let mut seen = 0;
        let mut more = self.open(b'{', b'}')?;
        while more {
            let member = match self.scan.attempt(Scan::name) {
                Some(member) => member,
                None => M::named(&self.key()?),
            };
            match member {
                Some(member) => {
                    if seen & member.bit() != 0 {
                        self.faults.note(Fault::Duplicate, || member.name().to_owned());
                    }
                    seen |= member.bit();
                    if !self.is_null() {
                        let start = self.scan.position();
                        if let Err(found) = take(self, member) {
                            fail(self, start, member, found)?;
                        }
                    }
                }
                None => {
                    self.unknown += 1;
                    self.skip()?;
                }
            }
            more = self.has_more(b'}')?;
        }
        Ok(())
    }

    /// Gives each key of an object to `take`, which must read its value.
    #[inline]
    pub(super) fn entries(
        &mut self,
        mut take: impl FnMut(&mut Self, String) -> Result<(), Found>,
    ) -> Result<(), Found> {
        let mut more = self.open(b'{', b'}')?;
        while more {
            let usual = self.as_usual(|text, scan| {
                let key = text.get(scan.text_at()?)?;
                scan.expect(b':')?;
                Some(key.to_owned())
            });
            let key = match usual {
                Some(key) => key,
                None => self.key()?,
            };
            take(self, key)?;
            more = self.has_more(b'}')?;
        }
        Ok(())
    }

    /// Lets `take` read each element of an array.
    #[inline]
    pub(super) fn elements(
        &mut self,
        mut take: impl FnMut(&mut Self) -> Result<(), Found>,
    ) -> Result<(), Found> {
        let mut more = self.open(b'[', b']')?;
        while more {
            take(self)?;
            more = self.has_more(b']')?;
        }
        Ok(())
    }

    /// Appends what `read` makes of each element of an array. An element that it can't read is left out and counted
    /// in `dropped`.
    #[inline]
    pub(super) fn append<T>(
        &mut self,
        list: &mut Vec<T>,
        dropped: &mut u32,
        mut read: impl FnMut(&mut Self) -> Result<T, Found>,
    ) -> Result<(), Found> {
        self.elements(|json| {
            match json.attempt(&mut read)? {
                Ok(element) => list.push(element),
                Err(found) => json.drop_one(dropped, found),
            }
            Ok(())
        })
    }

    /// Counts a part of a span that can't be read.
    #[cold]
    pub(super) fn drop_one(&mut self, dropped: &mut u32, found: Found) {
        *dropped = dropped.saturating_add(1);
        self.faults.leave_out(found);
    }

    /// What `read` makes of a value, or why it can't. Either way the text behind the value is read next; fails if the
    /// value is not JSON.
    #[inline]
    pub(super) fn attempt<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Found>,
    ) -> Result<Result<T, Found>, Found> {
        let start = self.scan.position();
        let read = read(self);
        if read.is_err() {
            self.go_behind(start)?;
        }
        Ok(read)
    }

    /// A value as it stands.
    pub(super) fn raw(&mut self) -> Result<&'a str, Found> {
        // Behind the white space.
        self.scan.peek();
        let start = self.scan.position();
        self.skip()?;
        Ok(self.text.get(start..self.scan.position()).unwrap_or_default())
    }

    /// A text.
    #[inline]
    pub(super) fn text(&mut self) -> Result<Cow<'a, str>, Found> {
        match self.as_usual(|_, scan| scan.text_at()).and_then(|at| self.text.get(at)) {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => self.unusual_text().map(Cow::Owned),
        }
    }

    /// A text; or anything else as it stands, where all that matters is what a reader sees.
    #[inline]
    pub(super) fn string(&mut self) -> Result<String, Found> {
        match self.scan.peek() {
            Some(b'"') => self.text().map(Cow::into_owned),
            _ => self.raw().map(str::to_owned),
        }
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Found> {
        let is =
            |text: &'static [u8]| move |scan: &mut Scan<'a>| scan.peek().and_then(|_| scan.literal(text));
        if self.scan.attempt(is(b"true")).is_some() {
            Ok(true)
        } else if self.scan.attempt(is(b"false")).is_some() {
            Ok(false)
        } else {
            Err(self.unexpected("true or false"))
        }
    }

    /// An integer. As protobuf's JSON has it, it may be written with a fraction of zeros, with an exponent, or in a
    /// text.
    #[inline]
    pub(super) fn integer<T: FromStr + TryFrom<i128>>(&mut self) -> Result<T, Found> {
        let text = self.number_text("an integer")?;
        text.parse().or_else(|_| {
            let integer = decimal(&text).filter(|(_, is_whole)| *is_whole);
            integer
                .and_then(|(integer, _)| T::try_from(integer).ok())
                .ok_or_else(|| misplaced(&text, "an integer in its range"))
        })
    }

    /// A time or a duration: an integer that is not negative. What is less than one of the units is cut off.
    #[inline]
    pub(super) fn time(&mut self) -> Result<u64, Found> {
        let text = self.number_text("a time")?;
        text.parse().or_else(|_| {
            let time = decimal(&text).and_then(|(time, _)| u64::try_from(time).ok());
            time.ok_or_else(|| misplaced(&text, "a time"))
        })
    }

    /// Protobuf's JSON writes what is no number in JSON as a text.
    pub(super) fn double(&mut self) -> Result<f64, Found> {
        let is_text = self.is_text();
        let text = self.number_text("a number")?;
        match text.parse::<f64>() {
            Ok(number) if is_text || number.is_finite() => Ok(number),
            _ => Err(misplaced(&text, "a number in its range")),
        }
    }

    /// What protobuf calls an enum: a number, or a name of those that `named` knows.
    pub(super) fn choice(&mut self, named: impl FnOnce(&str) -> Option<i32>) -> Result<i32, Found> {
        if !self.is_text() {
            return self.integer();
        }
        let text = self.text()?;
        named(&text).or_else(|| text.parse().ok()).ok_or_else(|| misplaced(&text, "one of the known values"))
    }

    /// A value that becomes a tag: a list or an object as it stands.
    #[inline]
    pub(super) fn scalar(&mut self) -> Result<Scalar, Found> {
        Ok(match self.scan.peek() {
            Some(b't' | b'f') => Scalar::Bool(self.boolean()?),
            Some(b'-' | b'0'..=b'9') => {
                let text = self.digits()?;
                let is_integer = !text.contains(['.', 'e', 'E']);
                match (text.parse(), text.parse::<f64>()) {
                    (Ok(number), _) => Scalar::Int(number),
                    (_, Ok(number)) if !is_integer && number.is_finite() => Scalar::Double(number),
                    // Like everywhere in OpenTelemetry: beyond 63 bits an integer is a text.
                    _ => Scalar::Text(text.to_owned()),
                }
            }
            Some(b'n') if self.is_null() => Scalar::Null,
            _ => Scalar::Text(self.string()?),
        })
    }

    /// Whether a text comes.
    pub(super) fn is_text(&mut self) -> bool {
        self.scan.peek() == Some(b'"')
    }

    /// Whether null comes, which is then passed over.
    #[inline]
    pub(super) fn is_null(&mut self) -> bool {
        self.scan.peek() == Some(b'n') && self.scan.attempt(|scan| scan.literal(b"null")).is_some()
    }

    /// Whether there is anything in the list or object that begins here.
    #[inline]
    fn open(&mut self, open: u8, close: u8) -> Result<bool, Found> {
        match self.scan.attempt(|scan| scan.open(open, close)) {
            Some(is_there) => Ok(is_there),
            None => self.open_other(if open == b'{' { "an object" } else { "a list" }),
        }
    }

    /// To PHP and Lua, an empty list and an empty object are the same.
    #[cold]
    fn open_other(&mut self, expected: &str) -> Result<bool, Found> {
        let empty =
            |open, close| move |scan: &mut Scan<'a>| scan.open(open, close).filter(|is_there| !is_there);
        let is_empty = self.scan.attempt(empty(b'[', b']')).or_else(|| self.scan.attempt(empty(b'{', b'}')));
        is_empty.ok_or_else(|| self.unexpected(expected))
    }

    #[inline]
    fn has_more(&mut self, close: u8) -> Result<bool, Found> {
        match self.scan.attempt(|scan| scan.has_more(close)) {
            Some(more) => Ok(more),
            None => Err(self.broken()),
        }
    }

    /// A key and its colon, if it has escapes.
    #[cold]
    fn key(&mut self) -> Result<String, Found> {
        if !self.is_text() {
            return Err(self.broken());
        }
        let key = self.unusual_text()?;
        match self.scan.expect(b':') {
            Some(()) => Ok(key),
            None => Err(self.broken()),
        }
    }

    /// A text with escapes.
    #[cold]
    fn unusual_text(&mut self) -> Result<String, Found> {
        if !self.is_text() {
            return Err(self.unexpected("a text"));
        }
        let start = self.scan.position();
        let Unescaped(mut bytes) = self.read_on(start)?;
        // serde_json takes control characters where it does not look for characters at all.
        let raw = self.text.get(start..self.scan.position()).unwrap_or_default();
        if raw.bytes().any(|byte| byte < b' ') {
            return Err(Found::new(Fault::NotJson, "a control character in a text"));
        }
        if replace_halves(&mut bytes) {
            self.faults.note(Fault::BadText, || String::from_utf8_lossy(&bytes).into_owned());
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A number as it stands, or a text in which there may be one.
    #[inline]
    fn number_text(&mut self, expected: &str) -> Result<Cow<'a, str>, Found> {
        match self.scan.peek() {
            Some(b'"') => self.text(),
            Some(b'-' | b'0'..=b'9') => self.digits().map(Cow::Borrowed),
            _ => Err(self.unexpected(expected)),
        }
    }

    fn digits(&mut self) -> Result<&'a str, Found> {
        match self.scan.attempt(|scan| scan.found(skip::number)) {
            Some(digits) => Ok(std::str::from_utf8(digits).unwrap_or_default()),
            None => Err(self.unexpected("a number")),
        }
    }

    /// Passes over a value.
    fn skip(&mut self) -> Result<(), Found> {
        match self.scan.attempt(|scan| scan.value().map(drop)) {
            Some(()) => Ok(()),
            None => self.go_behind(self.scan.position()),
        }
    }

    /// Reads on behind the value at `start`.
    #[cold]
    fn go_behind(&mut self, start: usize) -> Result<(), Found> {
        self.read_on(start).map(|IgnoredAny| ())
    }

    /// What serde_json makes of the value at `start`; then reads on behind it.
    fn read_on<T: Deserialize<'a>>(&mut self, start: usize) -> Result<T, Found> {
        let text = self.text.get(start..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_str(text).into_iter();
        let read = values.next().ok_or_else(|| Found::new(Fault::CutShort, "a value is missing"))??;
        self.scan.go_to(start + values.byte_offset());
        Ok(read)
    }

    /// Why the value that comes is not as `expected`.
    #[cold]
    fn unexpected(&mut self, expected: &str) -> Found {
        let start = self.scan.position();
        let raw = self.raw();
        self.scan.go_to(start);
        raw.map_or_else(|found| found, |raw| misplaced(raw, expected))
    }

    /// Why no comma, colon, bracket or key is where it should be.
    #[cold]
    fn broken(&mut self) -> Found {
        match self.scan.peek() {
            None => Found::new(Fault::CutShort, "a list or an object without an end"),
            Some(_) => {
                let found = misplaced(self.rest(), "a comma, a colon, a bracket or a key");
                Found { fault: Fault::NotJson, ..found }
            }
        }
    }
}

/// A value of another kind.
#[cold]
fn misplaced(text: &str, expected: &str) -> Found {
    let shown: String = text.chars().take(40).collect();
    Found::new(Fault::WrongType, format!("{shown:?} where {expected} belongs"))
}

/// The integer that a decimal number is, towards zero, and whether that is all of it. None if it is no number, or
/// beyond 128 bits.
fn decimal(text: &str) -> Option<(i128, bool)> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (digits, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
    let point = i64::try_from(before.len()).ok()?.checked_add(exponent.parse().ok()?)?;
    let (mut integer, mut is_whole, mut at) = (0_i128, true, 0);
    for digit in before.bytes().chain(after.bytes()) {
        let digit = digit.is_ascii_digit().then(|| i128::from(digit - b'0'))?;
        if at < point {
            integer = integer.checked_mul(10)?.checked_add(digit)?;
        } else {
            is_whole &= digit == 0;
        }
        at += 1;
    }
    if at == 0 {
        return None;
    }
    while at < point && integer != 0 {
        integer = integer.checked_mul(10)?;
        at += 1;
    }
    Some((if unsigned == text { integer } else { -integer }, is_whole))
}

/// What a tag may be.
pub(super) enum Scalar {
    Null,
    Text(String),
    Bool(bool),
    Int(i64),
    Double(f64),
}

/// The bytes of a text, in which there may be halves of surrogate pairs.
struct Unescaped(Vec<u8>);

impl<'de> Deserialize<'de> for Unescaped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Unescaped;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Unescaped, E> {
                Ok(Unescaped(bytes.to_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Puts U+FFFD in the place of each half of a surrogate pair, which is as long. Whether there was one.
fn replace_halves(bytes: &mut [u8]) -> bool {
    let mut found = false;
    for at in 0..bytes.len().saturating_sub(2) {
        // Encoded like a character, which no character is.
        if let [0xed, 0xa0..=0xbf, _] = bytes[at..at + 3] {
            bytes[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
            found = true;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_however_they_are_written() {
        for (text, expected) in [
            ("0", Some((0, true))),
            ("-0.0", Some((0, true))),
            ("2000.0", Some((2000, true))),
            ("2e3", Some((2000, true))),
            ("2E+3", Some((2000, true))),
            ("20000e-1", Some((2000, true))),
            ("1.764200000123456e+15", Some((1_764_200_000_123_456, true))),
            ("1764200000123456789.0", Some((1_764_200_000_123_456_789, true))),
            ("-9.223372036854775808e18", Some((i64::MIN.into(), true))),
            ("1.8446744073709551615E19", Some((u64::MAX.into(), true))),
            ("1.5", Some((1, false))),
            ("-1.5", Some((-1, false))),
            ("15e-1", Some((1, false))),
            ("1e-999999999", Some((0, false))),
            ("0e999999999", Some((0, true))),
            ("1e39", None),
            ("1e999999999", None),
            ("1e99999999999999999999", None),
            ("", None),
            (".", None),
            ("-", None),
            ("e5", None),
            ("1e", None),
            ("+1", None),
            ("0x10", None),
            ("1,5", None),
            ("NaN", None),
        ] {
            assert_eq!(decimal(text), expected, "{text}");
        }
    }

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
