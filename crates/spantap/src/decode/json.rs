//! Reading JSON as it comes, with no copy of it between the text and what is made of it.
//!
//! What is as usual is read by `scan`. At whatever is not, jiter reads on from there, and says what is wrong. Measured on
//! requests of this project's, into OpenTelemetry's types: jiter alone takes twice as long, and serde_json with derived
//! structs that borrow, which are matched and moved at each level, 1.4 times as long as that.
//! simd-json and sonic-rs read into such structs a third faster than serde_json, which is less; and nested
//! text can make sonic-rs overflow its stack (its issues 232 and 239). What nobody reads is passed over by `skip`. What
//! jiter has of `unsafe` are views of bytes as text, which was found to be UTF-8 before; and NEON on aarch64.

use std::borrow::Cow;
use std::str::FromStr;

use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType};

use super::Faults;
use super::fault::{Fault, Found};
use super::scan::Scan;
use super::skip;

/// A text, and how far it is read.
pub(super) struct Json<'a> {
    text: &'a str,
    scan: Scan<'a>,
}

/// The members of an object that mean something.
pub(super) trait Member: Copy {
    /// None: it is to be skipped.
    fn named(key: &str) -> Option<Self>;

    /// The one whose name `text` begins with, in quotation marks and with a colon, and the length of that.
    fn in_front(text: &[u8]) -> Option<(Self, usize)>;

    /// Each has its own.
    fn bit(self) -> u32;
}

