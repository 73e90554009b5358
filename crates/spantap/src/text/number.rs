//! Formats numbers for people.

/// With thousands separators: `9,800`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with its noun: `1 span`, `9,800 spans`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// A number of bytes, in the largest unit of which there is one: `999 bytes`, `1.5 KiB`, `12 MiB`.
pub fn bytes(number: u64) -> String {
    let mut value = number as f64;
    let mut unit = None;
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, Some(larger));
    }
    match unit {
        None => counted(number, "byte", "bytes"),
        Some(unit) if value < 10.0 => format!("{value:.1} {unit}"),
        Some(unit) => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators_and_nouns_agree() {
        let all = [0, 1, 999, 1_000, 9_800, 1_234_567].map(|count| counted(count, "span", "spans"));
        let expected = ["0 spans", "1 span", "999 spans", "1,000 spans", "9,800 spans", "1,234,567 spans"];
        assert_eq!(all, expected);
    }

    #[test]
    fn bytes_have_a_unit() {
        let all = [1, 1_023, 1_024, 1_536, 20 << 10, 5 << 20, 3 << 40].map(bytes);
        let expected = ["1 byte", "1,023 bytes", "1.0 KiB", "1.5 KiB", "20 KiB", "5.0 MiB", "3.0 TiB"];
        assert_eq!(all, expected);
    }
}
