//! Puts a name, an operator and a value together, if they fit.

use std::ops::Range;

use regex::RegexBuilder;

use super::condition::{Condition, Value};
use super::error::{Parsed, Problem, fail};
use super::literal::{Literal, Number};
use super::name::{self, Name, Values};
use super::operand::{Attribute, Operand, Scope, is_reserved};
use super::operator::Operator;
use super::token::{Lexeme, Token};

/// How much memory one regular expression may take; as much again for its cache.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// A word on the left side.
pub(super) fn operand(word: &str, range: &Range<usize>) -> Parsed<Operand> {
    let (scope, key) = Scope::split(word);
    if is_reserved(word) {
        return fail(range.clone(), Problem::Expected("a name", None));
    }
    if scope == Scope::Any {
        if let Some(name) = name::find(word) {
            return Ok(Operand::Name(name));
        }
        if let Some(name) = name::similar(word) {
            return fail(range.clone(), Problem::Similar(word.to_owned(), name.as_str()));
        }
    }
    if key.is_empty() {
        return fail(range.clone(), Problem::EmptyKey);
    }
    Ok(Operand::Attribute(Attribute { scope, key: key.to_owned() }))
}

/// A name or an attribute without an operator.
pub(super) fn alone(operand: Operand, range: &Range<usize>) -> Parsed<Condition> {
    if let Operand::Name(name) = operand
        && name.values != Values::Bool
    {
        let problem = Problem::NotACondition(name.as_str(), example(name));
        return fail(range.clone(), problem);
    }
    Ok(Condition::Is(operand))
}

/// What follows a name in an example.
fn example(name: &Name) -> &'static str {
    match name.values {
        Values::Duration => "> 100ms",
        Values::Text | Values::Bool => "== \"shop\"",
        Values::Id(_) => "glob \"4bf9*\"",
        Values::Words { ordered: true, .. } => ">= warn",
        Values::Words { words, .. } if words.contains(&"server") => "== server",
        Values::Words { .. } => "== error",
    }
}

/// The operators for values with and without an order, apart from those for patterns.
const ORDER: &str = "==, !=, <, <=, > or >=";
const EQUALITY: &str = "== or !=";

/// A comparison. The ranges are those of the operator and of the value.
pub(super) fn comparison(
    operand: Operand,
    operator: Operator,
    at: &Range<usize>,
    value: &Token<'_>,
) -> Parsed<Condition> {
    let value = match &operand {
        Operand::Name(name) => {
            if let Some(others) = others(name, operator) {
                let name = format!("`{}`", name.as_str());
                return fail(at.clone(), Problem::WrongOperator(operator.as_str(), name, others));
            }
            if operator.takes_pattern() { pattern(operator, value)? } else { value_of_name(name, value)? }
        }
        Operand::Attribute(_) if operator.takes_pattern() => pattern(operator, value)?,
        Operand::Attribute(_) => value_of_attribute(operator, at, value)?,
    };
    Ok(Condition::Compare(operand, operator, value))
}

/// Which operators a name has, if it does not have this one.
fn others(name: &Name, operator: Operator) -> Option<&'static str> {
    let has_order =
        matches!(name.values, Values::Duration | Values::Text | Values::Words { ordered: true, .. });
    let has_text = !matches!(name.values, Values::Duration | Values::Bool);
    let fits = operator.is_equality() || if operator.takes_pattern() { has_text } else { has_order };
    (!fits).then_some(if has_order { ORDER } else { EQUALITY })
}

/// What other languages have for a missing value.
fn is_nil(word: &str) -> bool {
    ["nil", "null", "none"].iter().any(|nil| nil.eq_ignore_ascii_case(word))
}

