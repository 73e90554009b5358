//! A trace: its spans as a waterfall, and all that is known of the selected one.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span, Text};

use super::bar;
use super::text::{left, span, time, without_blanks};
use super::traces::{RANK, rank};
use crate::text::duration::COLUMNS;
use crate::text::{counted, cut, local_time, on_one_line, readable, width, wrap};
use crate::top::data::Data;
use crate::top::state::State;
use crate::top::theme::Theme;
use crate::top::waterfall::{self, Waterfall};
use crate::trace::Shown;
use crate::view::{About, Detail};

/// The most lines of a value.
const VALUE_LINES: usize = 20;
/// The most columns of a key.
const KEY: usize = 28;

pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    trace: &mut Waterfall,
    state: &mut State,
    data: &Data,
    theme: Theme,
) {
    let details = (area.height / 3).max(4).min(area.height.saturating_sub(3));
    let [head, list, rule, below] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
        Constraint::Length(details),
    ])
    .areas(area);
    frame.render_widget(head_line(trace, theme), head);

    let first = trace.place.scroll(list.height.into(), trace.shown.len());
    state.areas.rows = (list, first);
    let columns = Columns::new(area.width.into());
    let selected = trace.selected();
    let lines = trace.shown.iter().skip(first).take(list.height.into()).filter_map(|index| {
        let span = trace.spans.get(*index)?;
        let line = columns.line(trace, span, trace.is_closed(*index), data, theme);
        let is_selected = selected == Some(*index);
        Some(if is_selected { line.style(theme.selected()) } else { line })
    });
    frame.render_widget(Text::from_iter(lines), list);

    let words = " ━ on the critical path  ─ not on it ";
    let dashes = "─".repeat(usize::from(rule.width).saturating_sub(width(words)));
    frame.render_widget(Line::from_iter([span(dashes, theme.dim()), span(words, theme.dim())]), rule);
    draw_details(frame, below, trace, theme);
}

fn head_line(trace: &Waterfall, theme: Theme) -> Line<'static> {
    let kept = &trace.kept;
    let mut spans = vec![
        span(format!("trace {:032x}", kept.trace.id), theme.title()),
        span(format!("  {}", readable(kept.duration_ns())), theme.title()),
        span(format!("  {}", counted(trace.spans.len() as u64, "span", "spans")), theme.plain()),
    ];
    if kept.errors > 0 {
        spans.push(span(format!("  {}", counted(kept.errors as u64, "error", "errors")), theme.bad()));
    }
    if kept.trace.left_out > 0 {
        spans.push(span(
            format!("  {} left out", counted(kept.trace.left_out, "span", "spans")),
            theme.warn(),
        ));
    }
    if kept.trace.shown != Shown::Complete {
        spans.push(span("  incomplete: spans have not arrived", theme.warn()));
    }
    spans.push(span(format!("  {}", local_time(kept.times.0)), theme.dim()));
    Line::from(spans)
}

/// How wide each column is.
struct Columns {
    name: usize,
    own: bool,
    bar: usize,
}

impl Columns {
    fn new(width: usize) -> Self {
        let own = width >= 90;
        let used = (COLUMNS + 1) * (1 + usize::from(own)) + RANK + 2;
        let name = (width.saturating_sub(used) * 11 / 20).max(8);
        Self { name, own, bar: width.saturating_sub(used + name) }
    }

    fn line(
        &self,
        trace: &Waterfall,
        of: &waterfall::Span,
        is_closed: bool,
        data: &Data,
        theme: Theme,
    ) -> Line<'static> {
        let mark = match () {
            () if !of.has_children => "  ",
            () if is_closed => "▸ ",
            () => "▾ ",
        };
        let guide = cut(&of.guide, self.name / 2);
        let room = self.name.saturating_sub(width(&guide) + width(mark));
        let name_style = match () {
            () if of.is_error => theme.bad(),
            () if of.is_kernel => theme.kernel(),
            () => theme.plain(),
        };
        // The service is said where there is room for it behind the name.
        let name = if of.is_error { format!("✗ {}", of.name) } else { of.name.clone() };
        let name = cut(&name, room);
        let service = match room.saturating_sub(width(&name)) {
            left @ 6.. if !of.is_kernel => format!("  {}", cut(&of.service, left - 2)),
            _ => String::new(),
        };
        let blanks = " ".repeat(room.saturating_sub(width(&name) + width(&service)));
        let duration_ns = of.times.1.saturating_sub(of.times.0);
        let place = match of.is_kernel {
            true => rank(crate::top::data::Rank::Usual, theme),
            false => rank(data.rank(&of.service, &of.name, duration_ns), theme),
        };
        let mut spans = vec![
            span(guide, theme.dim()),
            span(mark, theme.dim()),
            span(name, name_style),
            span(service, theme.dim()),
            span(blanks + " ", theme.plain()),
            span(time(duration_ns), theme.plain()),
            span(" ", theme.plain()),
            place,
            span(" ", theme.plain()),
        ];
        if self.own {
            spans.push(span(time(of.self_ns) + " ", theme.dim()));
        }
        let style = match () {
            () if of.is_error => theme.bad(),
            () if of.is_kernel => theme.kernel(),
            () => theme.accent(),
        };
        let bar = bar::times(trace.kept.times, of.times, &of.critical, self.bar);
        spans.extend(without_blanks(&bar, style));
        Line::from(spans)
    }
}

fn draw_details(frame: &mut Frame<'_>, area: Rect, trace: &mut Waterfall, theme: Theme) {
    let details = trace.details();
    let key = details.iter().map(|detail| width(&cut(&detail.label, KEY))).max().unwrap_or(0);
    let room = usize::from(area.width).saturating_sub(key + 3).max(8);
    let lines: Vec<Line<'static>> =
        details.iter().flat_map(|detail| detail_lines(detail, key, room, theme)).collect();
    let lines_on_screen = usize::from(area.height);
    trace.details_from = trace.details_from.min(lines.len().saturating_sub(lines_on_screen));
    let more = lines.len().saturating_sub(trace.details_from + lines_on_screen);
    let mut shown: Vec<Line<'static>> =
        lines.into_iter().skip(trace.details_from).take(lines_on_screen).collect();
    if more > 0 {
        shown.pop();
        shown.push(Line::styled(
            format!("… {} below; Tab, then j", counted(more as u64 + 1, "line", "lines")),
            theme.warn(),
        ));
    }
    frame.render_widget(Text::from(shown), area);
}

fn detail_lines(detail: &Detail, key: usize, room: usize, theme: Theme) -> Vec<Line<'static>> {
    let (mark, style) = match detail.about {
        About::Error => ("✗", theme.bad()),
        About::Note => ("!", theme.warn()),
        About::Span => (" ", theme.plain()),
        About::Event if detail.label.is_empty() => (" ", theme.plain()),
        About::Event => ("•", theme.plain()),
    };
    let lines = wrap(&on_one_line(&detail.text), room, VALUE_LINES);
    let line = |(index, text): (usize, String)| -> Line<'static> {
        let (mark, label) = if index == 0 { (mark, &*detail.label) } else { (" ", "") };
        let head: [Span<'static>; 2] = [span(mark, style), span(left(label, key) + "  ", theme.dim())];
        Line::from_iter(head.into_iter().chain([span(text, style)]))
    };
    lines.into_iter().enumerate().map(line).collect()
}
