//! The keys and signs.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Text};

use super::text::{left, span};
use crate::text::{width, wrap};
use crate::top::keys::{BINDINGS, Binding};
use crate::top::model::Part;
use crate::top::theme::Theme;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, theme: Theme) {
    let keys = BINDINGS.iter().map(|binding| width(binding.keys)).max().unwrap_or(0);
    let columns = usize::from(area.width).saturating_sub(keys + 3);
    let of_binding = |Binding { keys: of, meaning }: &Binding| {
        let lines = wrap(meaning, columns, 2).into_iter().enumerate();
        let line = |(index, text)| {
            let of = if index == 0 { of } else { &"" };
            Line::from_iter([
                span(format!(" {}  ", left(of, keys)), theme.title()),
                span(text, theme.plain()),
            ])
        };
        lines.map(line).collect::<Vec<_>>()
    };
    let mut lines: Vec<Line<'static>> = BINDINGS.iter().flat_map(of_binding).collect();
    lines.push(Line::default());
    let mut parts = vec![span(" TIME  ", theme.title())];
    for part in Part::ALL {
        let (sign, style, name) = theme.part(part);
        if parts.iter().map(|span| width(&span.content)).sum::<usize>() + width(name) + 5
            > usize::from(area.width)
        {
            lines.push(Line::from(std::mem::replace(&mut parts, vec![span("       ", theme.plain())])));
        }
        parts.extend([span(sign, style), span(format!(" {name}  "), theme.plain())]);
    }
    lines.push(Line::from(parts));
    for words in [
        " SELF is the time without an open child, an average. >p95 and >p99: longer than 95 % or 99 % of the same spans.",
        " A percentile is right to within 1 %. The last minute is the last 30 to 60 seconds.",
    ] {
        lines.extend(wrap(words, usize::from(area.width), 2).into_iter().map(Line::from));
    }
    frame.render_widget(Text::from(lines), area);
}
