//! One `--keep`: which traces it keeps, and how many of them.

use std::fmt;
use std::str::FromStr;

use super::rate::Rate;
use super::ratio::Ratio;
use crate::query::{Query, QueryError};

/// The most characters of a rule in the attribute of each kept span, and in the counts.
const MAX_LABEL: usize = 200;

/// Keeps traces.
///
/// ```
/// use spantap::sampling::Rule;
///
/// for rule in ["error", "duration > 1s", "ratio(1%)", "rate(100/s)", "name == \"GET /health\" and ratio(0.1%)"] {
///     assert_eq!(rule.parse::<Rule>()?.to_string(), rule);
/// }
/// assert!("error or ratio(1%)".parse::<Rule>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rule {
    /// Applies to traces with a span that the query chooses; to all traces without one.
    pub(super) query: Option<Query>,
    pub(super) share: Share,
    label: String,
}

/// How many of the traces that a rule applies to it keeps.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Share {
    All,
    Ratio(Ratio),
    Rate(Rate),
}

impl Rule {
    /// The rule as the user wrote it, on one line and without the end of a long one.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether it can only apply to spans of `spantap attach`, or also depends on them.
    pub(super) fn asks_kernel(&self) -> bool {
        self.query.as_ref().is_some_and(Query::asks_kernel)
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Parts { query, share, share_is_first } = parts(text)?;
        let parsed = query.map(|query| parse_query(query, text)).transpose()?;
        if let (Some(query), true) = (query, share != Share::All) {
            // `and` binds tighter than `or`, so `a or b and ratio(1%)` would mean something else than it looks like.
            let joined = |query: &str| match share_is_first {
                true => format!("root and {query}").parse::<Query>(),
                false => format!("{query} and root").parse::<Query>(),
            };
            if let (Ok(as_written), Ok(as_meant)) = (joined(query), joined(&format!("({query})")))
                && as_written.to_string() != as_meant.to_string()
            {
                return Err(format!("`and` binds tighter than `or`; write ({query}) and {share}"));
            }
        }
        let on_one_line = || text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
        let is_long = on_one_line().nth(MAX_LABEL).is_some();
        // A share stays, because the next spantap reads it there.
        let end = if is_long && share != Share::All && !share_is_first {
            format!("… and {share}")
        } else {
            String::new()
        };
        let begin = on_one_line().take(MAX_LABEL.saturating_sub(end.chars().count()));
        let label = begin.chain(end.chars()).take(MAX_LABEL).collect();
        Ok(Self { query: parsed, share, label })
    }
}

/// Whether a rule with this label keeps a share of the traces, by their ids.
pub(super) fn is_ratio(label: &str) -> bool {
    parts(label).is_ok_and(|parts| matches!(parts.share, Share::Ratio(_)))
}

struct Parts<'a> {
    query: Option<&'a str>,
    share: Share,
    share_is_first: bool,
}

/// Splits a rule into its query and its share.
fn parts(text: &str) -> Result<Parts<'_>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("a rule is a query, ratio(1%), rate(100/s), or a query and one of the two".to_owned());
    }
    let alone = || {
        format!(
            "only `and` joins a ratio or a rate with a query, such as error and ratio(10%); rules of which one is \
             enough each have a --keep of their own, so split {text}"
        )
    };
    if let Some((before, open)) = text.strip_suffix(')').and_then(|text| text.rsplit_once('('))
        && let Some((rest, share)) = share_after(before, open)
    {
        let share = share?;
        if rest.is_empty() {
            return Ok(Parts { query: None, share, share_is_first: false });
        }
        let query = ["and", "AND", "&&"].iter().find_map(|and| rest.strip_suffix(and)).ok_or_else(alone)?;
        return Ok(Parts { query: Some(query.trim()), share, share_is_first: false });
    }
    for word in ["ratio", "rate"] {
        let Some(rest) = text.strip_prefix(word).and_then(|rest| rest.trim_start().strip_prefix('(')) else {
            continue;
        };
        let (content, rest) = rest.split_once(')').ok_or_else(|| format!("{text}: there is no `)`"))?;
        let share = share_of(word, content)?;
        let rest = rest.trim_start();
        let query = ["and", "AND", "&&"].iter().find_map(|and| rest.strip_prefix(and)).ok_or_else(alone)?;
        return Ok(Parts { query: Some(query.trim()), share, share_is_first: true });
    }
    Ok(Parts { query: Some(text), share: Share::All, share_is_first: false })
}

