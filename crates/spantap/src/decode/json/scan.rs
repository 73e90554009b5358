//! The fast path through JSON text. `None` means that the text is in a rare form or invalid, and a slower path must read
//! it.

use std::ops::Range;

use super::member::Member;
use super::skip;

/// JSON text, and the position in it.
pub(in crate::decode) struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    pub(in crate::decode) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(in crate::decode) fn position(&self) -> usize {
        self.at
    }

    pub(in crate::decode) fn go_to(&mut self, position: usize) {
        self.at = position;
    }

    /// Skips white space and returns the next byte, without moving past it.
    #[inline]
    pub(in crate::decode) fn peek(&mut self) -> Option<u8> {
        self.at = skip::white(self.text, self.at);
        self.text.get(self.at).copied()
    }

    /// `None` unless only white space is left.
    pub(in crate::decode) fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    #[inline]
    pub(in crate::decode) fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Reads exactly `text`, without skipping white space.
    #[inline]
    pub(in crate::decode) fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.at = skip::literal(self.text, self.at, text)?;
        Some(())
    }

    /// After an element or a member, reads the comma or `close`. Returns whether another one follows.
    #[inline]
    pub(in crate::decode) fn has_more(&mut self, close: u8) -> Option<bool> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Some(true),
            byte => (byte == close).then_some(false),
        }
    }

    /// Enters a list or an object. Returns whether it has elements.
    #[inline]
    pub(in crate::decode) fn open(&mut self, open: u8, close: u8) -> Option<bool> {
        self.expect(open)?;
        let is_empty = self.peek()? == close;
        self.at += usize::from(is_empty);
        Some(!is_empty)
    }

    /// Reads a key and its colon. A usual name is recognized in one comparison. For others the end must be found first.
    #[inline]
    pub(in crate::decode) fn name<M: Member>(&mut self) -> Option<Option<M>> {
        self.peek()?;
        if let Some((member, length)) = M::in_front(self.text.get(self.at..)?) {
            self.at += length;
            return Some(Some(member));
        }
        let member = M::named(std::str::from_utf8(self.text()?).ok()?);
        self.expect(b':')?;
        Some(member)
    }

    /// The JSON text of a value.
    #[inline]
    pub(in crate::decode) fn value(&mut self) -> Option<&'a [u8]> {
        self.found(skip::value)
    }

    /// The text up to the end that `find` returns.
    #[inline]
    pub(in crate::decode) fn found(
        &mut self,
        find: impl FnOnce(&[u8], usize) -> Option<usize>,
    ) -> Option<&'a [u8]> {
        self.peek()?;
        let start = self.at;
        self.at = find(self.text, start)?;
        self.text.get(start..self.at)
    }

    /// A string without escapes.
    #[inline]
    pub(in crate::decode) fn text(&mut self) -> Option<&'a [u8]> {
        let text = self.text_at()?;
        self.text.get(text)
    }

    /// The range of a string without escapes, without its quotes.
    #[inline]
    pub(in crate::decode) fn text_at(&mut self) -> Option<Range<usize>> {
        self.expect(b'"')?;
        let start = self.at;
        let end = skip::special(self.text, start)?;
        self.at = end + 1;
        (self.text[end] == b'"').then_some(start..end)
    }

    /// Calls `read`. If it returns `None`, restores the position.
    #[inline]
    pub(in crate::decode) fn attempt<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let start = self.at;
        let read = read(self);
        if read.is_none() {
            self.at = start;
        }
        read
    }
}
