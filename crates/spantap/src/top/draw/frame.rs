//! The whole screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span, Text};

use super::context::Context;
use super::text::{rate, span};
use super::{findings, help, losses, open, services, spans, trace, traces};
use crate::open::OpenCount;
use crate::text::{cut, grouped, local_time, width};
use crate::top::data::Data;
use crate::top::editor::Editor;
use crate::top::model::Window;
use crate::top::state::{Above, Areas, Page, State};
use crate::top::theme::Theme;

/// The smallest screen that anything is drawn on.
const LEAST: (u16, u16) = (40, 8);

/// Draws the screen, and notes where things are on it.
pub(in crate::top) fn draw(frame: &mut Frame<'_>, state: &mut State, data: &Data, context: &Context<'_>) {
    let area = frame.area();
    state.areas = Areas::default();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let words = format!(
            "{}x{} is too small: top needs {}x{}; q quits",
            area.width, area.height, LEAST.0, LEAST.1
        );
        let lines = crate::text::wrap(&words, area.width.into(), area.height.into());
        frame.render_widget(Text::from_iter(lines), area);
        return;
    }
    let editor_lines = state.editor.as_ref().map_or(0, |editor| editor.error().len() as u16);
    let [head, pages, body, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1 + editor_lines),
    ])
    .areas(area);
    frame.render_widget(head_line(head, state, data, context), head);
    draw_pages(frame, pages, state, data, context);
    state.page_lines = usize::from(body.height.saturating_sub(1)).max(1);
    match state.above.take() {
        Some(Above::Help) => {
            help::draw(frame, body, context.theme);
            state.above = Some(Above::Help);
        }
        Some(Above::Trace(mut shown)) => {
            trace::draw(frame, body, &mut shown, state, data, context.theme);
            state.above = Some(Above::Trace(shown));
        }
        None => match state.page {
            Page::Spans => spans::draw(frame, body, state, data, context),
            Page::Traces => traces::draw(frame, body, state, data, context),
            Page::Open => open::draw(frame, body, state, context),
            Page::Services => services::draw(frame, body, state, data, context),
            Page::Losses => losses::draw(frame, body, state, context),
            Page::Findings => findings::draw(frame, body, state, data, context),
        },
    }
    match &state.editor {
        Some(editor) => draw_editor(frame, keys, editor, context.theme),
        None => frame.render_widget(keys_line(state, context.theme), keys),
    }
}

fn head_line(area: Rect, state: &State, data: &Data, context: &Context<'_>) -> Line<'static> {
    let theme = context.theme;
    let mut right = Vec::new();
    if context.is_reading {
        right.push(span("reading ", theme.warn()));
    }
    if let Some(trouble) = context.trouble {
        // The page of losses has it whole.
        let trouble = cut(trouble, usize::from(area.width) / 4);
        right.push(span(format!("! {trouble} "), theme.warn()));
    }
    if state.is_paused {
        right.push(span(" PAUSED ", theme.selected()));
    }
    let counts = format!("  {}  {} spans  {}/s  ", clock(data.now_ns), grouped(data.spans), rate(data.rate));
    let name = "spantap top  ";
    let used = name.len() + width(&counts) + right.iter().map(Span::width).sum::<usize>();
    let source = cut(context.source, usize::from(area.width).saturating_sub(used));
    let gap = usize::from(area.width).saturating_sub(used + width(&source));
    let left = [span(name, theme.title()), span(source + &counts + &" ".repeat(gap), theme.plain())];
    Line::from_iter(left.into_iter().chain(right))
}

/// The titles of the pages, and what they are restricted to.
fn draw_pages(frame: &mut Frame<'_>, area: Rect, state: &mut State, data: &Data, context: &Context<'_>) {
    let theme = context.theme;
    let mut spans: Vec<Span<'static>> = Vec::new();
    let mut x = area.x;
    for (index, page) in Page::ALL.into_iter().enumerate() {
        let mark = match (page, context.open_count) {
            (Page::Open, Some(OpenCount { spans, has_more, .. })) => {
                format!(" ({}{})", grouped(spans), if has_more { "+" } else { "" })
            }
            (Page::Losses, _) if context.trouble.is_some() => "!".to_owned(),
            (Page::Findings, _) if !data.findings.found.findings.is_empty() => "!".to_owned(),
            _ => String::new(),
        };
        let title = format!(" {} {}{mark} ", index + 1, page.title());
        let columns = width(&title) as u16;
        state.areas.pages.push((Rect { x, width: columns, ..area }, page));
        x += columns;
        spans.push(span(title, if page == state.page { theme.selected() } else { theme.plain() }));
    }
    let room = usize::from(area.width).saturating_sub(usize::from(x - area.x) + 1);
    // Not all pages have all of them.
    let (has_query, has_window) = match state.page {
        Page::Spans => (true, true),
        Page::Traces => (true, false),
        Page::Services => (false, true),
        Page::Open | Page::Losses | Page::Findings => (false, false),
    };
    let window = if has_window { window_words(state.window) } else { "" };
    let (text, style) = match state.query.as_ref().filter(|_| has_query) {
        Some((_, text)) => {
            let since = match data.chosen_since_ns {
                Some(since_ns) if state.page == Page::Spans => format!(" (since {})", clock(since_ns)),
                _ => String::new(),
            };
            (format!("/{text}{since}"), theme.warn())
        }
        None => (window.to_owned(), theme.dim()),
    };
    let text = cut(&text, room);
    spans.push(span(" ".repeat(room - width(&text)), theme.plain()));
    spans.push(span(text, style));
    frame.render_widget(Line::from(spans), area);
}

fn window_words(window: Window) -> &'static str {
    match window {
        Window::Recent => "last minute",
        Window::All => "since the start",
    }
}

