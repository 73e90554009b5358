//! Writes the JSON that the encoders produce, directly into the output buffer.
//!
//! serde_json writes the numbers and escapes the strings. Objects and arrays are written here, without a tree of
//! values or derived types in between.

/// Writes a number or a string. Writing to memory does not fail; if it did, `null` would keep the JSON valid.
macro_rules! scalar {
    ($out:expr, $value:expr) => {
        if serde_json::to_writer(&mut *$out, $value).is_err() {
            $out.extend_from_slice(b"null");
        }
    };
}

/// A JSON object under construction. [`close`](Self::close) ends it.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Writes a key that needs no escaping. The caller appends the value to the returned buffer.
    #[inline(always)] // the compiler copies a key of known length with a few instructions
    pub(crate) fn key(&mut self, key: &'static str) -> &mut Vec<u8> {
        self.out.reserve(key.len() + 4);
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Writes any key, escaped. The caller appends the value.
    pub(crate) fn any_key(&mut self, key: &str) -> &mut Vec<u8> {
        self.comma();
        string(self.out, key);
        self.out.push(b':');
        self.out
    }

    /// Writes a key that is already a JSON string. The caller appends the value.
    pub(crate) fn json_key(&mut self, key: &str) -> &mut Vec<u8> {
        self.comma();
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b':');
        self.out
    }

    /// Writes members that are already JSON, separated by commas.
    pub(crate) fn members(&mut self, members: &str) {
        if !members.is_empty() {
            self.comma();
            self.out.extend_from_slice(members.as_bytes());
        }
    }

    #[inline(always)]
    pub(crate) fn string(&mut self, key: &'static str, text: &str) {
        string(self.key(key), text);
    }

    #[inline(always)]
    pub(crate) fn number(&mut self, key: &'static str, number: u64) {
        self::number(self.key(key), number);
    }

    /// Writes a member whose value is `number` as a string.
    #[inline(always)]
    pub(crate) fn number_text(&mut self, key: &'static str, number: u64) {
        self::number_text(self.key(key), number);
    }

    /// Writes an id of 16 hex digits, or of 32 digits if `high` is given.
    #[inline(always)]
    pub(crate) fn id(&mut self, key: &'static str, high: Option<u64>, low: u64) {
        let out = self.key(key);
        out.reserve(34);
        out.push(b'"');
        if let Some(high) = high {
            out.extend_from_slice(&hex(high));
        }
        out.extend_from_slice(&hex(low));
        out.push(b'"');
    }

    pub(crate) fn close(self) {
        self.out.push(b'}');
    }

    #[inline(always)]
    fn comma(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
    }
}

/// The 16 lower-case hex digits of `number`. Computes eight digits at a time, one per byte of a word.
pub(crate) fn hex(number: u64) -> [u8; 16] {
    let digits = |half: u32| {
        // Spreads the eight 4-bit digits over eight bytes.
        let bytes = u64::from(half);
        let bytes = (bytes | bytes << 16) & 0x0000_ffff_0000_ffff;
        let bytes = (bytes | bytes << 8) & 0x00ff_00ff_00ff_00ff;
        let bytes = (bytes | bytes << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        // Adding 6 to a digit above 9 carries into the upper half of its byte.
        let letters = (bytes + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        (bytes + 0x3030_3030_3030_3030 + letters * 0x27).to_be_bytes()
    };
    let mut hex = [0; 16];
    hex[..8].copy_from_slice(&digits((number >> 32) as u32));
    hex[8..].copy_from_slice(&digits(number as u32));
    hex
}

/// Writes `text` as a JSON string.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    // Checks all bytes without leaving the loop early, so that the compiler can vectorize it.
    let plain = text.bytes().fold(true, |plain, b| plain & (b >= 0x20) & (b != b'"') & (b != b'\\'));
    if plain {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        scalar!(out, text);
    }
}

/// `text` as a JSON string.
pub(crate) fn json_string(text: &str) -> Box<str> {
    let mut out = Vec::new();
    string(&mut out, text);
    String::from_utf8(out).unwrap_or_default().into()
}

pub(crate) fn number(out: &mut Vec<u8>, number: u64) {
    scalar!(out, &number);
}

/// Writes `number` as a string.
pub(crate) fn number_text(out: &mut Vec<u8>, number: u64) {
    out.push(b'"');
    self::number(out, number);
    out.push(b'"');
}

pub(crate) fn array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

pub(crate) use scalar;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_agrees_with_the_standard_formatter() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX, 0x9a9a_a9a9_0f0f_f0f0] {
            assert_eq!(std::str::from_utf8(&hex(number)), Ok(&*format!("{number:016x}")));
        }
    }
}
