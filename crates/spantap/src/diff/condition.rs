//! What a user calls a failure, such as `p95 > +10%`.
//!
//! ```text
//! condition = measure (">" "+" | "<" "-") number unit | "new" | "vanished" | "too-few"
//! measure   = "p50" | "p95" | "p99" | "mean" | "self" | "calls" | "errors"
//! unit      = "%" | "ns" | "us" | "µs" | "ms" | "s"   of durations
//!           | "%" | "pp"                              of errors: of their share, and percentage points
//!           | "%" | ""                                of calls
//! ```

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use winnow::Parser;
use winnow::combinator::{alt, opt};
use winnow::error::{ErrMode, ParserError};
use winnow::stream::{LocatingSlice, Location, Stream};
use winnow::token::{any, take_while};

use super::finding::{Change, Diff};
use super::measured::Measured;
use crate::text::{cut, safe, width};

/// The longest condition. It needs less than a fifth of it.
const MAX_BYTES: usize = 100;
/// The most columns of a word that a message shows.
const MAX_FOUND: usize = 40;

/// What a user calls a failure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Condition(Of);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Of {
    Change { measured: Measured, is_growth: bool, limit: Limit },
    Names(Names),
}

/// Names that are not compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Names {
    /// That only the second side has.
    New,
    /// That only the first side has.
    Vanished,
    /// Of which there is too little to say.
    TooFew,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Limit {
    Relative(f64),
    /// In nanoseconds, as a share, or in calls.
    Absolute(f64),
}

/// Says why a text is not a condition, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConditionError {
    range: Range<usize>,
    column: usize,
    problem: String,
}

impl Condition {
    /// Whether the change is a failure.
    pub fn matches(&self, change: &Change) -> bool {
        let Of::Change { measured, is_growth, limit } = self.0 else { return false };
        let value = match limit {
            Limit::Relative(_) => change.relative(),
            Limit::Absolute(_) => change.after - change.before,
        };
        let (Limit::Relative(limit) | Limit::Absolute(limit)) = limit;
        let value = if is_growth { value } else { -value };
        change.measured == measured && value > limit
    }

    /// The names that are a failure, if it is about those.
    pub fn names(&self) -> Option<Names> {
        match self.0 {
            Of::Names(names) => Some(names),
            Of::Change { .. } => None,
        }
    }

    /// The measure of the condition, if there was too little to say of it in any name. Then it is not known whether it is met.
    pub fn not_judged(&self, diff: &Diff) -> Option<Measured> {
        let Of::Change { measured, .. } = self.0 else { return None };
        let is_known = diff.judged.contains_key(&measured);
        // Without any calls, none of them can have changed.
        let is_needed =
            measured != Measured::Calls || diff.not_judged.iter().any(|of| of.measures.contains(&measured));
        (is_needed && !is_known).then_some(measured)
    }
}

const MEASURES: [Measured; 7] = [
    Measured::P50,
    Measured::P95,
    Measured::P99,
    Measured::Mean,
    Measured::Own,
    Measured::Calls,
    Measured::Errors,
];

type Input<'s> = LocatingSlice<&'s str>;
type Parsed<T> = Result<T, ErrMode<Fault>>;

#[derive(Clone, Debug)]
struct Fault(Range<usize>, String);

/// Faults of winnow's own parsers are never shown: ours say what is wrong.
impl<I: Stream + Location> ParserError<I> for Fault {
    type Inner = Self;

    fn from_input(input: &I) -> Self {
        let at = input.current_token_start();
        Self(at..at, String::new())
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let too_long = text.char_indices().find(|(at, _)| *at >= MAX_BYTES);
        let found = match too_long {
            Some((at, _)) => fail(at..at, format!("the condition is longer than {MAX_BYTES} bytes")),
            None => condition.parse_next(&mut LocatingSlice::new(text)),
        };
        found.map_err(|error| match error {
            ErrMode::Cut(Fault(range, problem)) | ErrMode::Backtrack(Fault(range, problem)) => {
                let column = text.get(..range.start).unwrap_or(text).chars().count() + 1;
                ConditionError { range, column, problem }
            }
            ErrMode::Incomplete(_) => unreachable!("the whole condition is there"),
        })
    }
}

fn fail<T>(range: Range<usize>, problem: impl Into<String>) -> Parsed<T> {
    Err(ErrMode::Cut(Fault(range, problem.into())))
}

