//! Formats durations: three digits and a unit, or two units from one minute on.

/// The width of [`column`].
pub(crate) const COLUMNS: usize = 7;

const UNITS: [(&str, u64); 3] = [("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
const SECOND: u64 = 1_000_000_000;

/// `812 ns`, `1.20 µs`, `38.0 ms`, `2.51 s`, `3m 12s`, `2h 05m`, `4d 07h`, `213504d`.
pub fn readable(ns: u64) -> String {
    if ns < 1_000 {
        return format!("{ns} ns");
    }
    // What rounds to 60.0 s is written as 1m 00s.
    if rounded(ns, SECOND / 10) < 600 {
        for (name, unit) in UNITS {
            if let Some(digits) = three_digits(ns, unit) {
                return format!("{digits} {name}");
            }
        }
    }
    let (seconds, minutes, hours) =
        (rounded(ns, SECOND), rounded(ns, 60 * SECOND), rounded(ns, 3_600 * SECOND));
    match () {
        () if seconds < 3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        () if minutes < 24 * 60 => format!("{}h {:02}m", minutes / 60, minutes % 60),
        () if hours < 100 * 24 => format!("{}d {:02}h", hours / 24, hours % 24),
        () => format!("{}d", rounded(ns, 24 * 3_600 * SECOND)),
    }
}

/// Right-aligned so that the units line up, whether they have one letter or two.
pub(crate) fn column(ns: u64) -> String {
    let text = readable(ns);
    if text.ends_with(" s") { format!("{:>1$} ", text, COLUMNS - 1) } else { format!("{text:>COLUMNS$}") }
}

/// The duration in three digits of `unit`; `None` if it needs four digits, and so the next unit.
fn three_digits(ns: u64, unit: u64) -> Option<String> {
    let (hundredths, tenths) = (rounded(ns, unit / 100), rounded(ns, unit / 10));
    match rounded(ns, unit) {
        _ if hundredths < 1_000 => Some(format!("{}.{:02}", hundredths / 100, hundredths % 100)),
        _ if tenths < 1_000 => Some(format!("{}.{}", tenths / 10, tenths % 10)),
        whole if whole < 1_000 => Some(whole.to_string()),
        _ => None,
    }
}

/// Rounds to the nearest whole number; halves go up.
fn rounded(ns: u64, unit: u64) -> u64 {
    ns / unit + u64::from(ns % unit >= unit.div_ceil(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_of_four_digits_takes_the_next_unit() {
        let all = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (1_200, "1.20 µs"),
            (9_994, "9.99 µs"),
            (9_995, "10.0 µs"),
            (99_949, "99.9 µs"),
            (99_950, "100 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (999_999, "1.00 ms"),
            (38_000_000, "38.0 ms"),
            (999_500_000, "1.00 s"),
            (2_510_000_000, "2.51 s"),
            (59_949_999_999, "59.9 s"),
            (59_950_000_000, "1m 00s"),
            (192_000_000_000, "3m 12s"),
            (3_599_499_999_999, "59m 59s"),
            (3_599_500_000_000, "1h 00m"),
            (86_369_999_999_999, "23h 59m"),
            (86_370_000_000_000, "1d 00h"),
            (8_638_199_999_999_999, "99d 23h"),
            (8_638_200_000_000_000, "100d"),
            (u64::MAX, "213504d"),
        ];
        for (ns, expected) in all {
            assert_eq!(readable(ns), expected, "{ns} ns");
        }
    }

    #[test]
    fn columns_have_a_fixed_width() {
        let mut ns = 1;
        while ns < u64::MAX / 3 {
            assert_eq!(column(ns).chars().count(), COLUMNS, "{ns} ns");
            ns += ns / 7 + 1;
        }
        assert_eq!([812, 2_510_000_000, 38_000_000].map(column), [" 812 ns", "2.51 s ", "38.0 ms"]);
    }
}
