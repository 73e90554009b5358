//! What was lost, refused or not shown, and what there was to say.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Text};

use super::context::Context;
use crate::text::cut;
use crate::top::state::State;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &mut State, context: &Context<'_>) {
    let height = usize::from(area.height);
    state.from = state.from.min(context.losses.len().saturating_sub(height));
    let lines = context.losses.iter().skip(state.from).take(height);
    let lines = lines.map(|line| Line::from(cut(line, area.width.into())));
    frame.render_widget(Text::from_iter(lines), area);
}
