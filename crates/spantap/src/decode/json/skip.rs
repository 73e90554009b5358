//! Finds the end of a JSON value that is not used, such as that of an unknown member.
//!
//! Accepts strict JSON only. For anything else, and for rare forms, returns `None`: serde_json then reads the same text
//! and reports what is wrong. Strings are scanned in words of eight bytes, because most bytes are in strings.

/// How many lists and objects that are not empty may be open. Each has a bit that marks it as an object or a list.
const MAX_DEPTH: u32 = u64::BITS;

/// The end of the value at `at`. `None` if it is not JSON, is nested too deeply, or has escapes of surrogates.
pub(super) fn value(bytes: &[u8], mut at: usize) -> Option<usize> {
    let (mut depth, mut objects) = (0, 0u64);
    loop {
        at = white(bytes, at);
        match *bytes.get(at)? {
            b'"' => at = string(bytes, at + 1)?,
            open @ (b'{' | b'[') => {
                at = white(bytes, at + 1);
                let is_object = open == b'{';
                if *bytes.get(at)? == if is_object { b'}' } else { b']' } {
                    at += 1;
                } else if depth == MAX_DEPTH {
                    return None;
                } else {
                    depth += 1;
                    objects = objects << 1 | u64::from(is_object);
                    if is_object {
                        at = key(bytes, at)?;
                    }
                    continue;
                }
            }
            b't' => at = literal(bytes, at, b"true")?,
            b'f' => at = literal(bytes, at, b"false")?,
            b'n' => at = literal(bytes, at, b"null")?,
            _ => at = number(bytes, at)?,
        }
        // After a value, closes all lists and objects that end here.
        loop {
            if depth == 0 {
                return Some(at);
            }
            at = white(bytes, at);
            let is_object = objects & 1 == 1;
            match *bytes.get(at)? {
                b',' if is_object => {
                    at = key(bytes, white(bytes, at + 1))?;
                    break;
                }
                b',' => {
                    at += 1;
                    break;
                }
                b'}' if is_object => {}
                b']' if !is_object => {}
                _ => return None,
            }
            at += 1;
            depth -= 1;
            objects >>= 1;
        }
    }
}

#[inline]
pub(super) fn white(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// The end of a key with its colon.
#[inline]
pub(super) fn key(bytes: &[u8], at: usize) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let at = white(bytes, string(bytes, at + 1)?);
    (*bytes.get(at)? == b':').then_some(at + 1)
}

/// The end of a string, after its closing quote. `at` is after its opening quote.
#[inline]
pub(super) fn string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = special(bytes, at)?;
        match bytes[at] {
            b'"' => return Some(at + 1),
            b'\\' => at = escape(bytes, at + 1)?,
            // JSON allows no control characters in strings.
            _ => return None,
        }
    }
}

/// The position of the first special byte of a string: a quote, a backslash, or a control character.
#[inline]
pub(super) fn special(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let found = special_of(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).map(|found| at + found)
}

/// Sets the top bit of each special byte. Borrows may also set bits above a special byte, so only the lowest is valid.
#[inline]
fn special_of(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const TOPS: u64 = ONES << 7;
    // The XOR swaps the quote (0x22) and the space (0x20), so quotes and control characters are what is below 0x21.
    let quote = (word ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    (quote | backslash) & !word & TOPS
}

#[cold]
fn escape(bytes: &[u8], at: usize) -> Option<usize> {
    match *bytes.get(at)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
        b'u' => {
            let digits = bytes.get(at + 1..at + 5)?;
            // serde_json joins surrogate pairs.
            let is_half = matches!(digits, [b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', ..]);
            (digits.iter().all(u8::is_ascii_hexdigit) && !is_half).then_some(at + 5)
        }
        _ => None,
    }
}

#[inline]
pub(super) fn literal(bytes: &[u8], at: usize, text: &[u8]) -> Option<usize> {
    bytes.get(at..)?.starts_with(text).then_some(at + text.len())
}

#[inline]
pub(super) fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let sign = usize::from(bytes.get(at) == Some(&b'-'));
    let mut at = match bytes.get(at + sign)? {
        b'0' => at + sign + 1,
        b'1'..=b'9' => digits(bytes, at + sign)?,
        _ => return None,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        at = digits(bytes, at + 1 + sign)?;
    }
    // In 01, for example, a digit follows the end of the number.
    (!matches!(bytes.get(at), Some(b'0'..=b'9'))).then_some(at)
}

/// The end of one or more digits.
#[inline]
fn digits(bytes: &[u8], at: usize) -> Option<usize> {
    let count = bytes.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then_some(at + count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_json(text: &str) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    }

    #[test]
    fn rejects_invalid_json() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "\"",
            "{\"a\"}",
            "{\"a\" 1}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "[1,]",
            "[1 2]",
            "[}",
            "{]",
            "[1}",
            "{\"a\":1]",
            "tru",
            "nulL",
            "-",
            "01",
            "1.",
            "1e",
            "1e+",
            ".5",
            "+1",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "\"1234567\u{1}\"",
            "\"abc\\\"",
            "{\"a\\\":1}",
            "NaN",
            "}",
            ",",
        ] {
            assert_eq!(value(text.as_bytes(), 0), None, "{text:?}");
        }
    }

    #[test]
    fn rejects_more_than_65_nested_lists() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(value(nested(65).as_bytes(), 0), Some(130));
        assert_eq!(value(nested(66).as_bytes(), 0), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

        /// The texts are parts of JSON in any order, so many of them are nearly valid.
        #[test]
        fn finds_the_same_end_as_serde_json(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"key\"", "\"a longer text, of many words\"", "\"\\u00e9\\n\"",
                    "\"\\\"\"", "1", "-0.5e+3", "12345678901", "true", "null", " ", "\t\n", "\"\u{1}\"", "\"\\ud83d\\ude00\"",
                    "0", "\"é\"", "{\"a\":1}", "[\"b\",{}]", "\"",
                ]),
                0..12,
            ),
        ) {
            let text = parts.concat();
            match value(text.as_bytes(), 0) {
                Some(at) => {
                    prop_assert!(is_json(&text[..at]), "{:?} of {:?}", &text[..at], text);
                    prop_assert!(!is_json(&text) || text[at..].trim().is_empty(), "{:?} of {:?}", &text[..at], text);
                }
                // Only surrogates may be rejected although they are valid.
                None => prop_assert!(!is_json(&text) || text.contains("\\ud83d"), "{:?}", text),
            }
        }
    }
}
