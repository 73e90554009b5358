//! What the tables share: the titles of the columns, and rows of cells.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::text::{left, right, span};
use crate::text::width;
use crate::top::sort::{Column, Sort};
use crate::top::theme::Theme;

/// A column on the screen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<C> {
    /// What it is sorted by.
    pub(super) column: Option<C>,
    pub(super) title: &'static str,
    pub(super) columns: usize,
}

impl<C: Column> Shown<C> {
    pub(super) fn of(column: C, columns: usize) -> Self {
        Self { column: Some(column), title: column.title(), columns }
    }
}

/// Draws the titles, and returns where those are that can be clicked.
pub(super) fn draw_titles<C: Column>(
    frame: &mut Frame<'_>,
    area: Rect,
    shown: &[Shown<C>],
    sort: Sort<C>,
    theme: Theme,
) -> Vec<(Rect, C)> {
    let mut spans = Vec::new();
    let mut areas = Vec::new();
    let mut x = area.x;
    for Shown { column, title, columns } in shown {
        let is_sorted = *column == Some(sort.column);
        let mark = match (is_sorted, sort.descending) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        // The mark takes the place of a blank, or of the title's end.
        let title = match column.is_none_or(Column::is_name) {
            true => left(&format!("{title}{mark}"), *columns),
            false => right(&format!("{mark}{title}"), *columns),
        };
        spans.push(span(title, if is_sorted { theme.selected() } else { theme.title() }));
        spans.push(span(" ", theme.plain()));
        if let Some(column) = column {
            areas.push((Rect { x, y: area.y, width: *columns as u16, height: 1 }, *column));
        }
        x += *columns as u16 + 1;
    }
    frame.render_widget(Line::from(spans), area);
    areas
}

/// A row. One that is selected is drawn as such up to the end of the line.
pub(super) fn row(
    cells: Vec<Vec<Span<'static>>>,
    is_selected: bool,
    columns: usize,
    theme: Theme,
) -> Line<'static> {
    let mut spans: Vec<Span<'static>> = Vec::new();
    for cell in cells {
        spans.extend(cell);
        spans.push(span(" ", theme.plain()));
    }
    let used: usize = spans.iter().map(|span| width(&span.content)).sum();
    spans.push(span(" ".repeat(columns.saturating_sub(used)), theme.plain()));
    let line = Line::from(spans);
    if is_selected { line.style(theme.selected()) } else { line }
}

/// What is said instead of rows.
pub(super) fn draw_empty(frame: &mut Frame<'_>, area: Rect, words: &str, theme: Theme) {
    let lines = crate::text::wrap(words, usize::from(area.width).saturating_sub(2), 3);
    for (line, y) in lines.iter().zip(area.y + 1..area.bottom()) {
        let area = Rect { x: area.x + 1, y, width: area.width.saturating_sub(1), height: 1 };
        frame.render_widget(Line::styled(line.clone(), theme.dim()), area);
    }
}
