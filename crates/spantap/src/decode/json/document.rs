//! Reads JSON member by member and element by element.

use std::borrow::Cow;

use serde::de::{Deserialize, IgnoredAny};

use super::member::Member;
use crate::decode::fault::{Fault, Found};
use crate::decode::faults::{ALLOCATION, Faults};
use crate::decode::open::OpenReport;
use crate::process::Sequence;

/// JSON text, the position in it, and the faults found so far.
pub(in crate::decode) struct Json<'a> {
    text: &'a str,
    /// The position.
    at: usize,
    /// How many unknown members were skipped.
    pub(in crate::decode) unknown: u64,
    pub(in crate::decode) faults: Faults,
    /// The position of the datagram among its sender's, from the member `tracingUsdt`.
    pub(in crate::decode) sequence: Option<Sequence>,
    /// The report of open spans, from the member `tracingUsdtOpen`.
    pub(in crate::decode) open: Option<OpenReport>,
}

impl<'a> Json<'a> {
    pub(in crate::decode) fn new(text: &'a str, faults: Faults) -> Self {
        Self { text, at: 0, unknown: 0, faults, sequence: None, open: None }
    }

    /// Skips white space. Returns the next byte.
    #[inline]
    pub(in crate::decode) fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let white = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count();
        self.at += white;
        rest.get(white).copied()
    }

    /// Moves past `text` if it is next.
    #[inline]
    pub(super) fn take(&mut self, text: &str) -> bool {
        let is_next = self.peek().is_some() && self.rest().starts_with(text);
        if is_next {
            self.at += text.len();
        }
        is_next
    }

    /// The rest of the text.
    pub(in crate::decode) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Fails unless only white space is left.
    pub(in crate::decode) fn end(&mut self) -> Result<(), Found> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Found::new(Fault::NotJson, "more text after the end")),
        }
    }

    /// Reads an object. Calls `take` for each known member that is not null; `take` must read its value. A member that
    /// occurs twice is passed twice.
    #[inline]
    pub(in crate::decode) fn members<M: Member>(
        &mut self,
        take: impl FnMut(&mut Self, M) -> Result<(), Found>,
    ) -> Result<(), Found> {
        self.each_member(take, |_, _, _, found| Err(found))
    }

    /// Like [`members`](Self::members), but leaves out a member that `take` can't read and goes on with the others.
    #[inline]
    pub(in crate::decode) fn optional_members<M: Member>(
        &mut self,
        take: impl FnMut(&mut Self, M) -> Result<(), Found>,
    ) -> Result<(), Found> {
        self.members_but(take, Faults::leave_out)
    }

    /// Like [`optional_members`](Self::optional_members), for members that hold spans: one that `take` can't read counts
    /// as refused.
    #[inline]
    pub(in crate::decode) fn members_of_spans<M: Member>(
        &mut self,
        take: impl FnMut(&mut Self, M) -> Result<(), Found>,
    ) -> Result<(), Found> {
        self.members_but(take, Faults::add)
    }

    /// Skips a member that `take` can't read, and counts it with `count`.
    #[inline]
    fn members_but<M: Member>(
        &mut self,
        take: impl FnMut(&mut Self, M) -> Result<(), Found>,
        count: fn(&mut Faults, Found),
    ) -> Result<(), Found> {
        self.each_member(take, |json, start, member, found| {
            json.at = start;
            json.skip()?;
            count(&mut json.faults, found.of(member.name()));
            Ok(())
        })
    }

    /// Calls `fail` with the start of a member's value if `take` can't read it.
    #[inline]
    fn each_member<M: Member>(
        &mut self,
        mut take: impl FnMut(&mut Self, M) -> Result<(), Found>,
        mut fail: impl FnMut(&mut Self, usize, M, Found) -> Result<(), Found>,
    ) -> Result<(), Found> {
        let mut seen = 0;
        let mut more = self.open("{", "}")?;
        while more {
            match M::named(&self.key()?) {
                Some(member) => {
                    if seen & member.bit() != 0 {
                        self.faults.note(Fault::Duplicate, || member.name().to_owned());
                    }
                    seen |= member.bit();
                    if !self.is_null() {
                        let start = self.at;
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
            more = self.has_more("}")?;
        }
        Ok(())
    }

    /// Reads an object. Calls `take` with each key; `take` must read its value.
    #[inline]
    pub(in crate::decode) fn entries(
        &mut self,
        mut take: impl FnMut(&mut Self, String) -> Result<(), Found>,
    ) -> Result<(), Found> {
        let mut more = self.open("{", "}")?;
        while more {
            let key = self.key()?.into_owned();
            take(self, key)?;
            more = self.has_more("}")?;
        }
        Ok(())
    }

    /// Reads an array. Calls `take` for each element; `take` must read it.
    #[inline]
    pub(in crate::decode) fn elements(
        &mut self,
        mut take: impl FnMut(&mut Self) -> Result<(), Found>,
    ) -> Result<(), Found> {
        let mut more = self.open("[", "]")?;
        while more {
            take(self)?;
            more = self.has_more("]")?;
        }
        Ok(())
    }

    /// Reads an array with `read` and appends its elements to `list`. An element that `read` can't read is left out and
    /// counted in `dropped`.
    #[inline]
    pub(in crate::decode) fn append<T>(
        &mut self,
        list: &mut Vec<T>,
        dropped: &mut u32,
        mut read: impl FnMut(&mut Self) -> Result<T, Found>,
    ) -> Result<(), Found> {
        self.elements(|json| {
            let element = json.attempt(|json| {
                json.faults.grow(size_of::<T>() + ALLOCATION)?;
                read(json)
            })?;
            match element {
                Ok(element) => list.push(element),
                // The next one does not fit, either.
                Err(found) if found.fault == Fault::TooMuch => return Err(found),
                Err(found) => {
                    *dropped = dropped.saturating_add(1);
                    json.faults.leave_out(found);
                }
            }
            Ok(())
        })
    }

    /// Reads a value with `read` and returns its result. In either case the position is after the value. Fails if the
    /// value is not JSON.
    #[inline]
    pub(in crate::decode) fn attempt<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Found>,
    ) -> Result<Result<T, Found>, Found> {
        let start = self.at;
        let read = read(self);
        if read.is_err() {
            self.at = start;
            self.skip()?;
        }
        Ok(read)
    }

    /// The JSON text of a value.
    pub(in crate::decode) fn raw(&mut self) -> Result<&'a str, Found> {
        self.peek();
        let start = self.at;
        self.skip()?;
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    /// Enters a list or an object. Returns whether it has elements.
    #[inline]
    fn open(&mut self, open: &str, close: &str) -> Result<bool, Found> {
        match self.take(open) {
            true => Ok(!self.take(close)),
            false => self.open_other(if open == "{" { "an object" } else { "a list" }),
        }
    }

    /// Accepts `[]` for `{}` and the reverse: PHP and Lua do not distinguish empty lists from empty objects.
    #[cold]
    fn open_other(&mut self, expected: &str) -> Result<bool, Found> {
        let start = self.at;
        for (open, close) in [("[", "]"), ("{", "}")] {
            if self.take(open) && self.take(close) {
                return Ok(false);
            }
            self.at = start;
        }
        Err(self.unexpected(expected))
    }

    #[inline]
    fn has_more(&mut self, close: &str) -> Result<bool, Found> {
        match self.take(",") {
            true => Ok(true),
            false if self.take(close) => Ok(false),
            false => Err(self.broken()),
        }
    }

    /// Reads a key and its colon.
    #[inline]
    fn key(&mut self) -> Result<Cow<'a, str>, Found> {
        if !self.is_text() {
            return Err(self.broken());
        }
        let key = self.text()?;
        if self.take(":") { Ok(key) } else { Err(self.broken()) }
    }

    /// Skips a value.
    fn skip(&mut self) -> Result<(), Found> {
        self.deserialize().map(|IgnoredAny| ())
    }

    /// Reads a value. If it can't, the position stays where it is.
    #[inline]
    pub(super) fn deserialize<T: Deserialize<'a>>(&mut self) -> Result<T, Found> {
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter();
        let read = values.next().ok_or_else(|| Found::new(Fault::CutShort, "a value is missing"))??;
        self.at += values.byte_offset();
        Ok(read)
    }

    /// The fault for a value that is not the `expected` one. Does not move.
    #[cold]
    pub(super) fn unexpected(&mut self, expected: &str) -> Found {
        let start = self.at;
        let raw = self.raw();
        self.at = start;
        raw.map_or_else(|found| found, |raw| Found::misplaced(raw, expected))
    }

    /// The fault for a missing comma, colon, bracket or key.
    #[cold]
    fn broken(&mut self) -> Found {
        match self.peek() {
            None => Found::new(Fault::CutShort, "a list or an object without an end"),
            Some(_) => {
                let found = Found::misplaced(self.rest(), "a comma, a colon, a bracket or a key");
                Found { fault: Fault::NotJson, ..found }
            }
        }
    }
}
