//! Chooses the spans that are drawn if there is no room for all.

use std::collections::BTreeMap;

/// A part of an excerpt.
pub(super) enum Part {
    /// The lines of one row.
    Lines(String),
    /// Rows that are left out.
    Gap(std::ops::Range<usize>),
}

/// Chooses rows that take at most `lines` lines: the first rows, and up to half of the lines for `important` ones
/// further down. A gap takes a line. Calls `draw` for at most twice as many rows as there are lines.
pub(super) fn excerpt(
    rows: usize,
    lines: usize,
    important: impl Fn(usize) -> bool,
    draw: impl Fn(usize) -> String,
) -> Vec<Part> {
    if rows <= lines {
        let all: BTreeMap<usize, String> = (0..rows).map(|index| (index, draw(index))).collect();
        if all.values().map(|text| text.lines().count()).sum::<usize>() <= lines {
            return with_gaps(all, rows);
        }
    }
    let mut left = lines;
    let mut drawn: BTreeMap<usize, String> = BTreeMap::new();
    for index in (0..rows).filter(|&index| important(index)) {
        let text = draw(index);
        let cost = text.lines().count() + 1;
        if left < lines / 2 + cost {
            break;
        }
        left -= cost;
        drawn.insert(index, text);
    }
    for index in 0..rows {
        if drawn.contains_key(&index) {
            // There is no gap before this row, so the line reserved for it is free.
            left += 1;
            continue;
        }
        let text = draw(index);
        let count = text.lines().count();
        if index > 0 && left <= count {
            break;
        }
        left = left.saturating_sub(count);
        drawn.insert(index, text);
    }
    with_gaps(drawn, rows)
}

fn with_gaps(drawn: BTreeMap<usize, String>, rows: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut next = 0;
    for (index, text) in drawn {
        if next < index {
            parts.push(Part::Gap(next..index));
        }
        parts.push(Part::Lines(text));
        next = index + 1;
    }
    if next < rows {
        parts.push(Part::Gap(next..rows));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The excerpt as text: a digit for the lines of each row, a number in brackets for the rows of a gap.
    fn drawn(lines_of: &str, lines: usize) -> String {
        let of = |index: usize| usize::from(lines_of.as_bytes()[index] - b'0');
        let text = |part: Part| match part {
            Part::Lines(text) => text.lines().count().to_string(),
            Part::Gap(rows) => format!("[{}]", rows.len()),
        };
        let parts = excerpt(lines_of.len(), lines, |index| of(index) > 1, |index| "x\n".repeat(of(index)));
        parts.into_iter().map(text).collect()
    }

    #[test]
    fn all_rows_are_drawn_if_they_fit() {
        assert_eq!(drawn("11211", 6), "11211");
        assert_eq!(drawn("1113", 6), "1113");
    }

    #[test]
    fn important_rows_are_drawn_beyond_the_first_ones() {
        assert_eq!(drawn("11111111", 5), "1111[4]");
        assert_eq!(drawn("1111111121111", 8), "1111[4]2[4]");
        assert_eq!(drawn("1222222222222", 9), "1222[9]");
    }

    #[test]
    fn the_first_row_is_always_drawn() {
        assert_eq!(drawn("31", 0), "3[1]");
        assert_eq!(drawn("", 0), "");
    }
}
