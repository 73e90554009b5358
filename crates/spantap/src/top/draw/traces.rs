//! The table of traces that are kept.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Span, Text};

use super::context::Context;
use super::table::{self, Shown};
use super::text::{left, right, span, time};
use crate::text::{grouped, local_time};
use crate::top::data::{self, Data, Rank};
use crate::top::model::{Kept, SeriesName};
use crate::top::sort::TraceColumn as Column;
use crate::top::state::State;
use crate::top::theme::Theme;

const BEGAN: usize = 12;
const DURATION: usize = 9;
pub(super) const RANK: usize = 4;
const SPANS: usize = 6;
const ERRORS: usize = 7;
const TRACE_ID: usize = 32;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &mut State, data: &Data, context: &Context<'_>) {
    let theme = context.theme;
    let width = usize::from(area.width);
    let service = (width / 8).clamp(8, 24);
    let id = if width >= 110 { TRACE_ID } else { 0 };
    let used = BEGAN + service + DURATION + RANK + SPANS + ERRORS + 6 + if id > 0 { id + 1 } else { 0 };
    let name = width.saturating_sub(used).max(6);
    let mut shown = vec![
        Shown::of(Column::Began, BEGAN),
        Shown::of(Column::Service, service),
        Shown::of(Column::Name, name),
        Shown::of(Column::Duration, DURATION),
        Shown { column: None, title: "", columns: RANK },
        Shown::of(Column::Spans, SPANS),
        Shown::of(Column::Errors, ERRORS),
        Shown { column: None, title: "TRACE ID", columns: id },
    ];
    shown.retain(|shown| shown.columns > 0);
    let titles = Rect { height: 1, ..area };
    state.areas.trace_columns = table::draw_titles(frame, titles, &shown, state.sort.1, theme);
    let list = Rect { y: area.y + 1, height: area.height.saturating_sub(2), ..area };
    let last = Rect { y: area.bottom().saturating_sub(1), height: 1, ..area };
    let words = match &state.series {
        Some(SeriesName::Of(service, name)) => format!(
            "traces with {service} {name}, of those that are kept: slow, failed and some of the latest"
        ),
        _ => "slow and failed traces, and some of the latest".to_owned(),
    };
    frame.render_widget(span(crate::text::cut(&words, width), theme.dim()), last);
    if data.traces.is_empty() {
        table::draw_empty(frame, list, "No such trace is kept.", theme);
        return;
    }
    let first = state.traces.scroll(list.height.into(), data.traces.len());
    state.areas.rows = (list, first);
    let rows = data.traces.iter().enumerate().skip(first).take(list.height.into());
    let lines = rows.map(|(index, kept)| {
        let cells = cells(kept, data, [service, name, id], theme);
        table::row(cells, index == state.traces.selected(), width, theme)
    });
    frame.render_widget(Text::from_iter(lines), list);
}

/// How a duration compares with others, in [`RANK`] columns.
pub(super) fn rank(rank: Rank, theme: Theme) -> Span<'static> {
    match rank {
        Rank::Highest => span(">p99", theme.bad()),
        Rank::High => span(">p95", theme.warn()),
        Rank::Usual => span(" ".repeat(RANK), theme.plain()),
    }
}

fn cells(kept: &Kept, data: &Data, [service, name, id]: [usize; 3], theme: Theme) -> Vec<Vec<Span<'static>>> {
    let began = local_time(kept.times.0);
    let began = began.get(11..).unwrap_or_default();
    let (of, root) = (data::service(kept), data::name(kept));
    let root_ns = kept.root().map_or(0, |span| span.duration_ns());
    let errors = if kept.errors > 0 { theme.bad() } else { theme.plain() };
    let one = |text: String, style| vec![span(text, style)];
    let mut cells = vec![
        one(left(began, BEGAN), theme.dim()),
        one(left(of, service), theme.dim()),
        one(left(root, name), theme.plain()),
        one(right(&time(kept.duration_ns()), DURATION), theme.plain()),
        vec![rank(data.rank(of, root, root_ns), theme)],
        one(right(&grouped(kept.trace.spans.len() as u64), SPANS), theme.plain()),
        one(right(&grouped(kept.errors as u64), ERRORS), errors),
    ];
    if id > 0 {
        cells.push(one(format!("{:032x}", kept.trace.id), theme.dim()));
    }
    cells
}
