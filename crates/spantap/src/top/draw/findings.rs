//! What is wrong in the latest traces: a row for each finding, and below them what is known of the selected one.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span, Text};

use super::context::Context;
use super::table;
use super::text::{left, percent, right, span, time};
use crate::findings::{Finding, Found, sentence};
use crate::text::duration::COLUMNS;
use crate::text::{counted, cut, grouped, local_time, wrap};
use crate::top::data::Data;
use crate::top::state::State;
use crate::top::theme::Theme;

const SHARE: usize = 5;
const TRACES: usize = 9;
const KIND: usize = 12;

/// The most lines about what was not looked at.
const MOST_LACKS: usize = 2;

/// The most lines of a sentence.
const SENTENCE_LINES: usize = 4;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &mut State, data: &Data, context: &Context<'_>) {
    let (theme, width) = (context.theme, usize::from(area.width));
    let found = &data.findings.found;
    let service = (width / 8).clamp(8, 24);
    let name = width.saturating_sub(KIND + service + COLUMNS + SHARE + TRACES + 5).max(6);
    let titles = [
        left("KIND", KIND),
        left("SERVICE", service),
        left("SPAN", name),
        right("COST", COLUMNS),
        right("%", SHARE),
        right("TRACES", TRACES),
    ];
    frame.render_widget(Line::styled(titles.join(" "), theme.title()), Rect { height: 1, ..area });
    let last = Rect { y: area.bottom().saturating_sub(1), height: 1, ..area };
    frame.render_widget(span(cut(&about(data), width), theme.dim()), last);
    let lacks = found.lacks.iter().take(MOST_LACKS.min(usize::from(area.height / 4)));
    let lacks: Vec<Line<'_>> = lacks.map(|lack| Line::styled(cut(lack, width), theme.warn())).collect();
    let above = Rect { y: last.y.saturating_sub(lacks.len() as u16), height: lacks.len() as u16, ..area };
    let list = Rect { y: area.y + 1, height: area.height.saturating_sub(2 + above.height), ..area };
    frame.render_widget(Text::from(lacks), above);
    if found.findings.is_empty() {
        let words = if found.traces == 0 { "No whole trace has arrived yet." } else { "Nothing was found." };
        table::draw_empty(frame, list, words, theme);
        return;
    }
    let rows = Rect { height: (found.findings.len() as u16).min(list.height / 2).max(1), ..list };
    let first = state.findings.scroll(rows.height.into(), found.findings.len());
    state.areas.rows = (rows, first);
    let row = |(index, finding): (usize, &Finding)| {
        let cells = cells(finding, found, [service, name], theme);
        table::row(cells, index == state.findings.selected(), width, theme)
    };
    let lines = found.findings.iter().enumerate().skip(first).take(rows.height.into()).map(row);
    frame.render_widget(Text::from_iter(lines), rows);
    let Some(selected) = found.findings.get(state.findings.selected()) else { return };
    let is_kept = data.findings.traces.get(state.findings.selected()).is_some_and(Option::is_some);
    let below =
        Rect { y: rows.bottom() + 1, height: list.bottom().saturating_sub(rows.bottom() + 1), ..area };
    frame.render_widget(details(selected, found, is_kept, width, theme), below);
}

fn cells(
    finding: &Finding,
    found: &Found,
    [service, name]: [usize; 2],
    theme: Theme,
) -> Vec<Vec<Span<'static>>> {
    let one = |text: String, style| vec![span(text, style)];
    vec![
        one(left(finding.kind.title(), KIND), theme.warn()),
        one(left(&finding.service, service), theme.dim()),
        one(left(&finding.name, name), theme.plain()),
        one(time(finding.cost_ns), theme.plain()),
        one(right(&percent(finding.cost_ns, found.total_ns), SHARE), theme.plain()),
        one(right(&grouped(finding.traces), TRACES), theme.plain()),
    ]
}

/// What happens, what proves it and what it costs.
fn details(finding: &Finding, found: &Found, is_kept: bool, width: usize, theme: Theme) -> Text<'static> {
    let mut lines = Vec::new();
    for (text, style) in sentence(finding, found).iter().zip([theme.title(), theme.plain(), theme.dim()]) {
        let wrapped = wrap(text, width.saturating_sub(2), SENTENCE_LINES);
        lines.extend(wrapped.into_iter().map(|line| Line::styled(format!(" {line}"), style)));
    }
    if !is_kept {
        lines.push(Line::styled(" Its trace was not kept.", theme.warn()));
    }
    Text::from(lines)
}

/// Which traces were looked at.
fn about(data: &Data) -> String {
    let found = &data.findings.found;
    let since = local_time(data.findings.since_ns);
    let since = since.get(11..19).unwrap_or_default();
    let mut words = format!("{} since {since}", counted(found.traces, "trace", "traces"));
    if data.findings.skipped > 0 {
        words += &format!(", and {} not looked at", grouped(data.findings.skipped));
    }
    if found.more > 0 {
        words += &format!("; {}", counted(found.more as u64, "more finding", "more findings"));
    }
    words
}
