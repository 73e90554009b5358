//! Which service calls which, as a tree from outside inwards.

use std::collections::HashSet;
use std::sync::Arc;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span, Text};

use super::context::Context;
use super::table;
use super::text::{left, percent, right, span, time};
use crate::text::duration::COLUMNS;
use crate::text::{counted, cut, grouped, width};
use crate::top::data::Data;
use crate::top::model::Call;
use crate::top::state::State;
use crate::top::theme::Theme;

const CALLS: usize = 10;
const ERRORS: usize = 6;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &mut State, data: &Data, context: &Context<'_>) {
    let theme = context.theme;
    let width = usize::from(area.width);
    let bar = (width / 5).clamp(8, 40);
    let name = width.saturating_sub(CALLS + ERRORS + 2 * COLUMNS + bar + 5).max(10);
    let titles = [
        left("SERVICE, AND WHAT IT CALLS", name),
        right("CALLS", CALLS),
        right("ERR %", ERRORS),
        right("AVG", COLUMNS),
        right("P95", COLUMNS),
        "TIME IN CALLS".to_owned(),
    ];
    frame.render_widget(Line::styled(titles.join(" "), theme.title()), Rect { height: 1, ..area });
    let list = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    if data.calls.is_empty() {
        table::draw_empty(frame, list, "No whole trace has arrived yet.", theme);
        return;
    }
    let mut lines: Vec<Line<'static>> = Vec::new();
    let most = data.calls.iter().map(|call| call.total_ns).max().unwrap_or(1).max(1);
    for (guide, call, is_above) in tree(&data.calls) {
        lines.push(line(&guide, call, is_above, [name, bar], most, theme));
    }
    if data.other_calls > 0 {
        let words = format!("and {} between other services", counted(data.other_calls, "call", "calls"));
        lines.push(Line::styled(words, theme.warn()));
    }
    let height = usize::from(list.height);
    state.from = state.from.min(lines.len().saturating_sub(height));
    frame.render_widget(Text::from_iter(lines.into_iter().skip(state.from).take(height)), list);
}

fn line(
    guide: &str,
    call: &Call,
    is_above: bool,
    [name, bar]: [usize; 2],
    most: u128,
    theme: Theme,
) -> Line<'static> {
    let mark = if is_above { " (see above)" } else { "" };
    let errors = if call.errors > 0 { theme.bad() } else { theme.plain() };
    let filled = (call.total_ns * bar as u128).div_ceil(most) as usize;
    // The guide is not from a sender, and its blanks count.
    let guide = cut(guide, name);
    let service = left(&format!("{}{mark}", call.to), name - width(&guide));
    let spans: [Span<'static>; 5] = [
        span(guide, theme.dim()),
        span(service, theme.plain()),
        span(format!(" {}", right(&grouped(call.calls), CALLS)), theme.plain()),
        span(format!(" {}", right(&percent(call.errors, call.calls), ERRORS)), errors),
        span(format!(" {} {} ", time(call.average_ns), time(call.p95_ns)), theme.plain()),
    ];
    Line::from_iter(spans.into_iter().chain([span("━".repeat(filled.min(bar)), theme.accent())]))
}

/// Each call once, below the call of the service that makes it, with the lines that lead to it. A service that is called
/// from several has its own calls below the first; the others say so.
fn tree(calls: &[Call]) -> Vec<(String, &Call, bool)> {
    let from = |service: Option<&Arc<str>>| -> Vec<&Call> {
        calls.iter().filter(|call| call.from.as_ref() == service).collect()
    };
    let mut drawn = Vec::new();
    let mut known: HashSet<&Arc<str>> = HashSet::new();
    let mut done: HashSet<(Option<&Arc<str>>, &Arc<str>)> = HashSet::new();
    // What is called from outside first; then what no whole trace has a beginning of.
    let tops = from(None).into_iter().chain(calls.iter().filter(|call| call.from.is_some()));
    for top in tops {
        let mut next: Vec<(String, String, &Call)> = vec![(String::new(), String::new(), top)];
        while let Some((guide, below, call)) = next.pop() {
            if !done.insert((call.from.as_ref(), &call.to)) {
                continue;
            }
            let children = from(Some(&call.to));
            let is_above = !children.is_empty() && !known.insert(&call.to);
            drawn.push((guide, call, is_above));
            if is_above {
                continue;
            }
            let last = children.len();
            let child = |(index, call)| {
                let (own, further) = if index + 1 == last { ("└ ", "  ") } else { ("├ ", "│ ") };
                (format!("{below}{own}"), format!("{below}{further}"), call)
            };
            let children: Vec<_> = children.into_iter().enumerate().map(child).collect();
            next.extend(children.into_iter().rev());
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(from: &str, to: &str) -> Call {
        let from = (!from.is_empty()).then(|| from.into());
        Call { from, to: to.into(), calls: 1, errors: 0, average_ns: 1, p95_ns: 1, total_ns: 1 }
    }

    fn drawn(calls: &[(&str, &str)]) -> Vec<String> {
        let calls: Vec<Call> = calls.iter().map(|(from, to)| call(from, to)).collect();
        let line = |(guide, call, is_above): (String, &Call, bool)| {
            format!("{guide}{}{}", call.to, if is_above { "*" } else { "" })
        };
        tree(&calls).into_iter().map(line).collect()
    }

    #[test]
    fn each_call_is_drawn_once_below_who_calls() {
        let calls =
            [("", "web"), ("web", "shop"), ("web", "users"), ("shop", "db"), ("users", "db"), ("db", "disk")];
        assert_eq!(drawn(&calls), ["web", "├ shop", "│ └ db", "│   └ disk", "└ users", "  └ db*"]);
    }

    #[test]
    fn services_that_call_each_other_are_drawn_once() {
        assert_eq!(drawn(&[("", "a"), ("a", "b"), ("b", "a")]), ["a", "└ b", "  └ a*"]);
        assert_eq!(drawn(&[("a", "b"), ("b", "a")]), ["b", "└ a", "  └ b*"][..2].to_vec());
    }
}
