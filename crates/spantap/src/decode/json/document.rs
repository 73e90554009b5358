//! Reads JSON member by member and element by element.

use serde::de::{Deserialize, IgnoredAny};

use super::member::Member;
use super::scan::Scan;
use crate::decode::fault::{Fault, Found};
use crate::decode::faults::Faults;
use crate::process::Sequence;

/// JSON text, the position in it, and the faults found so far.
pub(in crate::decode) struct Json<'a> {
    pub(super) text: &'a str,
    pub(super) scan: Scan<'a>,
    /// How many unknown members were skipped.
    pub(in crate::decode) unknown: u64,
    pub(in crate::decode) faults: Faults,
    /// The position of the datagram among its sender's, from the member `tracingUsdt`.
    pub(in crate::decode) sequence: Option<Sequence>,
}

impl<'a> Json<'a> {
    pub(in crate::decode) fn new(text: &'a str, faults: Faults) -> Self {
        Self { text, scan: Scan::new(text.as_bytes()), unknown: 0, faults, sequence: None }
    }

    /// The next byte that is not white space.
    pub(in crate::decode) fn first(&mut self) -> Option<u8> {
        self.scan.peek()
    }

    /// The rest of the text.
    pub(in crate::decode) fn rest(&self) -> &'a str {
        self.text.get(self.scan.position()..).unwrap_or_default()
    }

    /// Fails unless only white space is left.
    pub(in crate::decode) fn end(&mut self) -> Result<(), Found> {
        match self.scan.end() {
            Some(()) => Ok(()),
            None => Err(Found::new(Fault::NotJson, "more text after the end")),
        }
    }

    /// Tries the fast path `usual`. If it returns `None`, the position is unchanged.
    #[inline]
    pub(in crate::decode) fn as_usual<T>(
        &mut self,
        usual: impl FnOnce(&str, &mut Scan<'a>) -> Option<T>,
    ) -> Option<T> {
        let text = self.text;
        self.scan.attempt(|scan| usual(text, scan))
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
        self.each_member(take, |json, start, member, found| {
            json.skip_value_at(start)?;
            json.faults.leave_out(found.of(member.name()));
            Ok(())
        })
    }

    /// Like [`optional_members`](Self::optional_members), for members that hold spans: one that `take` can't read counts
    /// as refused.
    #[inline]
    pub(in crate::decode) fn members_of_spans<M: Member>(
        &mut self,
        take: impl FnMut(&mut Self, M) -> Result<(), Found>,
    ) -> Result<(), Found> {
        self.each_member(take, |json, start, member, found| {
            json.skip_value_at(start)?;
            json.faults.add(found.of(member.name()));
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

    /// Reads an object. Calls `take` with each key; `take` must read its value.
    #[inline]
    pub(in crate::decode) fn entries(
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

    /// Reads an array. Calls `take` for each element; `take` must read it.
    #[inline]
    pub(in crate::decode) fn elements(
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
            match json.attempt(&mut read)? {
                Ok(element) => list.push(element),
                Err(found) => json.drop_one(dropped, found),
            }
            Ok(())
        })
    }

    /// Counts a part of a span that is left out.
    #[cold]
    pub(in crate::decode) fn drop_one(&mut self, dropped: &mut u32, found: Found) {
        *dropped = dropped.saturating_add(1);
        self.faults.leave_out(found);
    }

    /// Reads a value with `read` and returns its result. In either case the position is after the value. Fails if the
    /// value is not JSON.
    #[inline]
    pub(in crate::decode) fn attempt<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Found>,
    ) -> Result<Result<T, Found>, Found> {
        let start = self.scan.position();
        let read = read(self);
        if read.is_err() {
            self.skip_value_at(start)?;
        }
        Ok(read)
    }

    /// The JSON text of a value.
    pub(in crate::decode) fn raw(&mut self) -> Result<&'a str, Found> {
        // Skips white space.
        self.scan.peek();
        let start = self.scan.position();
        self.skip()?;
        Ok(self.text.get(start..self.scan.position()).unwrap_or_default())
    }

    /// Enters a list or an object. Returns whether it has elements.
    #[inline]
    fn open(&mut self, open: u8, close: u8) -> Result<bool, Found> {
        match self.scan.attempt(|scan| scan.open(open, close)) {
            Some(has_elements) => Ok(has_elements),
            None => self.open_other(if open == b'{' { "an object" } else { "a list" }),
        }
    }

    /// Accepts `[]` for `{}` and the reverse: PHP and Lua do not distinguish empty lists from empty objects.
    #[cold]
    fn open_other(&mut self, expected: &str) -> Result<bool, Found> {
        let empty = |open, close| {
            move |scan: &mut Scan<'a>| scan.open(open, close).filter(|has_elements| !has_elements)
        };
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

    /// Reads a key that may have escapes, and its colon.
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

    /// Skips a value.
    fn skip(&mut self) -> Result<(), Found> {
        match self.scan.attempt(|scan| scan.value().map(drop)) {
            Some(()) => Ok(()),
            None => self.skip_value_at(self.scan.position()),
        }
    }

    /// Moves to the end of the value at `start`.
    #[cold]
    fn skip_value_at(&mut self, start: usize) -> Result<(), Found> {
        self.deserialize_at(start).map(|IgnoredAny| ())
    }

    /// Reads the value at `start` with serde_json, and moves to its end.
    pub(super) fn deserialize_at<T: Deserialize<'a>>(&mut self, start: usize) -> Result<T, Found> {
        let text = self.text.get(start..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_str(text).into_iter();
        let read = values.next().ok_or_else(|| Found::new(Fault::CutShort, "a value is missing"))??;
        self.scan.go_to(start + values.byte_offset());
        Ok(read)
    }

    /// The fault for a value that is not the `expected` one. Does not move.
    #[cold]
    pub(super) fn unexpected(&mut self, expected: &str) -> Found {
        let start = self.scan.position();
        let raw = self.raw();
        self.scan.go_to(start);
        raw.map_or_else(|found| found, |raw| Found::misplaced(raw, expected))
    }

    /// The fault for a missing comma, colon, bracket or key.
    #[cold]
    fn broken(&mut self) -> Found {
        match self.scan.peek() {
            None => Found::new(Fault::CutShort, "a list or an object without an end"),
            Some(_) => {
                let found = Found::misplaced(self.rest(), "a comma, a colon, a bracket or a key");
                Found { fault: Fault::NotJson, ..found }
            }
        }
    }
}
