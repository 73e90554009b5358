//! Makes untrusted text safe for a terminal.
//!
//! Control characters could move the cursor or change the terminal. Invisible characters, and those that change the
//! direction of writing, could make one line look like another. All of these are shown escaped: `\x1b`, `\u{202e}`.
//! Backslashes in the text are not doubled, so the escaped text can't be converted back.

use unicode_width::UnicodeWidthChar;

/// The most combining marks on one letter: more would overlap the lines above and below.
const MAX_MARKS: usize = 2;

/// Invisible characters: Unicode's `Default_Ignorable_Code_Point` and others of its category `Cf`, such as joiners,
/// selectors, directions, separators and tags.
const INVISIBLE: [(char, char); 18] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{13430}', '\u{1345f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// The whole text, escaped and on one line.
pub fn safe(text: &str) -> String {
    cut(text, usize::MAX)
}

/// The text, escaped and cut to at most `columns` columns, with `…` at the end if it was cut.
pub fn cut(text: &str, columns: usize) -> String {
    let mut out = String::new();
    let (mut width, mut fits) = (0, 0);
    for c in Safe::new(text) {
        width += columns_of(c);
        if width > columns {
            out.truncate(fits);
            if columns > 0 {
                out.push('…');
            }
            break;
        }
        out.push(c);
        if width < columns {
            fits = out.len();
        }
    }
    out
}

/// Replaces line breaks and runs of blanks by one space. Does not escape.
pub(crate) fn on_one_line(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text, escaped, on at most `lines` lines that break between words where possible.
pub(crate) fn wrap(text: &str, columns: usize, lines: usize) -> Vec<String> {
    let text = cut(text, columns.saturating_mul(lines));
    let mut rest = text.as_str();
    let mut out = Vec::new();
    while out.len() + 1 < lines {
        let Some(end) = first_beyond(rest, columns) else { break };
        // A word that is longer than half a line is broken.
        let space = rest[..end].rfind(' ').filter(|&at| width(&rest[..at]) >= columns / 2);
        let (line, below) = rest.split_at(space.unwrap_or(end));
        out.push(line.trim_end().to_owned());
        rest = below.trim_start();
    }
    out.push(cut(rest, columns));
    out
}

/// Where the first character begins that does not fit in `columns`; `None` if all fit.
fn first_beyond(text: &str, columns: usize) -> Option<usize> {
    let mut width = 0;
    let beyond = text.char_indices().find(|&(_, c)| {
        width += columns_of(c);
        width > columns
    });
    beyond.map(|(at, _)| at).filter(|&at| at > 0)
}

/// The width in columns. Sums up the widths of the characters, even where letters join, because terminals do so.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

fn columns_of(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// Iterates over the characters of a text, with escapes in place of unsafe ones.
struct Safe<'a> {
    text: std::str::Chars<'a>,
    escape: std::vec::IntoIter<char>,
    /// How many more marks the current letter may have.
    marks: usize,
}

impl<'a> Safe<'a> {
    fn new(text: &'a str) -> Self {
        Self { text: text.chars(), escape: Vec::new().into_iter(), marks: 0 }
    }

    fn is_safe(&mut self, c: char) -> bool {
        let is_invisible = INVISIBLE.iter().any(|(first, last)| (*first..=*last).contains(&c));
        let width = c.width().filter(|_| !is_invisible);
        self.marks = match width {
            None => 0,
            Some(0) if self.marks == 0 => return false,
            Some(0) => self.marks - 1,
            // A mark on a space is hard to see.
            Some(_) if c == ' ' => 0,
            Some(_) => MAX_MARKS,
        };
        width.is_some()
    }
}

impl Iterator for Safe<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        if let Some(c) = self.escape.next() {
            return Some(c);
        }
        let c = self.text.next()?;
        if self.is_safe(c) {
            return Some(c);
        }
        let escape = match c {
            '\n' | '\r' | '\t' => c.escape_default().to_string(),
            c if c.is_control() => format!("\\x{:02x}", u32::from(c)),
            c => c.escape_unicode().to_string(),
        };
        self.escape = escape.chars().collect::<Vec<_>>().into_iter();
        self.escape.next()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        let all = [
            ("\x1b[31mred\x1b[0m\x07", r"\x1b[31mred\x1b[0m\x07"),
            ("a\r\nb\tc\x7f\u{9b}2J", r"a\r\nb\tc\x7f\x9b2J"),
            ("user\u{202e}txt.exe\u{2066}", r"user\u{202e}txt.exe\u{2066}"),
            ("pay\u{200b}pal\u{feff}\u{ad}\u{e0041}", r"pay\u{200b}pal\u{feff}\u{ad}\u{e0041}"),
            ("a\u{2028}b\u{2029}c", r"a\u{2028}b\u{2029}c"),
        ];
        for (text, expected) in all {
            assert_eq!(safe(text), expected);
        }
    }

    #[test]
    fn letters_of_all_languages_are_unchanged() {
        for text in ["größer", "gro\u{308}ßer", "注文", "заказ", "ที่นี่", "🛒 x"] {
            assert_eq!(safe(text), text);
        }
    }

    #[test]
    fn marks_without_a_letter_and_excess_marks_are_escaped() {
        assert_eq!(safe("\u{301}x"), r"\u{301}x");
        assert_eq!(safe(&format!("z{}", "\u{301}".repeat(4))), "z\u{301}\u{301}\\u{301}\\u{301}");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let all =
            [("größer", 6, "größer"), ("größer", 5, "größ…"), ("注文書", 5, "注文…"), ("注文書", 4, "注…")];
        for (text, columns, expected) in all {
            assert_eq!(cut(text, columns), expected);
        }
        assert_eq!(
            ["", "…", "a…", "abc"].map(str::to_owned),
            [0, 1, 2, 3].map(|columns| cut("abc", columns))
        );
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("no route to host", 9, 3), ["no route", "to host"]);
        assert_eq!(wrap("no route to the host of the shop", 9, 2), ["no route", "to the h…"]);
        assert_eq!(wrap("/var/lib/shop/db", 9, 3), ["/var/lib/", "shop/db"]);
    }

    proptest! {
        #[test]
        fn any_text_is_safe_and_fits(text in "\\PC*|(.|\\p{C}|\\p{M}|[\u{200d}\u{fe0f}🇩🇪👩]){0,40}", columns in 0usize..30) {
            let cut = cut(&text, columns);
            prop_assert!(cut.width() <= columns, "{cut:?}");
            prop_assert!(!safe(&text).chars().any(char::is_control));
            prop_assert_eq!(safe(&safe(&text)), safe(&text));
            for line in wrap(&text, columns.max(2), 3) {
                prop_assert!(line.width() <= columns.max(2), "{line:?}");
            }
        }
    }
}