fn condition(input: &mut Input<'_>) -> Parsed<Condition> {
    if let Some(names) = opt(names).parse_next(input)? {
        return match word_or_sign(input)? {
            ("", _) => Ok(Condition(Of::Names(names))),
            (more, range) => expected("the end; --fail-on may be repeated", more, range),
        };
    }
    let measured = measure(input)?;
    let (sign, range) = word_or_sign(input)?;
    let is_growth = match sign {
        ">" => true,
        "<" => false,
        _ => return expected("`>` for growth or `<` for the opposite", sign, range),
    };
    let (sign, range) = word_or_sign(input)?;
    match (is_growth, sign) {
        (true, "+") | (false, "-") => {}
        (true, "-") => return fail(range, "what grows has a `+`; for the opposite, write `<` and `-`"),
        (false, "+") => return fail(range, "what shrinks has a `-`; for growth, write `>` and `+`"),
        (true, _) => return expected("`+`, because a change is compared", sign, range),
        (false, _) => return expected("`-`, because a change is compared", sign, range),
    }
    let number = number(input)?;
    let limit = unit(measured, number, input)?;
    match word_or_sign(input)? {
        ("", _) => Ok(Condition(Of::Change { measured, is_growth, limit })),
        (more, range) => expected("the end; --fail-on may be repeated", more, range),
    }
}

fn expected<T>(what: &str, found: &str, range: Range<usize>) -> Parsed<T> {
    let found = if found.is_empty() { "the end".into() } else { format!("`{}`", cut(found, MAX_FOUND)) };
    fail(range, format!("expected {what}, found {found}"))
}

fn names(input: &mut Input<'_>) -> Parsed<Names> {
    let (word, range) = word_or_sign(input)?;
    let rest = if word.eq_ignore_ascii_case("too") { ["-", "few"] } else { [""; 2] };
    for expected in rest.into_iter().filter(|of| !of.is_empty()) {
        if !word_or_sign(input)?.0.eq_ignore_ascii_case(expected) {
            return Err(ErrMode::Backtrack(Fault(range, String::new())));
        }
    }
    match word.to_ascii_lowercase().as_str() {
        "new" => Ok(Names::New),
        "vanished" => Ok(Names::Vanished),
        "too" => Ok(Names::TooFew),
        _ => Err(ErrMode::Backtrack(Fault(range, String::new()))),
    }
}

fn measure(input: &mut Input<'_>) -> Parsed<Measured> {
    let (word, range) = word_or_sign(input)?;
    match MEASURES.into_iter().find(|measure| measure.word().eq_ignore_ascii_case(word)) {
        Some(measure) => Ok(measure),
        None => expected("p50, p95, p99, mean, self, calls, errors, new, vanished or too-few", word, range),
    }
}

fn number(input: &mut Input<'_>) -> Parsed<f64> {
    space(input)?;
    let digits = || take_while(1.., '0'..='9');
    let decimal = alt(((digits(), opt(('.', digits()))).void(), ('.', digits()).void()));
    match opt(decimal.take().with_span()).parse_next(input)? {
        Some((digits, range)) => match digits.parse::<f64>() {
            Ok(number) => Ok(number),
            Err(_) => fail(range, "not a number"),
        },
        None => {
            let (word, range) = word_or_sign(input)?;
            expected("a number", word, range)
        }
    }
}

fn unit(measured: Measured, number: f64, input: &mut Input<'_>) -> Parsed<Limit> {
    let (unit, range) = word_or_sign(input)?;
    let absolute = |unit_size: f64| Ok(Limit::Absolute(number * unit_size));
    match (measured, unit) {
        (_, "%") => Ok(Limit::Relative(number / 100.0)),
        (Measured::Errors, "pp") => absolute(0.01),
        (Measured::Errors, _) => {
            expected("% of what the share of errors was, or pp for percentage points", unit, range)
        }
        (Measured::Calls, "") => absolute(1.0),
        (Measured::Calls, _) => expected("% or the end", unit, range),
        (_, "ns") => absolute(1.0),
        (_, "us" | "µs" | "μs") => absolute(1e3),
        (_, "ms") => absolute(1e6),
        (_, "s") => absolute(1e9),
        _ => expected("%, ns, us, ms or s", unit, range),
    }
}

fn space(input: &mut Input<'_>) -> Parsed<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

/// The next word, or a character that is in no word; nothing at the end.
fn word_or_sign<'s>(input: &mut Input<'s>) -> Parsed<(&'s str, Range<usize>)> {
    space(input)?;
    let word = opt(alt((take_while(1.., char::is_alphanumeric), any.take())));
    let (found, range) = word.with_span().parse_next(input)?;
    Ok((found.unwrap_or_default(), range))
}

impl ConditionError {
    /// The column of the fault, counted in characters from 1.
    pub fn column(&self) -> usize {
        self.column
    }

