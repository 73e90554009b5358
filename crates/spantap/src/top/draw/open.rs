//! The spans that are open for long.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Text};

use super::context::Context;
use super::table;
use super::text::{left, right, span, time};
use crate::text::duration::COLUMNS;
use crate::top::data::Data;
use crate::top::state::State;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &mut State, data: &Data, context: &Context<'_>) {
    let theme = context.theme;
    let width = usize::from(area.width);
    let service = (width / 8).clamp(8, 24);
    let name = (width / 4).clamp(8, 40);
    let rest = width.saturating_sub(COLUMNS + service + name + 3);
    let titles = [right("AGE", COLUMNS), left("SERVICE", service), left("SPAN", name), "FIELDS".to_owned()];
    frame.render_widget(Line::styled(titles.join(" "), theme.title()), Rect { height: 1, ..area });
    let list = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    if context.open.is_empty() {
        table::draw_empty(frame, list, "No program says that a span is open for long.", theme);
        return;
    }
    let height = usize::from(list.height);
    state.from = state.from.min(context.open.len().saturating_sub(height));
    let lines = context.open.iter().skip(state.from).take(height).map(|open| {
        let age = time(data.now_ns.saturating_sub(open.began_ns));
        Line::from_iter([
            span(age, theme.warn()),
            span(format!(" {} ", left(&open.service, service)), theme.dim()),
            span(left(&open.name, name), theme.plain()),
            span(format!(" {}", left(&open.fields, rest)), theme.dim()),
        ])
    });
    frame.render_widget(Text::from_iter(lines), list);
}
