//! Presses keys in `spantap top`, and measures how soon each is shown.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use vt100::Screen;

use super::statistics::quantiles;
use crate::screen::Program;

/// How long keys took to be shown, in milliseconds.
#[derive(Debug)]
pub(crate) struct Presses {
    pub(crate) keys: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) max_ms: f64,
}

/// Where a key shows.
#[derive(Clone, Copy)]
pub(super) enum Shows {
    /// In the titles of the pages and of the columns.
    Titles,
    /// In which row is selected.
    Selection,
}

/// A key, and where it shows.
pub(super) type Key = (&'static str, Shows);

/// They end where they began. The table is sorted by name while a row is selected: its rows stay where they are when
/// the figures change, so that only the key changes what is looked at.
const KEYS: [Key; 9] = [
    ("j", Shows::Selection),
    ("2", Shows::Titles),
    ("1", Shows::Titles),
    ("i", Shows::Titles),
    ("j", Shows::Selection),
    ("l", Shows::Titles),
    ("h", Shows::Titles),
    ("4", Shows::Titles),
    ("1", Shows::Titles),
];

/// Without output for so long, the screen is complete. A screen is written at once.
const REST: Duration = Duration::from_millis(10);

const TIMEOUT: Duration = Duration::from_secs(10);

/// The keys, again and again.
pub(super) fn keys() -> impl Iterator<Item = Key> {
    KEYS.into_iter().cycle()
}

/// Sorts the table of spans by name, from A to Z.
pub(super) fn sort_by_name(top: &mut Program) -> Result<()> {
    // To the first column, which is the service, and one to the right.
    for key in ["h"; 10].iter().chain(&["l"]) {
        top.press(key)?;
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

impl Presses {
    /// Presses the next keys, `at_most` so many, and no more once `has_ended`.
    pub(super) fn measure(
        top: &mut Program,
        keys: &mut impl Iterator<Item = Key>,
        at_most: usize,
        mut has_ended: impl FnMut() -> Result<bool>,
    ) -> Result<Self> {
        let mut ms = Vec::new();
        for index in 0..at_most {
            if has_ended()? {
                break;
            }
            let Some((key, shows)) = keys.next() else { break };
            // The screen is drawn ten times a second and its figures are copied twice a second, so different pauses
            // find it in different moments.
            sleep(Duration::from_millis(60 + index as u64 * 37 % 100));
            ms.push(press(top, key, shows)?.as_secs_f64() * 1e3);
        }
        let keys = ms.len();
        let [p50_ms, p95_ms, max_ms] = quantiles(ms, [0.5, 0.95, 1.0]);
        Ok(Self { keys, p50_ms, p95_ms, max_ms })
    }
}

/// The time from the press until the last byte of the screen that shows it has come.
fn press(top: &mut Program, key: &str, shows: Shows) -> Result<Duration> {
    let before = look(&top.screen(), shows);
    let (mut seen, _) = top.written();
    let pressed = Instant::now();
    top.press(key)?;
    let mut is_shown = false;
    loop {
        sleep(Duration::from_millis(1));
        let (bytes, at) = top.written();
        if !is_shown && bytes != seen {
            is_shown = look(&top.screen(), shows) != before;
        }
        seen = bytes;
        if is_shown && at.elapsed() >= REST {
            return Ok(at.saturating_duration_since(pressed));
        }
        if pressed.elapsed() > TIMEOUT {
            bail!("the key {key} changed nothing on the screen, which has\n{}", top.screen().contents());
        }
    }
}

/// What the key changes on the screen.
fn look(screen: &Screen, shows: Shows) -> Vec<Vec<u8>> {
    let (lines, columns) = screen.size();
    match shows {
        Shows::Titles => screen.rows_formatted(0, columns).skip(1).take(2).collect(),
        Shows::Selection => {
            let is_selected =
                |line: &u16| *line > 2 && screen.cell(*line, 0).is_some_and(vt100::Cell::inverse);
            let Some(line) = (0..lines).find(is_selected) else { return Vec::new() };
            // The figures behind the names change by themselves.
            let text = screen.rows(0, 40).nth(usize::from(line)).unwrap_or_default();
            vec![line.to_le_bytes().to_vec(), text.into_bytes()]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(text: &str) -> Screen {
        let mut parser = vt100::Parser::new(6, 50, 0);
        parser.process(text.as_bytes());
        parser.screen().clone()
    }

    #[test]
    fn only_what_a_key_changes_is_looked_at() {
        let of = |head: &str, titles: &str, first: &str, second: &str| {
            screen(&format!("{head}\r\n \x1b[7m1 Spans\x1b[m\r\n{titles}\r\n{first}\r\n{second}"))
        };
        let before = of("1 span", "SPAN▲", "\x1b[7ma  1\x1b[m", "b  1");
        let refreshed = of("2 spans", "SPAN▲", "\x1b[7ma  1\x1b[m", "b  2");
        let selected = of("1 span", "SPAN▲", "a  1", "\x1b[7mb  1\x1b[m");
        let inverted = of("1 span", "SPAN▼", "\x1b[7ma  1\x1b[m", "b  1");
        let same = |other: &Screen, shows| look(&before, shows) == look(other, shows);
        assert!(same(&refreshed, Shows::Titles) && same(&refreshed, Shows::Selection));
        assert!(!same(&selected, Shows::Selection) && same(&selected, Shows::Titles));
        assert!(!same(&inverted, Shows::Titles));
        // The list was scrolled under the selection.
        assert!(!same(&of("1 span", "SPAN▲", "\x1b[7mb  1\x1b[m", "c  1"), Shows::Selection));
    }
}
