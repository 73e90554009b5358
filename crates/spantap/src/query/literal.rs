//! Values in a query: numbers, durations, texts and booleans.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};

/// A value as a query has it.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Literal {
    Number(Number),
    /// In nanoseconds.
    Duration(u64),
    Text(String),
}

/// A number. Whole numbers are compared exactly, so that large ids don't become equal.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    /// Reads a number such as `503`, `-1.5` or `2e9`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let whole = text.parse().ok().map(Self::Whole);
        whole.or_else(|| text.parse().ok().map(Self::Real))
    }

    pub(super) fn is_zero(self) -> bool {
        self.compare(Self::Whole(0)) == Some(Ordering::Equal)
    }

    pub(super) fn is_negative(self) -> bool {
        self.compare(Self::Whole(0)) == Some(Ordering::Less)
    }

    pub(super) fn is_finite(self) -> bool {
        self.real().is_finite()
    }

    /// `None` if one of them is not a number.
    pub(super) fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => Some(one.cmp(&other)),
            (one, other) => one.real().partial_cmp(&other.real()),
        }
    }

    /// The number times a whole number.
    pub(super) fn times(self, factor: u64) -> Self {
        let product = match self {
            Self::Whole(number) => number.checked_mul(factor.into()).map(Self::Whole),
            Self::Real(_) => None,
        };
        product.unwrap_or_else(|| Self::Real(self.real() * factor as f64))
    }

    fn real(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Real(number) => number,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => write!(f, "{number}"),
            Self::Real(number) => write!(f, "{number:?}"),
        }
    }
}

/// The units of durations in nanoseconds, the longest first. Of two spellings, the first is printed.
const UNITS: [(&str, u64); 9] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5, which keyboards have
    ("μs", 1_000), // U+03BC, a Greek letter
];

/// The nanoseconds of a unit.
pub(super) fn unit_ns(unit: &str) -> Option<u64> {
    if unit == "ns" {
        return Some(1);
    }
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ns)| *ns)
}

/// So many units in nanoseconds, exactly; `None` if it does not fit, or is no number without a sign.
pub(super) fn scaled(number: &str, unit_ns: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || (whole.len() + fraction.len() == 0) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits are less than a nanosecond of any unit.
    let digits = fraction.get(..fraction.len().min(18)).unwrap_or_default();
    let fraction = digits.bytes().fold(0, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    let part = fraction * u128::from(unit_ns) / 10_u128.pow(u32::try_from(digits.len()).ok()?);
    whole.checked_mul(unit_ns)?.checked_add(u64::try_from(part).ok()?)
}

/// Reads a text that is a duration, such as Rust's `Debug` of one: `1.5ms`, `38 ms`, `1m 30s`.
pub(super) fn duration_of(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut sum: Option<u64> = None;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after.trim_start(), char::is_alphabetic);
        sum = Some(sum.unwrap_or(0).checked_add(scaled(number, unit_ns(unit)?)?)?);
        rest = after.trim_start();
    }
    sum
}

/// Splits where the characters are no longer of this kind.
fn split(text: &str, is_of: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is_of(c)).unwrap_or(text.len()))
}

/// The longest unit that needs no fraction.
pub(super) fn write_duration(ns: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (name, unit) =
        UNITS.into_iter().find(|(_, unit)| ns > 0 && ns.is_multiple_of(*unit)).unwrap_or(("ns", 1));
    write!(f, "{}{name}", ns / unit)
}

/// Writes a text in these quotes, so that a query reads it back.
pub(super) fn write_quoted(text: &str, quote: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\\' => f.write_str("\\\\")?,
            '\0' => f.write_str("\\u{0}")?,
            '"' | '\'' | '`' if c == quote => write!(f, "\\{c}")?,
            '"' | '\'' | '`' => f.write_char(c)?,
            _ => write!(f, "{}", c.escape_debug())?,
        }
    }
    f.write_char(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_compared_exactly() {
        let number = |text| Number::parse(text).expect("a number");
        let compare = |one, other| number(one).compare(number(other));
        assert_eq!(compare("9007199254740993", "9007199254740992"), Some(Ordering::Greater));
        assert_eq!(compare("18446744073709551615", "1e3"), Some(Ordering::Greater));
        assert_eq!(compare("503", "503.0"), Some(Ordering::Equal));
        assert_eq!(compare("NaN", "1"), None);
        assert!(Number::parse("").is_none() && Number::parse("5x").is_none());
    }

    #[test]
    fn durations_in_texts_are_read_exactly() {
        for (text, ns) in [
            ("1.234567891s", Some(1_234_567_891)),
            ("38.0 ms", Some(38_000_000)),
            ("12.5µs", Some(12_500)),
            ("12μs", Some(12_000)),
            ("0ns", Some(0)),
            ("3m 12s", Some(192_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("213503d", Some(213_503 * 86_400_000_000_000)),
            ("213504d", None),
            ("0.0000000000000000000000000001h", Some(0)),
            ("5", None),
            ("", None),
            ("ms", None),
            ("-1s", None),
            ("1 week", None),
            ("1..2s", None),
        ] {
            assert_eq!(duration_of(text), ns, "{text}");
        }
    }
}
