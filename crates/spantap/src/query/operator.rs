//! The operators that compare.

use std::cmp::Ordering;
use std::fmt;

/// An operator between a name and a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Glob,
    Matches,
    MatchesNot,
}

impl Operator {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Glob => "glob",
            Self::Matches => "=~",
            Self::MatchesNot => "!~",
        }
    }

    /// Whether it is `==` or `!=`.
    pub(super) fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }

    /// Whether a pattern follows.
    pub(super) fn takes_pattern(self) -> bool {
        matches!(self, Self::Glob | Self::Matches | Self::MatchesNot)
    }

    /// Whether it is the negation of another operator.
    pub(super) fn is_negated(self) -> bool {
        matches!(self, Self::NotEqual | Self::MatchesNot)
    }

    /// Whether it holds for two values in this order; for `None`, they can't be compared. The negation of an operator is
    /// the caller's.
    pub(super) fn accepts(self, order: Option<Ordering>) -> bool {
        let Some(order) = order else { return false };
        match self {
            Self::Equal | Self::NotEqual => order.is_eq(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Glob | Self::Matches | Self::MatchesNot => false,
        }
    }
}

/// Operators of other languages, and what to write here.
const OTHERS: [(&str, &str); 6] = [
    ("is", "=="),
    ("like", "glob \"...*\""),
    ("contains", "glob \"*...*\""),
    ("startswith", "glob \"...*\""),
    ("matches", "=~"),
    ("in", "== for each value, with `or` between"),
];

/// What to write instead of this operator of another language.
pub(super) fn instead_of(word: &str) -> Option<&'static str> {
    let found = OTHERS.iter().find(|(other, _)| other.eq_ignore_ascii_case(word));
    found.map(|(_, instead)| *instead)
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
