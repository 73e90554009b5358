//! Draws a span's account, how its threads spent the time in which it was entered: `█████▒▒░░░░░`, with a legend.

use anstyle::{AnsiColor, Style};

use super::bar::Interval;
use super::line::{DIM, Line, RED, YELLOW};
use crate::span::account::{Account, STATES};

const GREEN: Style = AnsiColor::Green.on_default();
const MAGENTA: Style = AnsiColor::Magenta.on_default();
const BLUE: Style = AnsiColor::Blue.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// The sign, style and name of each part, in the order of [`crate::span::account::KEYS`].
const LOOKS: [(&str, Style, &str); STATES] = [
    ("█", GREEN, "cpu"),
    ("▒", YELLOW, "run queue"),
    ("▞", YELLOW, "preempted"),
    ("▓", MAGENTA, "throttled"),
    ("░", BLUE, "sleep"),
    ("≈", CYAN, "network"),
    ("▌", MAGENTA, "lock"),
    ("▄", RED, "disk"),
    ("▂", RED, "blocked"),
    ("·", DIM, "stopped"),
    ("?", DIM, "not seen"),
];

/// States below this are left out of the legend, except the largest.
const MIN_PERCENT: u64 = 1;

/// Whether the account is worth a line: a thread that was on the CPU nearly all the time needs no explanation.
pub(super) fn is_worth_a_line(account: Account) -> bool {
    let off_cpu = account.entered_ns() - account.0[0].min(account.entered_ns());
    off_cpu >= 10_000 && percent(off_cpu, account) >= 5
}

/// Adds the bar, in which `columns` columns stand for the whole account.
pub(super) fn put_bar(line: &mut Line<'_>, account: Account, columns: usize) {
    let whole = Interval { start_ns: 0, end_ns: account.entered_ns() };
    let (mut so_far, mut drawn) = (0u64, 0);
    for (ns, (sign, style, _)) in account.0.into_iter().zip(LOOKS) {
        so_far = so_far.saturating_add(ns);
        let end = whole.part(so_far, columns);
        line.put(style, &sign.repeat(end - drawn));
        drawn = end;
    }
}

/// Adds the names of the parts, the largest first.
pub(super) fn put_legend(line: &mut Line<'_>, account: Account) {
    let mut parts: Vec<_> = account.0.into_iter().zip(LOOKS).collect();
    parts.sort_by_key(|(ns, _)| std::cmp::Reverse(*ns));
    for (index, (ns, (sign, style, name))) in parts.into_iter().enumerate() {
        let percent = percent(ns, account);
        if index > 0 && percent < MIN_PERCENT {
            break;
        }
        line.gap(usize::from(index > 0));
        line.put(style, sign);
        line.put(DIM, &format!(" {name} {percent}%"));
    }
}

/// Rounded to the nearest percent.
fn percent(ns: u64, account: Account) -> u64 {
    let whole = u128::from(account.entered_ns().max(1));
    ((200 * u128::from(ns) + whole) / (2 * whole)) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::span::account::KEYS;
    use crate::view::Look;

    fn drawn(account: [u64; STATES]) -> (String, String) {
        let look = Look::new(80, false);
        let (mut bar, mut legend) = (Line::new(&look), Line::new(&look));
        put_bar(&mut bar, Account(account), 10);
        put_legend(&mut legend, Account(account));
        (bar.end().trim().to_owned(), legend.end().trim().to_owned())
    }

    #[test]
    fn the_parts_fill_the_bar_and_are_named_by_size() {
        let (bar, legend) = drawn([300, 100, 0, 0, 600, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bar, "███▒░░░░░░");
        assert_eq!(legend, "░ sleep 60% █ cpu 30% ▒ run queue 10%");
        assert_eq!(drawn([7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), ("██████████".into(), "█ cpu 100%".into()));
        assert_eq!(drawn([1000, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]).1, "█ cpu 99%");
        assert_eq!(drawn([1; STATES]).0.chars().count(), 10);
        assert_eq!(drawn([u64::MAX; STATES]).0, "██████████");
    }

    #[test]
    fn each_state_has_its_name() {
        let names = KEYS.into_iter().zip(LOOKS).filter_map(|(key, (_, _, name))| {
            let state = key.strip_prefix("kernel.")?.strip_suffix("_ns")?;
            (state.replace('_', " ") != name).then_some((state, name))
        });
        assert_eq!(names.collect::<Vec<_>>(), [("on_cpu", "cpu"), ("unseen", "not seen")]);
        let signs: HashSet<&str> = LOOKS.iter().map(|(sign, ..)| *sign).collect();
        assert_eq!(signs.len(), STATES);
    }

    #[test]
    fn a_span_on_the_cpu_all_the_time_needs_no_line() {
        assert!(!is_worth_a_line(Account([1_000_000, 10_000, 0, 0, 0, 0, 0, 0, 0, 0, 0])));
        assert!(!is_worth_a_line(Account([1, 0, 0, 0, 9_000, 0, 0, 0, 0, 0, 0])));
        assert!(is_worth_a_line(Account([900_000, 0, 100_000, 0, 0, 0, 0, 0, 0, 0, 0])));
    }
}