/// The time of day, to the second.
fn clock(ns: u64) -> String {
    let time = local_time(ns);
    time.get(11..19).unwrap_or_default().to_owned()
}

fn keys_line(state: &State, theme: Theme) -> Line<'static> {
    let keys: &[(&str, &str)] = match (&state.above, state.page) {
        (Some(Above::Help), _) => &[("Esc", "back"), ("q", "quit")],
        (Some(Above::Trace(trace)), _) if trace.is_in_details => {
            &[("j k", "scroll"), ("Tab", "to the spans"), ("Esc", "back"), ("?", "help"), ("q", "quit")]
        }
        (Some(Above::Trace(_)), _) => &[
            ("j k", "move"),
            ("h l", "close, open"),
            ("Tab", "to the details"),
            ("Esc", "back"),
            ("?", "help"),
            ("q", "quit"),
        ],
        (None, Page::Spans) => &[
            ("h l", "sort"),
            ("Enter", "traces"),
            ("/", "filter"),
            ("w", "window"),
            ("Space", "pause"),
            ("?", "help"),
            ("q", "quit"),
        ],
        (None, Page::Traces) => &[
            ("h l", "sort"),
            ("Enter", "spans"),
            ("/", "filter"),
            ("Esc", "back"),
            ("Space", "pause"),
            ("?", "help"),
            ("q", "quit"),
        ],
        (None, Page::Findings) => &[
            ("j k", "move"),
            ("Enter", "its trace"),
            ("1-6 Tab", "pages"),
            ("Space", "pause"),
            ("?", "help"),
            ("q", "quit"),
        ],
        (None, Page::Services) => &[
            ("j k", "scroll"),
            ("1-6 Tab", "pages"),
            ("w", "window"),
            ("Space", "pause"),
            ("?", "help"),
            ("q", "quit"),
        ],
        (None, Page::Open | Page::Losses) => {
            &[("j k", "scroll"), ("1-6 Tab", "pages"), ("Space", "pause"), ("?", "help"), ("q", "quit")]
        }
    };
    let each = keys.iter().flat_map(|(key, meaning)| {
        [span(format!(" {key} "), theme.selected()), span(format!(" {meaning} "), theme.plain())]
    });
    Line::from_iter(each)
}

/// The line in which a query is written, below what is wrong with it.
fn draw_editor(frame: &mut Frame<'_>, area: Rect, editor: &Editor, theme: Theme) {
    let columns = usize::from(area.width);
    let mut lines: Vec<Line<'_>> = editor
        .error()
        .iter()
        .enumerate()
        .map(|(index, line)| {
            let style = if index == 0 { theme.plain() } else { theme.bad() };
            Line::styled(format!(" {}", cut(line, columns.saturating_sub(1))), style)
        })
        .collect();
    // The part around the cursor.
    let (before, text) = (width(&editor.before_cursor()), editor.text());
    let skipped = (before + 3).saturating_sub(columns);
    let mut left_out = 0;
    let shown: String = text
        .chars()
        .skip_while(|c| {
            let is_before = left_out < skipped;
            left_out += if is_before { width(&c.to_string()) } else { 0 };
            is_before
        })
        .collect();
    let hint = if text.is_empty() {
        "duration > 100ms and service == \"shop\"   Enter: filter  Esc: cancel"
    } else {
        ""
    };
    lines.push(Line::from_iter([
        span("/", theme.title()),
        span(cut(&shown, columns.saturating_sub(1)), theme.plain()),
        span(cut(hint, columns.saturating_sub(1)), theme.dim()),
    ]));
    frame.render_widget(Text::from(lines), area);
    let x = area.x + 1 + (before - skipped.min(before)) as u16;
    frame.set_cursor_position((x.min(area.right().saturating_sub(1)), area.bottom().saturating_sub(1)));
}