fn pattern(operator: Operator, token: &Token<'_>) -> Parsed<Value> {
    let fail = |problem| fail(token.range.clone(), problem);
    let Lexeme::Literal(Literal::Text(text)) = &token.lexeme else {
        return fail(Problem::PatternExpected(operator.as_str()));
    };
    if operator == Operator::Glob {
        return match glob::Pattern::new(text) {
            Ok(glob) => Ok(Value::Glob(glob)),
            // For paths, glob gives `**` a meaning of its own, and refuses it elsewhere.
            Err(error) if error.msg.contains("wildcards") => {
                fail(Problem::Glob("one `*` stands for any text, write no more of them".to_owned()))
            }
            Err(error) => fail(Problem::Glob(format!("{} at character {}", error.msg, error.pos + 1))),
        };
    }
    let mut builder = RegexBuilder::new(text);
    match builder.size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build() {
        Ok(regex) => Ok(Value::Regex(regex)),
        Err(regex::Error::CompiledTooBig(_)) => fail(Problem::Regex("it is too large".to_owned())),
        Err(error) => {
            // The last line says what is wrong. The lines before show the expression again.
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default();
            fail(Problem::Regex(why.trim_start_matches("error: ").to_owned()))
        }
    }
}

fn value_of_name(name: &Name, token: &Token<'_>) -> Parsed<Value> {
    let wrong = || fail(token.range.clone(), Problem::WrongValue(name.as_str(), name.values()));
    match (name.values, &token.lexeme) {
        (Values::Duration, Lexeme::Literal(Literal::Duration(ns))) => Ok(Value::Duration(*ns)),
        (Values::Duration, Lexeme::Literal(Literal::Number(number))) if number.is_zero() => {
            Ok(Value::Duration(0))
        }
        (Values::Duration, Lexeme::Literal(Literal::Number(number))) if number.is_negative() => {
            fail(token.range.clone(), Problem::NegativeDuration)
        }
        (Values::Duration, Lexeme::Literal(Literal::Number(number))) => {
            fail(token.range.clone(), Problem::DurationWithoutUnit(name.as_str(), number.to_string()))
        }
        (Values::Text, Lexeme::Literal(Literal::Text(text))) => Ok(Value::Text(text.clone(), None)),
        (Values::Text, Lexeme::Word(word)) => {
            fail(token.range.clone(), Problem::Unquoted((*word).to_owned()))
        }
        (Values::Bool, Lexeme::Word("true")) => Ok(Value::Bool(true)),
        (Values::Bool, Lexeme::Word("false")) => Ok(Value::Bool(false)),
        (Values::Id(digits), Lexeme::Literal(Literal::Text(text))) => match const_hex::decode(text) {
            Ok(id) if text.len() == digits && 2 * id.len() == digits => {
                Ok(Value::Id(text.to_ascii_lowercase(), id))
            }
            _ => wrong(),
        },
        (Values::Words { words, .. }, Lexeme::Word(text)) => word(words, text).map_or_else(wrong, Ok),
        (Values::Words { words, .. }, Lexeme::Literal(Literal::Text(text))) => {
            word(words, text).map_or_else(wrong, Ok)
        }
        _ => wrong(),
    }
}

fn word(words: &[&'static str], text: &str) -> Option<Value> {
    let place = words.iter().position(|word| word.eq_ignore_ascii_case(text))?;
    Some(Value::Word(words.get(place)?, place))
}

fn value_of_attribute(operator: Operator, at: &Range<usize>, token: &Token<'_>) -> Parsed<Value> {
    let value = match &token.lexeme {
        Lexeme::Literal(Literal::Number(number)) => Value::Number(*number),
        Lexeme::Literal(Literal::Duration(ns)) => Value::Duration(*ns),
        Lexeme::Literal(Literal::Text(text)) => Value::Text(text.clone(), Number::parse(text)),
        Lexeme::Word(word @ ("true" | "false")) => Value::Bool(*word == "true"),
        Lexeme::Word(word) if is_nil(word) => return fail(token.range.clone(), Problem::Nil),
        Lexeme::Word(word) => return fail(token.range.clone(), Problem::Unquoted((*word).to_owned())),
        _ => return fail(token.range.clone(), Problem::Expected("a value", None)),
    };
    if matches!(value, Value::Bool(_)) && !operator.is_equality() {
        return fail(
            at.clone(),
            Problem::WrongOperator(operator.as_str(), "true and false".to_owned(), EQUALITY),
        );
    }
    Ok(value)
}
