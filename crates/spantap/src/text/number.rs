//! Formats numbers for people.

/// With thousands separators: `9,800`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators_and_nouns_agree() {
        let all = [0, 1, 999, 1_000, 9_800, 1_234_567].map(|count| counted(count, "span", "spans"));
        let expected = ["0 spans", "1 span", "999 spans", "1,000 spans", "9,800 spans", "1,234,567 spans"];
        assert_eq!(all, expected);
    }
}
