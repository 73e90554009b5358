//! Reading JSON as it comes, with no copy of it between the text and what is made of it.
//!
//! jiter reads it. Measured on requests of this project's, into OpenTelemetry's types, ns a span: 1,480,
//! and 2,050 with serde_json and derived structs that borrow, which are matched and moved at each level.
//! simd-json and sonic-rs read into such structs a third faster than serde_json, which is less; and nested
//! text can make sonic-rs overflow its stack (its issues 232 and 239). What nobody reads is passed over by `skip`. What jiter has of `unsafe` are views of
//! bytes as text, which was found to be UTF-8 before; and NEON on aarch64.

use std::str::FromStr;

use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, Peek};

use super::Faults;
use super::fault::{Fault, Found};
use super::skip;

/// A text, and how far it is read.
pub(super) struct Json<'a> {
    text: &'a str,
    /// Where `jiter` began.
    begin: usize,
    jiter: Jiter<'a>,
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
        Self { text, begin: 0, jiter: Jiter::new(text.as_bytes()) }
    }

    /// Nothing more may come.
    pub(super) fn end(&mut self) -> Result<(), Found> {
        Ok(self.jiter.finish()?)
    }

    /// Gives each known member of an object that is not null to `take`, which must read its value.
    pub(super) fn members<M: Member>(
        &mut self,
        mut take: impl FnMut(&mut Self, M) -> Result<(), Found>,
    ) -> Result<(), Found> {
        let mut seen = 0;
        let mut next = self.jiter.next_object()?.map(M::named);
        while let Some(member) = next {
            match member {
                Some(member) => {
                    if seen & member.bit() != 0 {
                        return Err(Found::new(Fault::WrongType, "a member that is there twice"));
                    }
                    seen |= member.bit();
                    match self.jiter.peek()? {
                        Peek::Null => self.jiter.known_null()?,
                        _ => take(self, member)?,
                    }
                }
                None => self.skip()?,
            }
            next = self.jiter.next_key()?.map(M::named);
        }
        Ok(())
    }

    /// Gives each key of an object to `take`, which must read its value.
    pub(super) fn entries(
        &mut self,
        mut take: impl FnMut(&mut Self, String) -> Result<(), Found>,
    ) -> Result<(), Found> {
        let mut next = self.jiter.next_object()?.map(str::to_owned);
        while let Some(key) = next {
            take(self, key)?;
            next = self.jiter.next_key()?.map(str::to_owned);
        }
        Ok(())
    }

    /// Lets `take` read each element of an array.
    pub(super) fn elements(
        &mut self,
        mut take: impl FnMut(&mut Self) -> Result<(), Found>,
    ) -> Result<(), Found> {
        let mut next = self.jiter.next_array()?;
        while next.is_some() {
            take(self)?;
            next = self.jiter.array_step()?;
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
        let start = self.position();
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
        self.jiter.peek()?;
        let start = self.position();
        self.skip()?;
        Ok(self.text.get(start..self.position()).unwrap_or_default())
    }

    /// Passes over a value, also over one that nobody could read: a text with half a character, or what is
    /// nested too deep.
    fn skip(&mut self) -> Result<(), Found> {
        let start = self.position();
        if let Some(end) = skip::value(self.text.as_bytes(), start) {
            self.go_to(end);
            return Ok(());
        }
        match self.jiter.next_skip() {
            Ok(()) => Ok(()),
            Err(_) => self.go_behind(start),
        }
    }

    pub(super) fn text(&mut self) -> Result<&str, Found> {
        Ok(self.jiter.next_str()?)
    }

    pub(super) fn string(&mut self) -> Result<String, Found> {
        self.text().map(str::to_owned)
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Found> {
        Ok(self.jiter.next_bool()?)
    }

    /// An integer, as a number or, as protobuf's JSON has it, as a string of digits.
    pub(super) fn integer<T: FromStr>(&mut self) -> Result<T, Found> {
        self.number("an integer in its range")
    }

    /// Protobuf's JSON writes what is no number in JSON as a text.
    pub(super) fn double(&mut self) -> Result<f64, Found> {
        let is_text = self.jiter.peek()? == Peek::String;
        let number: f64 = self.number("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")?;
        match is_text || number.is_finite() {
            true => Ok(number),
            false => Err(Found::new(Fault::WrongType, "a number that is too large")),
        }
    }

    fn number<T: FromStr>(&mut self, expected: &str) -> Result<T, Found> {
        let text = match self.jiter.peek()? {
            Peek::String => self.jiter.known_str()?,
            _ => std::str::from_utf8(self.jiter.next_number_bytes()?).unwrap_or_default(),
        };
        text.parse().map_err(|_| Found::new(Fault::WrongType, format!("{text:?} where {expected} belongs")))
    }

    /// A text, a truth value or a number.
    pub(super) fn scalar(&mut self) -> Result<Scalar, Found> {
        Ok(match self.jiter.peek()? {
            Peek::True | Peek::False => Scalar::Bool(self.boolean()?),
            peek if peek.is_num() => {
                let text = std::str::from_utf8(self.jiter.next_number_bytes()?).unwrap_or_default();
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

    fn position(&self) -> usize {
        self.begin + self.jiter.current_index()
    }

    /// Reads on behind the value at `start`.
    fn go_behind(&mut self, start: usize) -> Result<(), Found> {
        let text = self.text.get(start..).unwrap_or_default();
        // Not by jiter, for which a deep value has no end.
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
        values.next().transpose()?;
        self.go_to(start + values.byte_offset());
        Ok(())
    }

    fn go_to(&mut self, position: usize) {
        self.begin = position;
        self.jiter = Jiter::new(self.text.get(position..).unwrap_or_default().as_bytes());
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