/// An enum of the members of an object: `members! { Link { TraceId = "traceId" } }`.
macro_rules! members {
    ($visibility:vis $name:ident { $($member:ident = $key:literal),+ $(,)? }) => {
        #[derive(Clone, Copy)]
        $visibility enum $name {
            $($member),+
        }

        impl $crate::decode::json::Member for $name {
            fn named(key: &str) -> Option<Self> {
                match key {
                    $($key => Some(Self::$member),)+
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

            fn bit(self) -> u32 {
                1 << self as u32
            }
        }
    };
}
pub(super) use members;

impl<'a> Json<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, scan: Scan::new(text.as_bytes()) }
    }

    /// Nothing more may come.
    pub(super) fn end(&mut self) -> Result<(), Found> {
        self.read(Scan::end, Jiter::finish)
    }

    /// What `usual` reads or, if it is not as usual, `seldom`.
    #[inline]
    fn read<T>(
        &mut self,
        usual: impl FnOnce(&mut Scan<'a>) -> Option<T>,
        seldom: impl FnOnce(&mut Jiter<'a>) -> Result<T, JiterError>,
    ) -> Result<T, Found> {
        match self.scan.attempt(usual) {
            Some(read) => Ok(read),
            None => self.read_seldom(seldom),
        }
    }

    /// What `usual` reads; nothing, if it is not as usual.
    #[inline]
    pub(super) fn as_usual<T>(&mut self, usual: impl FnOnce(&str, &mut Scan<'a>) -> Option<T>) -> Option<T> {
        let text = self.text;
        self.scan.attempt(|scan| usual(text, scan))
    }

    #[cold]
    fn read_seldom<T>(
        &mut self,
        seldom: impl FnOnce(&mut Jiter<'a>) -> Result<T, JiterError>,
    ) -> Result<T, Found> {
        let start = self.scan.position();
        let mut jiter = Jiter::new(self.text.get(start..).unwrap_or_default().as_bytes());
        let read = seldom(&mut jiter)?;
        self.scan.go_to(start + jiter.current_index());
        Ok(read)
    }

    /// Gives each known member of an object that is not null to `take`, which must read its value.
    #[inline]
    pub(super) fn members<M: Member>(
        &mut self,
        mut take: impl FnMut(&mut Self, M) -> Result<(), Found>,
    ) -> Result<(), Found> {
        let mut seen = 0;
        let name = |scan: &mut Scan<'a>, is_there: bool| match is_there {
            true => scan.name::<M>().map(Some),
            false => Some(None),
        };
        let first = |scan: &mut Scan<'a>| scan.open(b'{', b'}').and_then(|is_there| name(scan, is_there));
        let mut next = self.read(first, |jiter| Ok(jiter.next_object()?.map(M::named)))?;
        while let Some(member) = next {
            match member {
                Some(member) => {
                    if seen & member.bit() != 0 {
                        return Err(Found::new(Fault::WrongType, "a member that is there twice"));
                    }
                    seen |= member.bit();
                    match self.scan.peek() {
                        Some(b'n') => self.read(|_| None, Jiter::next_null)?,
                        _ => take(self, member)?,
                    }
                }
                None => self.skip()?,
            }
            let following =
                |scan: &mut Scan<'a>| scan.has_more(b'}').and_then(|is_there| name(scan, is_there));
            next = self.read(following, |jiter| Ok(jiter.next_key()?.map(M::named)))?;
        }
        Ok(())
    }

    /// Gives each key of an object to `take`, which must read its value.
    #[inline]
    pub(super) fn entries(
        &mut self,
        mut take: impl FnMut(&mut Self, String) -> Result<(), Found>,
    ) -> Result<(), Found> {
        let whole = self.text;
        let key = |scan: &mut Scan<'a>, is_there: bool| {
            if !is_there {
                return Some(None);
            }
            let at = scan.text_at()?;
            scan.expect(b':')?;
            whole.get(at).map(|key| Some(key.to_owned()))
        };
        let owned = |key: Option<&str>| key.map(str::to_owned);
        let first = |scan: &mut Scan<'a>| scan.open(b'{', b'}').and_then(|is_there| key(scan, is_there));
        let mut next = self.read(first, |jiter| jiter.next_object().map(owned))?;
        while let Some(found) = next {
            take(self, found)?;
            let following =
                |scan: &mut Scan<'a>| scan.has_more(b'}').and_then(|is_there| key(scan, is_there));
            next = self.read(following, |jiter| jiter.next_key().map(owned))?;
        }
        Ok(())
    }

    /// Lets `take` read each element of an array.
    #[inline]
    pub(super) fn elements(
        &mut self,
        mut take: impl FnMut(&mut Self) -> Result<(), Found>,
    ) -> Result<(), Found> {
        let open = |scan: &mut Scan<'a>| scan.open(b'[', b']');
        let mut more = self.read(open, |jiter| Ok(jiter.next_array()?.is_some()))?;
        while more {
            take(self)?;
            let has_more = |scan: &mut Scan<'a>| {
                let more = scan.has_more(b']')?;
                (!more || scan.peek()? != b']').then_some(more)
            };
            more = self.read(has_more, |jiter| Ok(jiter.array_step()?.is_some()))?;
        }
        Ok(())
    }

    /// Lets `read` read a value. What is wrong with it is noted, as long as it is JSON, and what comes behind
    /// it is read on from there. Whether all was well.
    pub(super) fn alone(
        &mut self,
        faults: &mut Faults,
        read: impl FnOnce(&mut Self, &mut Faults) -> Result<(), Found>,
    ) -> Result<bool, Found> {
        let start = self.scan.position();
        let Err(found) = read(self, faults) else { return Ok(true) };
        self.go_behind(start)?;
        faults.add(found);
        Ok(false)
    }

    /// Appends what `read` makes of a value, if it can.
    pub(super) fn append<T: Default>(
        &mut self,
        list: &mut Vec<T>,
        faults: &mut Faults,
        read: impl FnOnce(&mut Self, &mut Faults, &mut T) -> Result<(), Found>,
    ) -> Result<bool, Found> {
        // In its place: spans are large.
        list.push(T::default());
        let Some(place) = list.last_mut() else { return Ok(false) };
        let is_read = self.alone(faults, |json, faults| read(json, faults, place))?;
        if !is_read {
            list.pop();
        }
        Ok(is_read)
    }

    /// A value as it stands.
    pub(super) fn raw(&mut self) -> Result<&'a str, Found> {
        // Behind the white space.
        self.read(|scan| scan.peek().map(drop), |jiter| jiter.peek().map(drop))?;
        let start = self.scan.position();
        self.skip()?;
        Ok(self.text.get(start..self.scan.position()).unwrap_or_default())
    }

    /// Passes over a value, also over one that nobody could read: a text with half a character, or what is
    /// nested too deep.
    fn skip(&mut self) -> Result<(), Found> {
        let start = self.scan.position();
        let passed = self.read(|scan| scan.value().map(drop), Jiter::next_skip);
        passed.or_else(|_| self.go_behind(start))
    }

    #[inline]
    pub(super) fn text(&mut self) -> Result<Cow<'a, str>, Found> {
        let whole = self.text;
        self.read(
            |scan| scan.text_at().and_then(|at| whole.get(at)).map(Cow::Borrowed),
            |jiter| Ok(Cow::Owned(jiter.next_str()?.to_owned())),
        )
    }

    #[inline]
    pub(super) fn string(&mut self) -> Result<String, Found> {
        self.text().map(Cow::into_owned)
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Found> {
        self.read(|_| None, Jiter::next_bool)
    }

    /// An integer, as a number or, as protobuf's JSON has it, as a string of digits.
    #[inline]
    pub(super) fn integer<T: FromStr>(&mut self) -> Result<T, Found> {
        self.number("an integer in its range")
    }

    /// Protobuf's JSON writes what is no number in JSON as a text.
    pub(super) fn double(&mut self) -> Result<f64, Found> {
        let is_text = self.scan.peek() == Some(b'"');
        let number: f64 = self.number("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")?;
        match is_text || number.is_finite() {
            true => Ok(number),
            false => Err(Found::new(Fault::WrongType, "a number that is too large")),
        }
    }

    #[inline]
    fn number<T: FromStr>(&mut self, expected: &str) -> Result<T, Found> {
        let text = match self.scan.peek() {
            Some(b'"') => self.text()?,
            _ => Cow::Borrowed(self.digits()?),
        };
        text.parse().map_err(|_| Found::new(Fault::WrongType, format!("{text:?} where {expected} belongs")))
    }

    /// A number as it stands.
    fn digits(&mut self) -> Result<&'a str, Found> {
        let bytes = self.read(
            |scan| scan.found(skip::number),
            |jiter| {
                let length = jiter.next_number_bytes()?.len();
                let end = jiter.current_index();
                Ok(jiter.slice_to_current(end - length))
            },
        )?;
        Ok(std::str::from_utf8(bytes).unwrap_or_default())
    }

    /// A text, a truth value or a number.
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
            _ => Scalar::Text(self.string()?),
        })
    }

    /// Reads on behind the value at `start`.
    fn go_behind(&mut self, start: usize) -> Result<(), Found> {
        let text = self.text.get(start..).unwrap_or_default();
        // Not by jiter, for which a deep value has no end.
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
        values.next().transpose()?;
        self.scan.go_to(start + values.byte_offset());
        Ok(())
    }
}

/// What a tag may be.
pub(super) enum Scalar {
    Text(String),
    Bool(bool),
    Int(i64),
    Double(f64),
}

impl From<JiterError> for Found {
    fn from(error: JiterError) -> Self {
        use JsonErrorType as Json;
        let fault = match &error.error_type {
            JiterErrorType::WrongType { .. } => Fault::WrongType,
            JiterErrorType::JsonError(error) => match error {
                Json::EofWhileParsingList
                | Json::EofWhileParsingObject
                | Json::EofWhileParsingString
                | Json::EofWhileParsingValue => Fault::CutShort,
                Json::RecursionLimitExceeded => Fault::TooDeep,
                // Where something else than a number belongs.
                Json::NumberOutOfRange => Fault::WrongType,
                _ => Fault::NotJson,
            },
        };
        // Without its position, which is one behind what was refused before.
        Self::new(fault, error.error_type.to_string())
    }
}
