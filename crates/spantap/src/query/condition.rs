//! The smallest conditions: an attribute exists, or something compares with a value.

use std::cmp::Ordering;
use std::fmt;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Found;
use regex::Regex;

use super::literal::{Number, duration_of, write_duration, write_quoted};
use super::name::Intrinsic;
use super::operand::{Attribute, Operand};
use super::operator::Operator;
use super::subject::{Actual, Subject};

/// A condition without `and`, `or` and `not`.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// It is there, and not false.
    Is(Operand),
    Compare(Operand, Operator, Value),
}

/// The right side of a comparison, prepared for many spans.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Number(Number),
    /// In nanoseconds.
    Duration(u64),
    /// A text, and the number that it is.
    Text(String, Option<Number>),
    Bool(bool),
    /// An id as it is written in hex, and its bytes.
    Id(String, Vec<u8>),
    /// A word, and its place among those of the name.
    Word(&'static str, usize),
    Regex(Regex),
    Glob(glob::Pattern),
}

impl Condition {
    /// The name that it is on, if it is not on an attribute.
    pub(super) fn intrinsic(&self) -> Option<Intrinsic> {
        match self {
            Self::Is(Operand::Name(name)) | Self::Compare(Operand::Name(name), ..) => Some(name.intrinsic),
            _ => None,
        }
    }

    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Is(Operand::Name(name)) => subject.value_of(name.intrinsic) == Some(Actual::Bool(true)),
            Self::Is(Operand::Attribute(attribute)) => {
                subject.attribute(attribute).is_some_and(|found| bool_of(&found) != Some(false))
            }
            // A missing value makes every comparison false, `!=` included.
            Self::Compare(Operand::Name(name), operator, value) => {
                let actual = subject.value_of(name.intrinsic);
                let holds = |actual| value.compare_actual(actual, name.words(), *operator);
                actual.is_some_and(|actual| holds(actual) != operator.is_negated())
            }
            Self::Compare(Operand::Attribute(attribute), operator, value) => {
                let found = subject.attribute(attribute);
                let holds = |found: &Found| value.compare_attribute(found, attribute, *operator);
                found.is_some_and(|found| holds(&found) != operator.is_negated())
            }
        }
    }
}

impl Value {
    fn compare_actual(&self, actual: Actual<'_>, words: &[&str], operator: Operator) -> bool {
        let mut digits = [0; 64];
        let order = match (self, actual) {
            (Self::Duration(ns), Actual::Duration(actual)) => actual.cmp(ns),
            (Self::Text(text, _), Actual::Text(actual)) => (*actual).cmp(text),
            (Self::Bool(value), Actual::Bool(actual)) => actual.cmp(value),
            (Self::Word(_, place), Actual::Word(actual)) => actual.cmp(place),
            (Self::Id(_, id), Actual::Id(actual)) => actual.cmp(id),
            (_, Actual::Text(actual)) => return self.is_pattern_of(&actual),
            (_, Actual::Word(actual)) => {
                return words.get(actual).is_some_and(|word| self.is_pattern_of(word));
            }
            (_, Actual::Id(actual)) => {
                return hex(actual, &mut digits).is_some_and(|hex| self.is_pattern_of(hex));
            }
            _ => return false,
        };
        operator.accepts(Some(order))
    }

    /// Of a list, one element is enough.
    fn compare_attribute(&self, found: &Found, attribute: &Attribute, operator: Operator) -> bool {
        if let Found::ArrayValue(list) = found {
            let mut elements = list.values.iter().filter_map(|element| element.value.as_ref());
            return elements.any(|found| {
                !matches!(found, Found::ArrayValue(_)) && self.compare_attribute(found, attribute, operator)
            });
        }
        let order = match self {
            Self::Number(number) => number_of(found).and_then(|found| found.compare(*number)),
            Self::Duration(ns) => compare_duration(found, attribute.unit_ns(), *ns),
            Self::Bool(value) => bool_of(found).map(|found| found.cmp(value)),
            Self::Text(text, number) => compare_text(found, text, *number),
            Self::Id(..) | Self::Word(..) => None,
            Self::Regex(_) | Self::Glob(_) => return self.is_pattern_of_found(found),
        };
        operator.accepts(order)
    }

    fn is_pattern_of(&self, text: &str) -> bool {
        match self {
            Self::Regex(regex) => regex.is_match(text),
            Self::Glob(glob) => glob.matches(text),
            _ => false,
        }
    }

    fn is_pattern_of_found(&self, found: &Found) -> bool {
        match found {
            Found::StringValue(text) => self.is_pattern_of(text),
            Found::BoolValue(value) => self.is_pattern_of(if *value { "true" } else { "false" }),
            Found::IntValue(number) => self.is_pattern_of(&number.to_string()),
            Found::DoubleValue(number) => self.is_pattern_of(&number.to_string()),
            _ => false,
        }
    }
}

/// The id in hex.
fn hex<'a>(id: &[u8], digits: &'a mut [u8; 64]) -> Option<&'a str> {
    let digits = digits.get_mut(..2 * id.len())?;
    const_hex::encode_to_slice(id, digits).ok()?;
    std::str::from_utf8(digits).ok()
}

/// A number, also in a text: Zipkin has only texts.
fn number_of(found: &Found) -> Option<Number> {
    match found {
        Found::IntValue(number) => Some(Number::Whole((*number).into())),
        Found::DoubleValue(number) => Some(Number::Real(*number)),
        Found::StringValue(text) => Number::parse(text),
        _ => None,
    }
}

fn bool_of(found: &Found) -> Option<bool> {
    match found {
        Found::BoolValue(value) => Some(*value),
        Found::StringValue(text) => text.parse().ok(),
        _ => None,
    }
}

/// A number counts units. A text may also be a duration with its own units.
fn compare_duration(found: &Found, unit_ns: u64, ns: u64) -> Option<Ordering> {
    if let Found::StringValue(text) = found
        && let Some(found) = duration_of(text)
    {
        return Some(found.cmp(&ns));
    }
    number_of(found)?.times(unit_ns).compare(Number::Whole(ns.into()))
}

/// Two texts are compared as texts. A number is compared with the number in the text.
fn compare_text(found: &Found, text: &str, number: Option<Number>) -> Option<Ordering> {
    match found {
        Found::StringValue(found) => Some(found.as_str().cmp(text)),
        Found::BoolValue(found) => Some(found.cmp(&text.parse().ok()?)),
        _ => number_of(found)?.compare(number?),
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(operand) => write!(f, "{operand}"),
            Self::Compare(operand, operator, value) => {
                write!(f, "{operand} {operator} ")?;
                match value {
                    Value::Number(number) => write!(f, "{number}"),
                    Value::Duration(ns) => write_duration(*ns, f),
                    Value::Bool(value) => write!(f, "{value}"),
                    Value::Word(word, _) => f.write_str(word),
                    Value::Text(text, _) | Value::Id(text, _) => write_quoted(text, '"', f),
                    Value::Regex(regex) => write_quoted(regex.as_str(), '"', f),
                    Value::Glob(glob) => write_quoted(glob.as_str(), '"', f),
                }
            }
        }
    }
}
