//! Tables and examples of documents, with which tests compare the layer and spantap.

/// A page in Markdown.
pub struct Document(String);

impl Document {
    /// `docs/wire.md`.
    pub fn wire() -> Self {
        Self(include_str!("../../docs/wire.md").to_owned())
    }

    /// `docs/json.md`.
    pub fn json() -> Self {
        Self(include_str!("../../docs/json.md").to_owned())
    }

    /// The documentation at the top of the layer's `lib.rs`.
    pub fn crate_doc() -> Self {
        let lib = include_str!("../../crates/tracing-usdt/src/lib.rs");
        let lines = lib.lines().map_while(|line| line.strip_prefix("//!"));
        Self(lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect())
    }

    /// The only code block with `marker` after its language.
    #[track_caller]
    pub fn example(&self, marker: &str) -> &str {
        let fence = format!("\n```json {marker}\n");
        let mut parts = self.0.split(&*fence).skip(1);
        let rest = parts.next().unwrap_or_else(|| panic!("no code block {marker}"));
        assert!(parts.next().is_none(), "several code blocks {marker}");
        rest.split_once("\n```").unwrap().0
    }

    /// The rows of the first table after this heading, without its head. Links are replaced by their text.
    #[track_caller]
    pub fn table(&self, heading: &str) -> Vec<Vec<String>> {
        let line = format!("\n{heading}\n");
        let mut parts = self.0.split(&*line).skip(1);
        let rest = parts.next().unwrap_or_else(|| panic!("no heading {heading:?}"));
        assert!(parts.next().is_none(), "several headings {heading:?}");
        let lines = rest.lines().skip_while(|line| !line.starts_with('|'));
        let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
        let cells =
            |row: &str| row.trim_matches('|').split('|').map(|cell| without_links(cell.trim())).collect();
        let rows: Vec<Vec<String>> = rows.map(cells).collect();
        assert!(!rows.is_empty(), "no table after {heading:?}");
        rows
    }
}

/// The texts between backticks.
pub fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn without_links(cell: &str) -> String {
    let mut out = String::new();
    let mut rest = cell;
    while let Some((before, (text, (_, after)))) = rest.split_once('[').and_then(|(before, link)| {
        let (text, target) = link.split_once("](")?;
        Some((before, (text, target.split_once(')')?)))
    }) {
        out.extend([before, text]);
        rest = after;
    }
    out + rest
}