/// The share whose word ends `before` and whose content is `content`; and what is before the word.
fn share_after<'a>(before: &'a str, content: &str) -> Option<(&'a str, Result<Share, String>)> {
    let before = before.trim_end();
    ["ratio", "rate"].into_iter().find_map(|word| {
        let rest = before.strip_suffix(word)?;
        // The end of another word, such as `error_rate`.
        let is_word = !rest.ends_with(|c: char| c.is_alphanumeric() || "_.-/".contains(c));
        is_word.then(|| (rest.trim_end(), share_of(word, content)))
    })
}

fn share_of(word: &str, content: &str) -> Result<Share, String> {
    match word {
        "ratio" => Ratio::parse(content).map(Share::Ratio),
        _ => Rate::parse(content).map(Share::Rate),
    }
}

fn parse_query(query: &str, rule: &str) -> Result<Query, String> {
    query.parse().map_err(|error: QueryError| {
        let hint = match ["ratio(", "rate("].iter().any(|share| rule.contains(share)) {
            true => "\n\na ratio or a rate is a rule by itself, or the end of one after `and`",
            false => "",
        };
        format!("{error}\n\n{}{hint}", error.pointer(query))
    })
}

/// Writes the rule in the form that all rules of the same meaning have.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(query) = &self.query else { return write!(f, "{}", self.share) };
        match self.share {
            Share::All => write!(f, "{query}"),
            share if query.is_any_of() => write!(f, "({query}) and {share}"),
            share => write!(f, "{query} and {share}"),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Ratio(ratio) => write!(f, "{ratio}"),
            Self::Rate(rate) => write!(f, "{rate}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_query_or_a_share_or_both() {
        for (text, expected) in [
            ("error", "error"),
            ("  duration>100ms && root ", "duration > 100ms and root"),
            ("ratio(1%)", "ratio(1%)"),
            ("ratio( 0.50 % )", "ratio(0.5%)"),
            ("rate(100/s)", "rate(100/s)"),
            ("error and ratio(10%)", "error and ratio(10%)"),
            ("ratio(10%) and error", "error and ratio(10%)"),
            ("error&&rate(10/min)", "error and rate(10/min)"),
            ("(error or kernel.disk > 1ms) and rate(1/s)", "(error or kernel.disk > 1ms) and rate(1/s)"),
            ("rate(1/s) AND (error or root)", "(error or root) and rate(1/s)"),
            ("ratio > 3", "ratio > 3"),
            ("error_rate == \"x)\" and (root)", "error_rate == \"x)\" and root"),
            ("name == \"ratio(1%)\"", "name == \"ratio(1%)\""),
        ] {
            let rule: Rule = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(rule.to_string(), expected, "{text}");
            assert_eq!(rule.label(), text.trim());
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        for (text, expected) in [
            ("", "a rule is a query"),
            ("ratio(0%)", "keeps no trace"),
            ("ratio(150%)", "more than all traces"),
            ("ratio(1)", "write ratio(1%)"),
            ("rate(100)", "write rate(100/s)"),
            ("rate(0/s)", "keeps no trace"),
            ("error or ratio(1%)", "--keep of their own"),
            ("ratio(1%) or error", "--keep of their own"),
            ("error or root and ratio(1%)", "write (error or root) and ratio(1%)"),
            ("ratio(1%) and error or root", "write (error or root) and ratio(1%)"),
            ("error and ratio(1%) and root", "a ratio or a rate is a rule by itself"),
            ("duration > 100", "needs a unit"),
            ("ratio(1%", "no `)`"),
            ("not ratio(1%)", "--keep of their own"),
        ] {
            let error = text.parse::<Rule>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_long_rule_has_a_short_label() {
        let text = format!("name == \"{}\"", "é".repeat(1_000));
        assert_eq!(text.parse::<Rule>().unwrap().label().chars().count(), MAX_LABEL);
        for (before, after, is_a_ratio) in
            [("", " and ratio(10%)", true), ("ratio(10%) and ", "", true), ("", " and rate(1/s)", false)]
        {
            let rule: Rule = format!("{before}{text}{after}").parse().unwrap();
            assert_eq!((rule.label().chars().count(), is_ratio(rule.label())), (MAX_LABEL, is_a_ratio));
        }
        let long: Rule = format!("{text} and rate(1{}/s)", "0".repeat(300)).parse().unwrap();
        assert_eq!(long.label().chars().count(), MAX_LABEL);
        assert!(!is_ratio("name == \"ratio(1%)\""));
        assert_eq!("error\nand root".parse::<Rule>().unwrap().label(), "error and root");
    }
}
