//! Bars: where time goes, and when something was.

use ratatui::text::Span;

use super::text::span;
use crate::top::model::{Breakdown, Part};
use crate::top::theme::Theme;

/// Where the time goes, as a bar of `columns`. Blank if nothing is known.
pub(super) fn breakdown(breakdown: &Breakdown, columns: usize, theme: Theme) -> Vec<Span<'static>> {
    let total = u128::from(breakdown.total_ns());
    let (mut so_far, mut drawn) = (0_u128, 0);
    let mut spans = Vec::new();
    for part in Part::ALL {
        so_far += u128::from(breakdown.ns(part));
        let end = match total {
            0 => 0,
            total => ((so_far * columns as u128 + total / 2) / total) as usize,
        };
        let (sign, style, _) = theme.part(part);
        if end > drawn {
            spans.push(span(sign.repeat(end - drawn), style));
        }
        drawn = end.max(drawn);
    }
    spans.push(span(" ".repeat(columns.saturating_sub(drawn)), theme.plain()));
    spans
}

/// Some times within a whole, in `columns`: light where the first are, and heavy where the second are.
pub(super) fn times(whole: (u64, u64), light: (u64, u64), heavy: &[(u64, u64)], columns: usize) -> String {
    let (start, end) = whole;
    let length = u128::from(end.saturating_sub(start)).max(1);
    let place = |ns: u64| (u128::from(ns.clamp(start, end) - start) * columns as u128 / length) as usize;
    let mut cells = vec![' '; columns];
    let mut fill = |(from, to): (u64, u64), sign: char| {
        // However short, it is seen.
        let first = place(from).min(columns.saturating_sub(1));
        let last = place(to).max(first + 1).min(columns);
        cells.iter_mut().take(last).skip(first).for_each(|cell| *cell = sign);
    };
    fill(light, '─');
    heavy.iter().for_each(|times| fill(*times, '━'));
    cells.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_drawn_where_they_are() {
        let whole = (100, 200);
        assert_eq!(times(whole, (100, 200), &[], 10), "──────────");
        assert_eq!(times(whole, (150, 180), &[(150, 160)], 10), "     ━──  ");
        assert_eq!(times(whole, (199, 199), &[], 10), "         ─");
        assert_eq!(times(whole, (0, 900), &[(300, 400)], 4), "───━");
        assert_eq!(times((5, 5), (5, 5), &[], 3), "─  ");
        assert_eq!(times(whole, (100, 200), &[], 0), "");
    }
}
