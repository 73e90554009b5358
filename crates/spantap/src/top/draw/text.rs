//! Text of a fixed width. What comes from senders is escaped.

use ratatui::style::Style;
use ratatui::text::Span;

use crate::text::{cut, duration, on_one_line, width};

/// Escaped and cut to `columns`, with blanks behind it.
pub(super) fn left(text: &str, columns: usize) -> String {
    let text = cut(&on_one_line(text), columns);
    let blanks = columns.saturating_sub(width(&text));
    text + &" ".repeat(blanks)
}

/// Escaped and cut to `columns`, with blanks before it.
pub(super) fn right(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    " ".repeat(columns.saturating_sub(width(&text))) + &text
}

/// A duration of [`duration::COLUMNS`] columns, so that the units line up.
pub(super) fn time(ns: u64) -> String {
    duration::column(ns)
}

/// A number in at most six columns: `0.3`, `12,345`, `1.2M`.
pub(super) fn rate(number: f64) -> String {
    match number {
        n if n < 9.95 => format!("{n:.1}"),
        n if n < 99_999.5 => crate::text::grouped(n.round() as u64),
        n if n < 999_500.0 => format!("{:.0}k", n / 1e3),
        n => format!("{:.1}M", n / 1e6),
    }
}

/// A share in percent: `0`, `<0.1`, `2.5`, `100`.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    match percent {
        _ if part == 0 => "0".to_owned(),
        p if p < 0.1 => "<0.1".to_owned(),
        p if p < 9.95 => format!("{p:.1}"),
        // Not all of them.
        p if p > 99.0 && part < whole => ">99".to_owned(),
        p => format!("{p:.0}"),
    }
}

const LEVELS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// A line of bars, each the average of some values, up to the largest. A blank is a time without a value.
pub(super) fn sparkline(values: &[Option<u64>], columns: usize) -> String {
    let size = values.len().div_ceil(columns.max(1)).max(1);
    let skipped = values.len().saturating_sub(size * columns);
    let bars: Vec<Option<u64>> = values[skipped..]
        .chunks(size)
        .map(|values| {
            let known: Vec<u64> = values.iter().flatten().copied().collect();
            known.iter().sum::<u64>().checked_div(known.len() as u64)
        })
        .collect();
    let most = bars.iter().flatten().copied().max().unwrap_or(0).max(1);
    let level = |ns: u64| LEVELS[((u128::from(ns) * 7 + u128::from(most) / 2) / u128::from(most)) as usize];
    let drawn: String = bars.iter().map(|bar| bar.map_or(" ", level)).collect();
    right(&drawn, columns)
}

pub(super) fn span(text: impl Into<String>, style: Style) -> Span<'static> {
    Span::styled(text.into(), style)
}

/// Text in a style that leaves out the blanks around it. In the selected row, which is reversed, they would look like a
/// bar themselves.
pub(super) fn without_blanks(text: &str, style: Style) -> Vec<Span<'static>> {
    let before = text.len() - text.trim_start().len();
    let (before, text) = text.split_at(before);
    let (text, after) = text.split_at(text.trim_end().len());
    vec![span(before, Style::new()), span(text, style), span(after, Style::new())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_exactly_its_width() {
        for text in ["", "GET", "a long name of a span", "\x1b[2J\u{202e}", "日本語の名前です", "two\nlines"]
        {
            for columns in [0, 1, 2, 7, 12] {
                assert_eq!(width(&left(text, columns)), columns, "{text:?}");
            }
        }
        assert_eq!(left("\x1b[2Jx", 12), "\\x1b[2Jx    ");
    }

    #[test]
    fn rates_fit_in_six_columns() {
        let all = [
            (0.0, "0.0"),
            (9.94, "9.9"),
            (9.96, "10"),
            (99_999.4, "99,999"),
            (99_999.6, "100k"),
            (2_345_678.0, "2.3M"),
        ];
        for (number, text) in all {
            assert_eq!(rate(number), text);
        }
    }

    #[test]
    fn only_all_are_a_hundred_percent_and_only_none_are_zero() {
        let all = [
            (0, 0, "0"),
            (0, 5, "0"),
            (1, 10_000, "<0.1"),
            (1, 40, "2.5"),
            (999, 1_000, ">99"),
            (7, 7, "100"),
        ];
        for (part, whole, text) in all {
            assert_eq!(percent(part, whole), text);
        }
    }

    #[test]
    fn a_sparkline_goes_up_to_its_largest_value() {
        let values = [None, Some(0), Some(50), Some(100)];
        assert_eq!(sparkline(&values, 4), " ▁▅█");
        assert_eq!(sparkline(&values, 2), "▁█");
        assert_eq!(sparkline(&[None; 60], 10), " ".repeat(10));
        assert_eq!(sparkline(&[Some(u64::MAX / 60); 60], 1), "█");
    }

    #[test]
    fn blanks_around_a_bar_have_no_style() {
        let style = Style::new().fg(ratatui::style::Color::Cyan);
        let plain = Style::new();
        let all = |text| {
            let spans = without_blanks(text, style).into_iter();
            spans.map(|span| (span.content.into_owned(), span.style)).collect::<Vec<_>>()
        };
        let expected = |before: &str, text: &str, after: &str| {
            vec![(before.to_owned(), plain), (text.to_owned(), style), (after.to_owned(), plain)]
        };
        assert_eq!(all("  ━ ─   "), expected("  ", "━ ─", "   "));
        assert_eq!(all("━"), expected("", "━", ""));
        assert_eq!(all("   "), expected("   ", "", ""));
    }
}
