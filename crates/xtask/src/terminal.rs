//! The terminal's width and colours, and text that fits into columns.

use std::io::{IsTerminal, stdout};

use terminal_size::{Width, terminal_size_of};

#[derive(Clone, Copy)]
pub(crate) struct Terminal {
    pub(crate) columns: usize,
    colours: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Colour {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
}

impl Terminal {
    pub(crate) fn of_stdout() -> Self {
        let columns = terminal_size_of(stdout()).map_or(100, |(Width(columns), _)| usize::from(columns));
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { columns: columns.clamp(80, 100), colours: stdout().is_terminal() && wanted }
    }

    #[cfg(test)]
    pub(crate) fn plain(columns: usize) -> Self {
        Self { columns, colours: false }
    }

    pub(crate) fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            _ if !self.colours || text.is_empty() => return text.to_owned(),
            Colour::Plain => return text.to_owned(),
            Colour::Bold => "1",
            Colour::Dim => "2",
            Colour::Red => "31",
            Colour::Green => "32",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// `── title ─────────`
    pub(crate) fn heading(self, title: &str) -> String {
        let rule = "─".repeat(self.columns.saturating_sub(title.chars().count() + 4));
        format!(
            "\n{} {} {}\n",
            self.paint(Colour::Dim, "──"),
            self.paint(Colour::Bold, title),
            self.paint(Colour::Dim, &rule)
        )
    }
}

/// The text on one line, cut to at most `columns`.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= columns {
        return text;
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// A duration in seven columns: three digits and a unit.
pub(crate) fn took(us: u64) -> String {
    let (value, unit) = match us {
        0..1_000 => (us as f64, "µs"),
        1_000..1_000_000 => (us as f64 / 1e3, "ms"),
        _ => (us as f64 / 1e6, "s "),
    };
    let decimals = match value {
        _ if unit == "µs" => 0,
        0.0..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    };
    format!("{value:>4.decimals$} {unit}")
}

/// The percentile of sorted values, by nearest rank.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_in_seven_columns() {
        let all = [0, 1, 999, 1_000, 9_994, 9_996, 12_345, 99_960, 999_499, 1_234_567, 61_000_000].map(took);
        let expected = [
            "   0 µs", "   1 µs", " 999 µs", "1.00 ms", "9.99 ms", "10.0 ms", "12.3 ms", " 100 ms",
            " 999 ms", "1.23 s ", "61.0 s ",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn long_text_is_cut_to_its_columns() {
        assert_eq!(cut("SELECT 1\n  FROM  t", 20), "SELECT 1 FROM t");
        assert_eq!(cut("größer als erlaubt", 8), "größer…");
    }

    #[test]
    fn percentiles_are_values_of_the_input() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99)), (100, 198));
        assert_eq!((percentile(&[7], 50), percentile(&[], 99)), (7, 0));
    }
}
