//! Puts ids into a line while a format writes it. Only the end of the line is held back until the ids are known to
//! come next, so nothing is copied.

use std::fmt::{self, Write};

use tracing_subscriber::fmt::format::Writer;

use crate::json::hex;
use crate::propagation::Ids;

/// How the ids are written.
#[allow(unnameable_types)] // of a trait that other crates can't implement
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Style {
    /// `trace_id=... span_id=...` at the end of the line.
    Text,
    /// As the last members of a JSON object.
    #[cfg_attr(not(feature = "fmt-json"), allow(dead_code))]
    Json,
    /// As a line of their own before the empty line that ends an event.
    #[cfg_attr(not(feature = "fmt-pretty"), allow(dead_code))]
    Lines,
}

impl Style {
    /// What comes after the ids.
    fn end(self) -> &'static str {
        match self {
            Self::Text | Self::Lines => "\n",
            Self::Json => "}\n",
        }
    }
}

/// A writer that passes everything on, except what may be the end of the line.
pub(super) struct Line<'a, 'w> {
    writer: &'a mut Writer<'w>,
    style: Style,
    /// How many bytes of the style's end are held back.
    held: usize,
    /// The last character that was passed on.
    last: Option<char>,
}

impl<'a, 'w> Line<'a, 'w> {
    pub(super) fn new(writer: &'a mut Writer<'w>, style: Style) -> Self {
        Self { writer, style, held: 0, last: None }
    }

    /// Writes the ids, and the end of the line.
    pub(super) fn finish(self, Ids { trace_id, span_id, .. }: Ids) -> fmt::Result {
        let mut digits = [0; 48];
        for (part, number) in digits.chunks_mut(16).zip([trace_id.high(), trace_id.low(), span_id.get()]) {
            part.copy_from_slice(&hex(number));
        }
        let (trace_id, span_id) = std::str::from_utf8(&digits).map_err(|_| fmt::Error)?.split_at(32);
        let (writer, end) = (self.writer, &self.style.end()[..self.held]);
        let (dim, reset) = if writer.has_ansi_escapes() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        let parts = match self.style {
            Style::Text => {
                let space = if matches!(self.last, None | Some(' ')) { "" } else { " " };
                [space, dim, "trace_id=", trace_id, " span_id=", span_id, reset, end]
            }
            // This is no JSON object.
            Style::Json if self.held == 0 => return Ok(()),
            Style::Json => {
                let comma = if self.last == Some('{') { "" } else { "," };
                [comma, "\"trace_id\":\"", trace_id, "\",\"span_id\":\"", span_id, "\"", end, ""]
            }
            Style::Lines => ["    ", dim, "trace_id: ", trace_id, ", span_id: ", span_id, reset, "\n"],
        };
        parts.iter().try_for_each(|part| writer.write_str(part))?;
        if self.style == Style::Lines { writer.write_str(end) } else { Ok(()) }
    }

    fn pass_on(&mut self, text: &str) -> fmt::Result {
        self.last = text.chars().next_back().or(self.last);
        self.writer.write_str(text)
    }
}

impl Write for Line<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.is_empty() {
            return Ok(());
        }
        let end = self.style.end();
        if self.held > 0 {
            if &end[self.held..] == text {
                self.held = end.len();
                return Ok(());
            }
            let held = std::mem::take(&mut self.held);
            self.pass_on(&end[..held])?;
        }
        self.held = (1..=end.len()).rev().find(|held| text.ends_with(&end[..*held])).unwrap_or(0);
        self.pass_on(&text[..text.len() - self.held])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids() -> Ids {
        Ids::from_parts(1, 2, 3).expect("none is 0")
    }

    fn written(style: Style, parts: &[&str]) -> String {
        let mut text = String::new();
        let mut writer = Writer::new(&mut text);
        let mut line = Line::new(&mut writer, style);
        parts.iter().try_for_each(|part| line.write_str(part)).expect("a string takes any text");
        line.finish(ids()).expect("a string takes any text");
        text
    }

    const TEXT: &str = "trace_id=00000000000000010000000000000002 span_id=0000000000000003";
    const JSON: &str = r#""trace_id":"00000000000000010000000000000002","span_id":"0000000000000003""#;

    #[test]
    fn ids_are_at_the_end_of_a_text() {
        let cases: [(&[&str], &str, &str); 6] = [
            (&["a", "\n"], "a ", "\n"),
            (&["a \n"], "a ", "\n"),
            (&["a\n", "", "b", "\n"], "a\nb ", "\n"),
            (&["\n", "\n"], "\n ", "\n"),
            (&["\n"], "", "\n"),
            (&["a"], "a ", ""),
        ];
        for (parts, before, after) in cases {
            assert_eq!(written(Style::Text, parts), format!("{before}{TEXT}{after}"), "{parts:?}");
        }
    }

    #[test]
    fn ids_are_the_last_members_of_an_object() {
        let cases: [(&[&str], &str, &str); 5] = [
            (&["{", "\"a\":{", "}", "}", "\n"], "{\"a\":{},", "}\n"),
            (&["{\"a\":{\"b\":1}}\n"], "{\"a\":{\"b\":1},", "}\n"),
            (&["{", "}", "\n"], "{", "}\n"),
            (&["{\"a\":\"}\n", "\"}\n"], "{\"a\":\"}\n\",", "}\n"),
            (&["{\"a\":1}"], "{\"a\":1,", "}"),
        ];
        for (parts, before, after) in cases {
            assert_eq!(written(Style::Json, parts), format!("{before}{JSON}{after}"), "{parts:?}");
        }
        assert_eq!(written(Style::Json, &["no object"]), "no object");
    }

    proptest! {
        /// However the format splits it.
        #[test]
        fn the_rest_of_a_line_stays_as_it_is(parts in prop::collection::vec("[a{} \n]{0,3}", 0..8)) {
            let parts: Vec<&str> = parts.iter().map(|part| &**part).collect();
            let text = parts.concat();
            for (style, ids, separator) in [(Style::Text, TEXT, ' '), (Style::Json, JSON, ',')] {
                let found = written(style, &parts);
                // Ids are in every line, except in one that is no JSON object.
                let has_ids = style == Style::Text || text.ends_with('}') || text.ends_with("}\n");
                prop_assert_eq!(found.matches(ids).count(), usize::from(has_ids), "{:?} {:?}", text, found);
                let (before, after) = found.split_once(ids).unwrap_or((&found, ""));
                let without = |before: &str| format!("{before}{after}") == text;
                prop_assert!(
                    without(before) || before.strip_suffix(separator).is_some_and(without),
                    "{:?} {:?} {:?}", style, text, found
                );
                prop_assert_eq!(written(style, &[&text]), found);
            }
        }
    }
}
