//! Going through a text from value to value. `None`: it is not what it should be, or seldom.

use std::ops::Range;

use super::json::Member;
use super::skip;

/// A text, and how far it is read.
pub(super) struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// How far it is read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn go_to(&mut self, position: usize) {
        self.at = position;
    }

    /// The next byte that is no white space.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        self.at = skip::white(self.text, self.at);
        self.text.get(self.at).copied()
    }

    /// Nothing more may come.
    pub(super) fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Just this.
    #[inline]
    pub(super) fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.at = skip::literal(self.text, self.at, text)?;
        Some(())
    }

    /// Behind an element or a member: whether another one comes.
    #[inline]
    pub(super) fn has_more(&mut self, close: u8) -> Option<bool> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Some(true),
            byte => (byte == close).then_some(false),
        }
    }

    /// Whether there is anything in what begins here.
    #[inline]
    pub(super) fn open(&mut self, open: u8, close: u8) -> Option<bool> {
        self.expect(open)?;
        let is_empty = self.peek()? == close;
        self.at += usize::from(is_empty);
        Some(!is_empty)
    }

    /// Which member comes. Where its end is, and what it is, is known at once if it is as usual; else its text
    /// has to be looked through first.
    #[inline]
    pub(super) fn name<M: Member>(&mut self) -> Option<Option<M>> {
        self.peek()?;
        if let Some((member, length)) = M::in_front(self.text.get(self.at..)?) {
            self.at += length;
            return Some(Some(member));
        }
        let member = M::named(std::str::from_utf8(self.text()?).ok()?);
        self.expect(b':')?;
        Some(member)
    }

    /// A value as it stands.
    #[inline]
    pub(super) fn value(&mut self) -> Option<&'a [u8]> {
        self.found(skip::value)
    }

    /// What `find` knows the end of.
    #[inline]
    pub(super) fn found(&mut self, find: impl FnOnce(&[u8], usize) -> Option<usize>) -> Option<&'a [u8]> {
        self.peek()?;
        let start = self.at;
        self.at = find(self.text, start)?;
        self.text.get(start..self.at)
    }

    /// A text without escapes.
    #[inline]
    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let text = self.text_at()?;
        self.text.get(text)
    }

    /// Where it is.
    #[inline]
    pub(super) fn text_at(&mut self) -> Option<Range<usize>> {
        self.expect(b'"')?;
        let start = self.at;
        let end = skip::special(self.text, start)?;
        self.at = end + 1;
        (self.text[end] == b'"').then_some(start..end)
    }

    /// What `read` makes of what comes; if it can't, as if it had not begun.
    #[inline]
    pub(super) fn attempt<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let start = self.at;
        let read = read(self);
        if read.is_none() {
            self.at = start;
        }
        read
    }
}
