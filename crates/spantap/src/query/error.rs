//! Why a text is not a query.

use std::fmt;
use std::ops::Range;

use winnow::error::{ErrMode, ParserError};
use winnow::stream::{Location, Stream};

use crate::text::{cut, safe, width};

/// The most columns of a word from the query that a message shows.
const MAX_FOUND: usize = 40;

/// The most columns of the query that are shown before and after the fault.
const MAX_AROUND: usize = 50;

/// Says why a text is not a query, and where.
///
/// It is shown on one line: `column 12: duration needs a unit: write 100ms or 100s`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueryError {
    column: usize,
    range: Range<usize>,
    problem: Problem,
}

/// What is wrong. Texts from the query are shown shortened and without control characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Problem {
    TooLong(usize),
    TooDeep(usize),
    TooManyPatterns(usize),
    /// A character that begins nothing.
    Character(char),
    Unclosed(char),
    Escape,
    NumberTooLarge,
    DurationTooLong,
    NegativeDuration,
    /// A part of a duration without a unit, as in `1m 30`.
    PartWithoutUnit(String),
    UnknownUnit(String),
    EmptyKey,
    /// What is expected, and what is there instead; `None` at the end.
    Expected(&'static str, Option<String>),
    UnclosedParenthesis,
    /// `not` behind a name.
    NotBehindName,
    /// An operator of another language, and what to write instead.
    OtherOperator(String, &'static str),
    /// A text where a name is expected.
    TextAsName(String),
    /// A word that is no name, and the name that was probably meant.
    Similar(String, &'static str),
    /// A name that is no condition by itself, and what could follow it.
    NotACondition(&'static str, &'static str),
    /// A duration is compared with a number.
    DurationWithoutUnit(&'static str, String),
    /// A name, and what it is compared with.
    WrongValue(&'static str, String),
    /// An operator, to what it does not apply, and the operators that do.
    WrongOperator(&'static str, String, &'static str),
    Unquoted(String),
    Nil,
    PatternExpected(&'static str),
    Regex(String),
    Glob(String),
}

impl QueryError {
    pub(super) fn new(query: &str, Fault { range, problem }: Fault) -> Self {
        let before = query.get(..range.start).unwrap_or(query);
        let found = query.get(range.clone()).filter(|found| !found.is_empty());
        let problem = match problem {
            Problem::Expected(what, None) => Problem::Expected(what, found.map(str::to_owned)),
            other => other,
        };
        Self { column: before.chars().count() + 1, range, problem }
    }

    /// The column of the fault, counted in characters from 1. Behind the last character if something is missing there.
    pub fn column(&self) -> usize {
        self.column
    }

    /// The bytes of the query that are at fault; empty if something is missing there.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Two lines without an end: the query around the fault, and a line that points at it.
    pub fn pointer(&self, query: &str) -> String {
        let part = |range: Range<usize>| query.get(range).unwrap_or_default();
        let (start, end) = (self.range.start, self.range.end);
        let before = safe(part(0..start));
        let before = match width(&before).checked_sub(MAX_AROUND) {
            Some(excess @ 1..) => {
                let shown: String = before.chars().skip(excess + 1).collect();
                format!("…{shown}")
            }
            _ => before,
        };
        let fault = cut(part(start..end), MAX_AROUND);
        let after = cut(part(end..query.len()), MAX_AROUND);
        let carets = "^".repeat(width(&fault).max(1));
        format!("{before}{fault}{after}\n{}{carets}", " ".repeat(width(&before)))
    }
}

impl std::error::Error for QueryError {}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |text: &str| cut(text, MAX_FOUND);
        match self {
            Self::TooLong(most) => write!(f, "the query is longer than {most} bytes"),
            Self::TooDeep(most) => write!(f, "more than {most} parentheses or `not` inside each other"),
            Self::TooManyPatterns(most) => write!(f, "the query has more than {most} patterns"),
            Self::Character('=') => f.write_str("to compare, write `==`"),
            Self::Character('~') => {
                f.write_str("write `=~` for a regular expression, or `glob` for a pattern with * and ?")
            }
            Self::Character('&') => f.write_str("write `and` or `&&`"),
            Self::Character('|') => f.write_str("write `or` or `||`"),
            Self::Character(':') => {
                f.write_str("to compare, write `==`; put a key with a colon in backticks")
            }
            Self::Character('{' | '}') => f.write_str("queries have no braces; group with parentheses"),
            Self::Character('“' | '”' | '„' | '‘' | '’' | '«' | '»') => {
                f.write_str("use straight quotes: \" or '")
            }
            Self::Character(c) => {
                let mut bytes = [0; 4];
                let c = short(c.encode_utf8(&mut bytes));
                write!(f, "unexpected `{c}`; put text in quotes, and a key with this character in backticks")
            }
            Self::Unclosed(quote) => write!(f, "the closing {quote} is missing"),
            Self::Escape => f.write_str("not a character: write its number in hex, such as \\u{e9}"),
            Self::NumberTooLarge => f.write_str("the number is too large"),
            Self::DurationTooLong => f.write_str("the duration is longer than 584 years"),
            Self::NegativeDuration => f.write_str("a duration can't be negative"),
            Self::PartWithoutUnit(number) => {
                let number = short(number);
                write!(f, "`{number}` needs a unit, such as {number}s")
            }
            Self::UnknownUnit(unit) => {
                write!(f, "unknown unit `{}`: units are ns, us, ms, s, m, h and d", short(unit))?;
                f.write_str("; put text in quotes")
            }
            Self::EmptyKey => f.write_str("the key is empty"),
            Self::Expected(what, Some(found)) => write!(f, "expected {what}, found `{}`", short(found)),
            Self::Expected(what, None) => write!(f, "expected {what}, found the end"),
            Self::UnclosedParenthesis => f.write_str("the closing parenthesis is missing"),
            Self::NotBehindName => f.write_str("write `not` before the name"),
            Self::OtherOperator(word, instead) => {
                write!(f, "`{}` is not an operator: write {instead}", short(word))
            }
            Self::TextAsName(text) => {
                let text = short(text);
                write!(f, "expected a name, found text; for an attribute of this name, write span.\"{text}\"")
            }
            Self::Similar(word, name) => {
                let word = short(word);
                write!(f, "`{word}` is not a known name: did you mean `{name}`?")?;
                write!(f, " For an attribute of this name, write `span.{word}`")
            }
            Self::NotACondition(name, example) => {
                write!(f, "`{name}` is not a condition by itself: compare it, such as {name} {example}")
            }
            Self::DurationWithoutUnit(name, number) => {
                let number = short(number);
                write!(f, "`{name}` needs a unit: write {number}ms or {number}s")
            }
            Self::WrongValue(name, values) => write!(f, "`{name}` is compared with {values}"),
            Self::WrongOperator(operator, what, others) => {
                write!(f, "`{operator}` does not apply to {what}: use {others}")
            }
            Self::Unquoted(word) => write!(f, "put text in quotes: \"{}\"", short(word)),
            Self::Nil => f.write_str("to ask whether an attribute exists, write its key alone"),
            Self::PatternExpected(operator) => write!(f, "expected a pattern in quotes after `{operator}`"),
            Self::Regex(why) => write!(f, "not a regular expression: {}", cut(why, 2 * MAX_FOUND)),
            Self::Glob(why) => write!(f, "not a pattern: {}", cut(why, 2 * MAX_FOUND)),
        }
    }
}

/// A fault while the query is parsed.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) range: Range<usize>,
    pub(super) problem: Problem,
}

/// What a parser returns. A fault that ends the parsing is a `Cut`; without one, another parser may try.
pub(super) type Parsed<T> = Result<T, ErrMode<Fault>>;

/// Ends the parsing.
pub(super) fn fail<T>(range: Range<usize>, problem: Problem) -> Parsed<T> {
    Err(ErrMode::Cut(Fault { range, problem }))
}

/// Faults of winnow's own parsers. They are never shown: where no other parser is left to try, ours says what is wrong.
impl<I: Stream + Location> ParserError<I> for Fault {
    type Inner = Self;

    fn from_input(input: &I) -> Self {
        let at = input.current_token_start();
        Self { range: at..at, problem: Problem::Expected("something else", None) }
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}
