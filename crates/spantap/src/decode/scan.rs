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

    /// Lets `take` read each element of an array.
    #[inline]
    pub(super) fn elements(&mut self, mut take: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        let mut more = self.open(b'[', b']')?;
        while more {
            take(self)?;
            more = self.has_more(b']')?;
        }
        Some(())
    }

    /// Gives each known member of an object that is not null to `take`, which must read its value. None may
    /// be there twice.
    #[inline]
    pub(super) fn members<M: Member>(
        &mut self,
        mut take: impl FnMut(&mut Self, M) -> Option<()>,
    ) -> Option<()> {
        let mut seen = 0;
        let mut more = self.open(b'{', b'}')?;
        while more {
            match self.name::<M>()? {
                Some(member) => {
                    if seen & member.bit() != 0 {
                        return None;
                    }
                    seen |= member.bit();
                    match self.peek()? {
                        b'n' => drop(self.value()?),
                        _ => take(self, member)?,
                    }
                }
                None => drop(self.value()?),
            }
            more = self.has_more(b'}')?;
        }
        Some(())
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

    /// An id of so many hex digits, in lower case and not zero.
    #[inline]
    pub(super) fn id<const DIGITS: usize>(&mut self) -> Option<()> {
        self.expect(b'"')?;
        let digits: &[u8; DIGITS] = self.text.get(self.at..)?.first_chunk()?;
        // All of them, without a branch at each.
        let (mut is_hex, mut bits) = (true, 0);
        for digit in digits {
            is_hex &= matches!(digit, b'0'..=b'9' | b'a'..=b'f');
            bits |= digit ^ b'0';
        }
        self.at += DIGITS;
        (is_hex && bits != 0 && self.is_next(b'"')).then_some(())
    }

    /// Passes over a text.
    #[inline]
    pub(super) fn any_text(&mut self) -> Option<()> {
        self.expect(b'"')?;
        self.at = skip::string(self.text, self.at)?;
        Some(())
    }

    /// A number that is not negative, or, as protobuf's JSON has it, a text of its digits.
    #[inline]
    pub(super) fn integer(&mut self) -> Option<u64> {
        let is_text = self.peek()? == b'"';
        self.at += usize::from(is_text);
        let start = self.at;
        let mut number = 0_u64;
        while let Some(eight) = self.text.get(self.at..).and_then(eight_digits) {
            number = number.wrapping_mul(100_000_000).wrapping_add(eight);
            self.at += 8;
        }
        while let Some(digit @ b'0'..=b'9') = self.text.get(self.at) {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        // So many digits are surely no more than 64 bits; and a number of JSON begins with 0 only if it is 0.
        let digits = self.at - start;
        let is_usual = (1..=19).contains(&digits)
            && (is_text || digits == 1 || self.text[start] != b'0')
            && (!is_text || self.is_next(b'"'));
        is_usual.then_some(number)
    }

    #[inline]
    fn is_next(&mut self, byte: u8) -> bool {
        let is_next = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(is_next);
        is_next
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

/// The number that eight digits at the front of `text` are: pairs of digits are put together, then pairs of pairs,
/// then those.
#[inline]
fn eight_digits(text: &[u8]) -> Option<u64> {
    const ONES: u64 = u64::MAX / 0xff;
    let digits = u64::from_le_bytes(*text.first_chunk()?).wrapping_sub(ONES * u64::from(b'0'));
    // What is no digit has one of the upper four bits, or gets one.
    if (digits | digits.wrapping_add(ONES * 6)) & (ONES * 0xf0) != 0 {
        return None;
    }
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_what_is_none() {
        for (id, is_id) in [
            ("b7ad6b7169203331", true),
            ("0000000000000001", true),
            ("0000000000000000", false),
            ("B7ad6b7169203331", false),
            ("b7ad6b716920333g", false),
            ("b7ad6b716920333/", false),
            ("b7ad6b716920333:", false),
            ("b7ad6b716920333`", false),
            ("b7ad6b716920333", false),
            ("b7ad6b71692033311", false),
            ("éééééééé", false),
        ] {
            assert_eq!(Scan::new(format!("\"{id}\"").as_bytes()).id::<16>().is_some(), is_id, "{id}");
        }
    }

    #[test]
    fn integers_are_told_from_what_is_none() {
        for (text, integer) in [
            ("0", Some(0)),
            ("17", Some(17)),
            ("\"17\"", Some(17)),
            ("\"017\"", Some(17)),
            ("9999999999999999999", Some(9_999_999_999_999_999_999)),
            ("10000000000000000000", None),
            ("017", None),
            ("-1", None),
            ("\"\"", None),
            ("\"+1\"", None),
            ("\"1", None),
            ("x", None),
            ("\"1234567890123456789\"", Some(1_234_567_890_123_456_789)),
            ("12345678", Some(12_345_678)),
            ("\"1234567/\"", None),
            ("\"/2345678\"", None),
            ("\"123:5678\"", None),
            ("\"1234567é\"", None),
        ] {
            assert_eq!(Scan::new(text.as_bytes()).integer(), integer, "{text}");
        }
    }
}
