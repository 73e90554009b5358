//! The spans that are open for long.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Text};

use super::context::Context;
use super::table;
use super::text::{left, right, span, time};
use crate::text::duration::COLUMNS;
use crate::text::{counted, cut};
use crate::top::open::Open;
use crate::top::state::State;

const EMPTY: &str = "No program reports a span that is open for long. A program that sends to a socket reports them with \
                     TRACING_USDT_OPEN_SPANS=1s, which spantap sets for the one that it runs.";

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &mut State, context: &Context<'_>) {
    let theme = context.theme;
    let width = usize::from(area.width);
    let service = (width / 8).clamp(8, 24);
    let name = (width / 4).clamp(8, 40);
    let id = if width >= 110 { 33 } else { 0 };
    let rest = width.saturating_sub(COLUMNS + service + name + id + 3);
    let titles = [
        right("AGE", COLUMNS),
        left("SERVICE", service),
        left("SPAN", name),
        left("FIELDS", rest),
        if id > 0 { "TRACE ID" } else { "" }.to_owned(),
    ];
    frame.render_widget(Line::styled(titles.join(" "), theme.title()), Rect { height: 1, ..area });
    let list = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    if context.open_count.is_none() && context.ended.is_empty() {
        table::draw_empty(frame, list, EMPTY, theme);
        return;
    }
    let row = |open: &Open| {
        Line::from_iter([
            span(time(open.age_ns), theme.warn()),
            span(format!(" {} ", left(&open.service, service)), theme.dim()),
            span(left(&open.name, name), theme.plain()),
            span(format!(" {}", left(&open.fields, rest)), theme.dim()),
            span(if id > 0 { format!(" {}", open.trace_id) } else { String::new() }, theme.dim()),
        ])
    };
    let mut lines: Vec<Line<'static>> = context.open.iter().map(row).collect();
    let more = context.open_count.map_or(0, |count| count.spans).saturating_sub(context.open.len() as u64);
    if more > 0 {
        let words = format!("and {}, not shown", counted(more, "more span", "more spans"));
        lines.push(Line::styled(words, theme.warn()));
    }
    if !context.ended.is_empty() {
        lines.extend([Line::default(), Line::styled("OPEN WHEN THE PROCESS ENDED", theme.title())]);
        lines.extend(context.ended.iter().rev().flatten().map(|line| Line::from(cut(line, width))));
    }
    let height = usize::from(list.height);
    state.from = state.from.min(lines.len().saturating_sub(height));
    frame.render_widget(Text::from_iter(lines.into_iter().skip(state.from).take(height)), list);
}
