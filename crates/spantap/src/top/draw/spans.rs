//! The table of spans by service and name.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span, Text};

use super::bar;
use super::context::Context;
use super::table::{self, Shown};
use super::text::{left, percent, rate, right, span, sparkline, time, without_blanks};
use crate::text::duration::COLUMNS;
use crate::text::{readable, width};
use crate::top::data::Data;
use crate::top::model::{Part, Row, SECONDS, SeriesName};
use crate::top::sort::SeriesColumn as Column;
use crate::top::state::State;
use crate::top::theme::Theme;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &mut State, data: &Data, context: &Context<'_>) {
    let theme = context.theme;
    let columns = Columns::new(area.width.into());
    let titles = Rect { height: 1, ..area };
    state.areas.series_columns = table::draw_titles(frame, titles, &columns.shown(), state.sort.0, theme);
    // The last line explains the bars. Before it is what there is no column for.
    let below = if columns.latency == 0 { 2 } else { 1 };
    let list = Rect { y: area.y + 1, height: area.height.saturating_sub(1 + below), ..area };
    if data.rows.is_empty() {
        table::draw_empty(frame, list, empty(state, context), theme);
        return;
    }
    let first = state.spans.scroll(list.height.into(), data.rows.len());
    state.areas.rows = (list, first);
    let rows = data.rows.iter().enumerate().skip(first).take(list.height.into());
    let lines = rows.map(|(index, row)| {
        table::row(columns.cells(row, theme), index == state.spans.selected(), area.width.into(), theme)
    });
    frame.render_widget(Text::from_iter(lines), list);
    if let Some(row) = data.rows.get(state.spans.selected()).filter(|_| below > 1) {
        let line = Rect { y: area.bottom().saturating_sub(2), height: 1, ..area };
        frame.render_widget(selected_line(row, area.width.into(), theme), line);
    }
    let last = Rect { y: area.bottom().saturating_sub(1), height: 1, ..area };
    frame.render_widget(legend(data, area.width.into(), theme), last);
}

fn empty(state: &State, context: &Context<'_>) -> &'static str {
    match (&state.query, context.is_reading) {
        (Some(_), _) => {
            "No span that the filter chooses has ended yet. / changes the filter, Esc removes it."
        }
        (None, true) => "Reading …",
        (None, false) => "No span has ended yet.",
    }
}

/// The figures of the selected row that a narrow screen has no column for.
fn selected_line(row: &Row, columns: usize, theme: Theme) -> Line<'static> {
    let own = row.figures.breakdown.self_ns().map_or_else(|| "-".to_owned(), readable);
    let words =
        format!("selected: self {own}  total {}  latency in the last minute ", readable(row.total_ns()));
    let room = columns.saturating_sub(width(&words)).min(SECONDS);
    Line::from_iter([
        span(words, theme.dim()),
        span(sparkline(&row.figures.latency_ns, room), theme.accent()),
    ])
}

/// The parts that there are.
fn legend(data: &Data, columns: usize, theme: Theme) -> Line<'static> {
    let is_there = |part: Part| data.rows.iter().any(|row| row.figures.breakdown.ns(part) > 0);
    let mut spans = vec![span("time: ", theme.dim())];
    let mut used = 6;
    for part in Part::ALL.into_iter().filter(|part| is_there(*part)) {
        let (sign, style, name) = theme.part(part);
        let name = format!(" {name}  ");
        used += 1 + crate::text::width(&name);
        if used > columns {
            break;
        }
        spans.extend([span(sign, style), span(name, theme.dim())]);
    }
    Line::from(spans)
}

/// How wide each column is; 0 if there is no room for it.
struct Columns {
    service: usize,
    name: usize,
    own: usize,
    total: usize,
    breakdown: usize,
    latency: usize,
}

const RATE: usize = 7;
const ERRORS: usize = 6;
/// The durations that are always there: three percentiles and the maximum.
const TIMES: usize = 4;

impl Columns {
    fn new(width: usize) -> Self {
        let service = (width / 9).clamp(8, 20);
        let total = if width >= 90 { COLUMNS } else { 0 };
        let own = if width >= 100 { COLUMNS } else { 0 };
        let breakdown = if width >= 70 { (width / 10).clamp(8, 20) } else { 0 };
        // As wide as its title.
        let latency = if width >= 116 { (width / 10).clamp(14, 30) } else { 0 };
        let others = [service, RATE, ERRORS, own, total, breakdown, latency];
        let used: usize = others.iter().filter(|columns| **columns > 0).map(|columns| columns + 1).sum();
        let name = width.saturating_sub(used + TIMES * (COLUMNS + 1)).max(4);
        Self { service, name, own, total, breakdown, latency }
    }

    fn shown(&self) -> Vec<Shown<Column>> {
        let mut shown = vec![
            Shown::of(Column::Service, self.service),
            Shown::of(Column::Name, self.name),
            Shown::of(Column::Rate, RATE),
            Shown::of(Column::Errors, ERRORS),
            Shown::of(Column::P50, COLUMNS),
            Shown::of(Column::P95, COLUMNS),
            Shown::of(Column::P99, COLUMNS),
            Shown::of(Column::Max, COLUMNS),
            Shown::of(Column::Own, self.own),
            Shown::of(Column::Total, self.total),
            Shown { column: None, title: "TIME", columns: self.breakdown },
            Shown { column: None, title: "LATENCY, 1 MIN", columns: self.latency },
        ];
        shown.retain(|shown| shown.columns > 0);
        shown
    }

    fn cells(&self, row: &Row, theme: Theme) -> Vec<Vec<Span<'static>>> {
        let figures = &row.figures;
        let (service, name) = match &row.of {
            SeriesName::Of(service, name) if name.is_empty() => (&**service, "(no name)"),
            SeriesName::Of(service, name) => (&**service, &**name),
            SeriesName::Others => ("", "(all others)"),
        };
        let is_failing = figures.errors > 0;
        let one = |text: String, style| vec![span(text, style)];
        let errors = percent(figures.errors, figures.calls);
        let times = [figures.p50_ns, figures.p95_ns, figures.p99_ns, figures.max_ns];
        let mut cells = vec![
            one(left(service, self.service), theme.dim()),
            one(left(name, self.name), theme.plain()),
            one(right(&rate(figures.rate), RATE), theme.plain()),
            one(right(&errors, ERRORS), if is_failing { theme.bad() } else { theme.plain() }),
        ];
        cells.extend(times.map(|ns| one(time(ns), theme.plain())));
        if self.own > 0 {
            let own = figures.breakdown.self_ns().map_or_else(|| right("-", self.own), time);
            cells.push(one(own, theme.plain()));
        }
        if self.total > 0 {
            cells.push(one(time(row.total_ns()), theme.plain()));
        }
        if self.breakdown > 0 {
            cells.push(bar::breakdown(&figures.breakdown, self.breakdown, theme));
        }
        if self.latency > 0 {
            cells.push(without_blanks(&sparkline(&figures.latency_ns, self.latency), theme.accent()));
        }
        cells
    }
}
