//! Reads decimal numbers with a fraction or an exponent, exactly.

/// A decimal number rounded toward zero, and whether it was an integer. `None` if the text is not a number, or the
/// integer takes more than 128 bits.
pub(super) fn decimal(text: &str) -> Option<(i128, bool)> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (digits, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
    let point = i64::try_from(before.len()).ok()?.checked_add(exponent.parse().ok()?)?;
    let (mut integer, mut is_whole, mut at) = (0_i128, true, 0);
    for digit in before.bytes().chain(after.bytes()) {
        let digit = digit.is_ascii_digit().then(|| i128::from(digit - b'0'))?;
        if at < point {
            integer = integer.checked_mul(10)?.checked_add(digit)?;
        } else {
            is_whole &= digit == 0;
        }
        at += 1;
    }
    if at == 0 {
        return None;
    }
    while at < point && integer != 0 {
        integer = integer.checked_mul(10)?;
        at += 1;
    }
    Some((if unsigned == text { integer } else { -integer }, is_whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_in_any_notation_are_exact() {
        for (text, expected) in [
            ("0", Some((0, true))),
            ("-0.0", Some((0, true))),
            ("2000.0", Some((2000, true))),
            ("2e3", Some((2000, true))),
            ("2E+3", Some((2000, true))),
            ("20000e-1", Some((2000, true))),
            ("1.764200000123456e+15", Some((1_764_200_000_123_456, true))),
            ("1764200000123456789.0", Some((1_764_200_000_123_456_789, true))),
            ("-9.223372036854775808e18", Some((i64::MIN.into(), true))),
            ("1.8446744073709551615E19", Some((u64::MAX.into(), true))),
            ("1.5", Some((1, false))),
            ("-1.5", Some((-1, false))),
            ("15e-1", Some((1, false))),
            ("1e-999999999", Some((0, false))),
            ("0e999999999", Some((0, true))),
            ("1e39", None),
            ("1e999999999", None),
            ("1e99999999999999999999", None),
            ("", None),
            (".", None),
            ("-", None),
            ("e5", None),
            ("1e", None),
            ("+1", None),
            ("0x10", None),
            ("1,5", None),
            ("NaN", None),
        ] {
            assert_eq!(decimal(text), expected, "{text}");
        }
    }
}
