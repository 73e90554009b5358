//! A line under construction. Text that is added to it is escaped, and cut to the room that is left.

use anstyle::{AnsiColor, Style};

use super::look::Look;
use crate::text::{cut, width};

pub(super) const PLAIN: Style = Style::new();
pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const RED: Style = AnsiColor::Red.on_default();
pub(super) const BOLD_RED: Style = AnsiColor::Red.on_default().bold();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(super) const CYAN: Style = AnsiColor::Cyan.on_default();

pub(super) struct Line<'a> {
    look: &'a Look,
    text: String,
    /// The columns that are in use.
    used: usize,
    /// Blanks to write before the next text. Without another text they are not written, so a line has none at its end.
    gap: usize,
}

impl<'a> Line<'a> {
    pub(super) fn new(look: &'a Look) -> Self {
        Self { look, text: String::new(), used: 0, gap: 0 }
    }

    pub(super) fn room(&self) -> usize {
        self.look.width().saturating_sub(self.used + self.gap)
    }

    pub(super) fn put(&mut self, style: Style, text: &str) {
        let text = cut(text, self.room());
        let visible = text.trim_start_matches(' ');
        self.gap += text.len() - visible.len();
        let visible = visible.trim_end_matches(' ');
        if visible.is_empty() {
            return;
        }
        self.text.extend(std::iter::repeat_n(' ', self.gap));
        self.used += self.gap + width(visible);
        self.gap = text.len() - text.trim_end_matches(' ').len();
        if self.look.colour {
            self.text.push_str(&format!("{style}{visible}{style:#}"));
        } else {
            self.text.push_str(visible);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub(super) fn gap(&mut self, columns: usize) {
        self.gap += columns;
    }

    /// Moves to this column, unless the line is already longer.
    pub(super) fn to(&mut self, column: usize) {
        self.gap = column.saturating_sub(self.used);
    }

    pub(super) fn end(mut self) -> String {
        self.text.push('\n');
        self.text
    }
}