    /// Two lines without an end: the condition, and a line that points at the fault.
    pub fn pointer(&self, text: &str) -> String {
        let part = |range: Range<usize>| safe(text.get(range).unwrap_or_default());
        let before = part(0..self.range.start);
        let carets = "^".repeat(width(&part(self.range.clone())).max(1));
        format!("{}\n{}{carets}", safe(text), " ".repeat(width(&before)))
    }
}

impl std::error::Error for ConditionError {}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.problem)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a failing test is a panic
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(condition: &str, measured: Measured, before: f64, after: f64) -> bool {
        let condition: Condition = condition.parse().unwrap();
        condition.matches(&Change { measured, before, after, chance: 0.0 })
    }

    #[test]
    fn limits_are_relative_or_absolute() {
        let (p95, errors, calls) = (Measured::P95, Measured::Errors, Measured::Calls);
        assert!(matches("p95 > +10%", p95, 10.0, 11.1));
        assert!(!matches("p95 > +10%", p95, 10.0, 10.9));
        assert!(!matches("p95 > +10%", Measured::P99, 10.0, 20.0));
        assert!(!matches("p95 > +10%", p95, 11.1, 10.0));
        assert!(matches("P95<-10 %", p95, 10.0, 8.9));
        assert!(matches("p95 > +1.5ms", p95, 1e6, 2.6e6));
        assert!(!matches("p95 > +1.5 ms", p95, 1e6, 2.4e6));
        assert!(matches("errors > +1pp", errors, 0.01, 0.021));
        assert!(!matches("errors > +1pp", errors, 0.01, 0.019));
        assert!(matches("errors > +100%", errors, 0.0, 0.001));
        assert!(matches("calls > +1", calls, 1.0, 2.5));
        assert!(matches("mean > +.5us", Measured::Mean, 0.0, 501.0));
        assert!(matches("self > +0%", Measured::Own, 1.0, 1.001));
    }

    #[test]
    fn names_that_are_not_compared_are_conditions() {
        let names = |text: &str| text.parse::<Condition>().unwrap().names();
        assert_eq!(names(" new"), Some(Names::New));
        assert_eq!(names("Vanished "), Some(Names::Vanished));
        assert_eq!(names("too-few"), Some(Names::TooFew));
        assert_eq!(names("p95 > +10%"), None);
        assert!(!matches("vanished", Measured::Calls, 1.0, 0.0));
    }

    #[test]
    fn faults_have_a_column_and_a_pointer() {
        for (text, expected) in [
            (
                "",
                "column 1: expected p50, p95, p99, mean, self, calls, errors, new, vanished or too-few, found the end",
            ),
            (
                "p90 > +1%",
                "column 1: expected p50, p95, p99, mean, self, calls, errors, new, vanished or too-few, found `p90`",
            ),
            ("new > +1", "column 5: expected the end; --fail-on may be repeated, found `>`"),
            ("p95 = +1%", "column 5: expected `>` for growth or `<` for the opposite, found `=`"),
            ("p95 > 10%", "column 7: expected `+`, because a change is compared, found `10`"),
            ("p95 > -10%", "column 7: what grows has a `+`; for the opposite, write `<` and `-`"),
            ("p95 < +10%", "column 7: what shrinks has a `-`; for growth, write `>` and `+`"),
            ("p95 > +x", "column 8: expected a number, found `x`"),
            ("p95 > +10", "column 10: expected %, ns, us, ms or s, found the end"),
            ("p95 > +10m", "column 10: expected %, ns, us, ms or s, found `m`"),
            (
                "errors > +1",
                "column 12: expected % of what the share of errors was, or pp for percentage points, found the end",
            ),
            ("calls > +1ms", "column 11: expected % or the end, found `ms`"),
            ("p95 > +1% and", "column 11: expected the end; --fail-on may be repeated, found `and`"),
        ] {
            assert_eq!(text.parse::<Condition>().unwrap_err().to_string(), expected, "{text}");
        }
        let error = "p95 > +10parsecs".parse::<Condition>().unwrap_err();
        assert_eq!(error.pointer("p95 > +10parsecs"), "p95 > +10parsecs\n         ^^^^^^^");
        assert_eq!("\x1b[2J".parse::<Condition>().unwrap_err().pointer("\x1b[2J"), "\\x1b[2J\n^^^^");
    }

    proptest! {
        #[test]
        fn any_text_is_a_condition_or_a_fault_within_it(text in "(p95|errors|[<>+%-]|[0-9.]|ms| |\\PC|\\x1b){0,12}") {
            if let Err(error) = text.parse::<Condition>() {
                prop_assert!(error.column() <= text.chars().count() + 1);
                prop_assert!(!error.pointer(&text).replace('\n', "").chars().any(char::is_control));
                prop_assert!(!error.to_string().chars().any(char::is_control), "{error}");
            }
        }
    }
}
