//! Tables, aligned for a terminal or as Markdown, and numbers with as many digits as are significant.

use std::io::Write;

use anyhow::Result;

use crate::terminal::{Colour, Terminal};

pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    /// The first cell names the row.
    pub(crate) rows: Vec<Vec<String>>,
}

/// How tables are printed.
#[derive(Clone, Copy)]
pub(crate) enum Style {
    Aligned(Terminal),
    Markdown,
}

impl Style {
    pub(crate) fn heading(self, out: &mut impl Write, title: &str) -> Result<()> {
        match self {
            Self::Aligned(terminal) => writeln!(out, "{}", terminal.heading(title))?,
            Self::Markdown => writeln!(out, "\n### {title}\n")?,
        }
        Ok(())
    }

    /// A line below a table. Markdown joins consecutive lines into a paragraph.
    pub(crate) fn line(self, out: &mut impl Write, colour: Colour, text: &str) -> Result<()> {
        match self {
            Self::Aligned(terminal) => writeln!(out, "  {}", terminal.paint(colour, text))?,
            Self::Markdown => writeln!(out, "{text}")?,
        }
        Ok(())
    }

    /// A line that also Markdown keeps as a line.
    pub(crate) fn item(self, out: &mut impl Write, colour: Colour, text: &str) -> Result<()> {
        let bullet = if matches!(self, Self::Markdown) { "* " } else { "" };
        self.line(out, colour, &format!("{bullet}{text}"))
    }

    pub(crate) fn table(self, out: &mut impl Write, table: &Table) -> Result<()> {
        self.heading(out, &table.title)?;
        match self {
            Self::Aligned(terminal) => aligned(out, terminal, table),
            Self::Markdown => markdown(out, table),
        }
    }
}

fn aligned(out: &mut impl Write, terminal: Terminal, table: &Table) -> Result<()> {
    let width = |column: usize| {
        let cells = table.rows.iter().map(|row| &row[column]).chain([&table.columns[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("  {}", cells.collect::<Vec<_>>().join("  "))
    };
    writeln!(out, "{}", terminal.paint(Colour::Dim, &line(&table.columns)))?;
    for row in &table.rows {
        writeln!(out, "{}", line(row).trim_end())?;
    }
    Ok(())
}

fn markdown(out: &mut impl Write, table: &Table) -> Result<()> {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    writeln!(out, "{}", line(&table.columns))?;
    writeln!(out, "|---{}|", "|--:".repeat(table.columns.len() - 1))?;
    for row in &table.rows {
        writeln!(out, "{}", line(row))?;
    }
    Ok(())
}

/// The value as `show` formats it, or `-` if it was not measured.
pub(crate) fn cell<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or("-".to_owned(), show)
}

/// Three significant digits, and all digits before the point.
pub(crate) fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        0.0..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// A count, or an average of counts with its fraction.
pub(crate) fn count(value: f64) -> String {
    if (value - value.round()).abs() < 0.005 { format!("{value:.0}") } else { digits(value) }
}

/// Rounds to 100% only what is exactly 100%.
pub(crate) fn percent(part: f64) -> String {
    let percent = part * 100.0;
    let decimals = match () {
        () if percent.fract() == 0.0 => 0,
        () if (0.1..99.9).contains(&percent) => 1,
        () => 3,
    };
    format!("{percent:.decimals$}%")
}

/// Spans a second.
pub(crate) fn rate(value: f64) -> String {
    match value {
        1e6.. => format!("{:.2} M", value / 1e6),
        _ => format!("{:.0} k", value / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_significant_digits() {
        assert_eq!([3.633, 9.996, 87.46, 99.96, 1243.6].map(digits), ["3.63", "10.0", "87.5", "100", "1244"]);
        assert_eq!([0.0, 13.0, 12.999, 5.97].map(count), ["0", "13", "13", "5.97"]);
        assert_eq!([1.0, 0.99999, 0.5, 0.0].map(percent), ["100%", "99.999%", "50%", "0%"]);
        assert_eq!([1_234_000.0, 56_700.0].map(rate), ["1.23 M", "57 k"]);
    }

    #[test]
    fn columns_are_aligned_and_markdown_is_a_table() {
        let cells = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let rows = vec![cells(["größer", "1"]), cells(["b", "100"])];
        let table = Table { title: "t".to_owned(), columns: cells(["what", "ns"]), rows };
        let mut text = Vec::new();
        aligned(&mut text, Terminal::plain(80), &table).expect("writing to a Vec succeeds");
        markdown(&mut text, &table).expect("writing to a Vec succeeds");
        let expected = "  what     ns\n  größer    1\n  b       100\n\
            | what | ns |\n|---|--:|\n| größer | 1 |\n| b | 100 |\n";
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }
}
