//! The grammar over tokens. The documentation of the parent module has it in one piece.

use winnow::Parser;
use winnow::combinator::{opt, separated};
use winnow::error::ErrMode;
use winnow::stream::{Location, Stream, TokenSlice};
use winnow::token::one_of;

use super::check;
use super::condition::Condition;
use super::error::{Fault, Parsed, Problem, QueryError, fail};
use super::expression::Expression;
use super::literal::Literal;
use super::operand::Operand;
use super::operator::{Operator, instead_of};
use super::token::{Lexeme, Token, tokens};

/// The longest query. Bounds the memory and the time that a query from outside takes.
pub(super) const MAX_BYTES: usize = 8 << 10;

/// The most parentheses and `not` inside each other. Bounds the stack, here and wherever the expression is walked.
pub(super) const MAX_DEPTH: usize = 64;

/// The most regular expressions and globs.
const MAX_PATTERNS: usize = 64;

type Input<'t, 's> = TokenSlice<'t, Token<'s>>;

/// Reads a query.
pub(super) fn parse(query: &str) -> Result<Expression, QueryError> {
    let found = match query.char_indices().find(|(at, c)| at + c.len_utf8() > MAX_BYTES) {
        Some((at, _)) => fail(at..at, Problem::TooLong(MAX_BYTES)),
        None => tokens(query).and_then(|tokens| {
            check_patterns(&tokens)?;
            whole.parse_next(&mut Input::new(&tokens))
        }),
    };
    found.map_err(|error| match error {
        ErrMode::Cut(fault) | ErrMode::Backtrack(fault) => QueryError::new(query, fault),
        ErrMode::Incomplete(_) => unreachable!("the whole query is there"),
    })
}

fn check_patterns(tokens: &[Token<'_>]) -> Parsed<()> {
    let mut patterns = tokens.iter().filter(|token| operator_of(token).is_some_and(Operator::takes_pattern));
    match patterns.nth(MAX_PATTERNS) {
        Some(token) => fail(token.range.clone(), Problem::TooManyPatterns(MAX_PATTERNS)),
        None => Ok(()),
    }
}

fn whole(input: &mut Input<'_, '_>) -> Parsed<Expression> {
    let expression = any_of(0, input)?;
    match input.first() {
        None => Ok(expression),
        Some(_) => expected("`and`, `or` or the end", input),
    }
}

fn any_of(depth: usize, input: &mut Input<'_, '_>) -> Parsed<Expression> {
    let part = |input: &mut Input<'_, '_>| all_of(depth, input);
    separated(1.., part, is(&Lexeme::Or)).map(Expression::or).parse_next(input)
}

fn all_of(depth: usize, input: &mut Input<'_, '_>) -> Parsed<Expression> {
    let part = |input: &mut Input<'_, '_>| unary(depth, input);
    separated(1.., part, is(&Lexeme::And)).map(Expression::and).parse_next(input)
}

/// A negation, a group or a condition.
fn unary(depth: usize, input: &mut Input<'_, '_>) -> Parsed<Expression> {
    let Some(token) = input.next_token() else { return expected("a condition", input) };
    if matches!(token.lexeme, Lexeme::Not | Lexeme::Open) && depth == MAX_DEPTH {
        return fail(token.range.clone(), Problem::TooDeep(MAX_DEPTH));
    }
    match &token.lexeme {
        Lexeme::Not => unary(depth + 1, input).map(|negated| Expression::Not(Box::new(negated))),
        Lexeme::Open => {
            let inner = any_of(depth + 1, input)?;
            match opt(is(&Lexeme::Close)).parse_next(input)? {
                Some(_) => Ok(inner),
                None if input.is_empty() => fail(token.range.clone(), Problem::UnclosedParenthesis),
                None => expected("`and`, `or` or a closing parenthesis", input),
            }
        }
        _ => condition(token, input).map(Expression::Condition),
    }
}

const OPERATOR: &str = "`and`, `or` or an operator such as `==`";

/// A condition that begins with this token.
fn condition(token: &Token<'_>, input: &mut Input<'_, '_>) -> Parsed<Condition> {
    let operand = match &token.lexeme {
        Lexeme::Word(word) => check::operand(word, &token.range)?,
        Lexeme::Key(attribute) => Operand::Attribute(attribute.clone()),
        Lexeme::Literal(Literal::Text(text)) => {
            return fail(token.range.clone(), Problem::TextAsName(text.clone()));
        }
        _ => return fail(token.range.clone(), Problem::Expected("a name", None)),
    };
    let Some(next) = input.peek_token() else { return check::alone(operand, &token.range) };
    let Some(operator) = operator_of(next) else {
        return match &next.lexeme {
            Lexeme::And | Lexeme::Or | Lexeme::Close => check::alone(operand, &token.range),
            Lexeme::Not => fail(next.range.clone(), Problem::NotBehindName),
            Lexeme::Word(word) => match instead_of(word) {
                Some(instead) => {
                    fail(next.range.clone(), Problem::OtherOperator((*word).to_owned(), instead))
                }
                None => expected(OPERATOR, input),
            },
            _ => expected(OPERATOR, input),
        };
    };
    input.next_token();
    match input.next_token() {
        Some(value) if matches!(value.lexeme, Lexeme::Literal(_) | Lexeme::Word(_)) => {
            check::comparison(operand, operator, &next.range, value)
        }
        Some(other) => fail(other.range.clone(), Problem::Expected("a value", None)),
        None => expected("a value", input),
    }
}

fn operator_of(token: &Token<'_>) -> Option<Operator> {
    match &token.lexeme {
        Lexeme::Operator(operator) => Some(*operator),
        Lexeme::Word(word) if word.eq_ignore_ascii_case(Operator::Glob.as_str()) => Some(Operator::Glob),
        _ => None,
    }
}

/// A parser of a token without a content.
fn is<'t, 's: 't>(
    lexeme: &'static Lexeme<'static>,
) -> impl Parser<Input<'t, 's>, &'t Token<'s>, ErrMode<Fault>> {
    one_of(move |token: &Token<'s>| token.lexeme == *lexeme)
}

/// Says that something else is expected where the input goes on.
fn expected<T>(what: &'static str, input: &Input<'_, '_>) -> Parsed<T> {
    let end = input.current_token_start();
    let range = input.first().map_or(end..end, |token| token.range.clone());
    fail(range, Problem::Expected(what, None))
}
