//! Conditions that are joined with `and`, `or` and `not`.

use std::fmt::{self, Write};

use super::condition::Condition;
use super::name::Intrinsic;
use super::subject::Subject;

/// A condition. Its depth is bounded by that of the query's parentheses, because chains of `and` and `or` are lists.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    Or(Vec<Expression>),
    And(Vec<Expression>),
    Not(Box<Expression>),
    Condition(Condition),
}

impl Expression {
    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Or(parts) => parts.iter().any(|part| part.matches(subject)),
            Self::And(parts) => parts.iter().all(|part| part.matches(subject)),
            Self::Not(negated) => !negated.matches(subject),
            Self::Condition(condition) => condition.matches(subject),
        }
    }

    /// Whether all conditions are on these names.
    pub(super) fn asks_only(&self, names: &[Intrinsic]) -> bool {
        match self {
            Self::Or(parts) | Self::And(parts) => parts.iter().all(|part| part.asks_only(names)),
            Self::Not(negated) => negated.asks_only(names),
            Self::Condition(condition) => condition.intrinsic().is_some_and(|name| names.contains(&name)),
        }
    }

    /// Whether a condition is on such a name.
    pub(super) fn asks_any(&self, is_such: &impl Fn(Intrinsic) -> bool) -> bool {
        match self {
            Self::Or(parts) | Self::And(parts) => parts.iter().any(|part| part.asks_any(is_such)),
            Self::Not(negated) => negated.asks_any(is_such),
            Self::Condition(condition) => condition.intrinsic().is_some_and(is_such),
        }
    }

    /// Any of these, without a chain in a chain.
    pub(super) fn or(parts: Vec<Self>) -> Self {
        chain(parts, Self::Or, |part| match part {
            Self::Or(inner) => Ok(inner),
            other => Err(other),
        })
    }

    /// All of these, without a chain in a chain.
    pub(super) fn and(parts: Vec<Self>) -> Self {
        chain(parts, Self::And, |part| match part {
            Self::And(inner) => Ok(inner),
            other => Err(other),
        })
    }

    /// How tightly its parts hold together.
    fn rank(&self) -> u8 {
        match self {
            Self::Or(_) => 0,
            Self::And(_) => 1,
            Self::Not(_) | Self::Condition(_) => 2,
        }
    }

    fn write(&self, least: u8, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rank() < least {
            f.write_char('(')?;
            self.write(0, f)?;
            return f.write_char(')');
        }
        let list = |parts: &[Self], word: &str, f: &mut fmt::Formatter<'_>| {
            parts.iter().enumerate().try_for_each(|(index, part)| {
                f.write_str(if index > 0 { word } else { "" })?;
                part.write(self.rank() + 1, f)
            })
        };
        match self {
            Self::Or(parts) => list(parts, " or ", f),
            Self::And(parts) => list(parts, " and ", f),
            Self::Not(negated) => {
                f.write_str("not ")?;
                negated.write(self.rank(), f)
            }
            Self::Condition(condition) => write!(f, "{condition}"),
        }
    }
}

fn chain(
    parts: Vec<Expression>,
    of: impl Fn(Vec<Expression>) -> Expression,
    inner: impl Fn(Expression) -> Result<Vec<Expression>, Expression>,
) -> Expression {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match inner(part) {
            Ok(parts) => flat.extend(parts),
            Err(part) => flat.push(part),
        }
    }
    if flat.len() == 1 { flat.remove(0) } else { of(flat) }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(0, f)
    }
}
