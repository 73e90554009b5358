//! Splits a query into tokens.

use std::ops::Range;

use winnow::Parser;
use winnow::combinator::{alt, opt, preceded, repeat, terminated};
use winnow::stream::{LocatingSlice, Location, Stream};
use winnow::token::{any, one_of, take_while};

use super::error::{Parsed, Problem, fail};
use super::literal::{Literal, Number, scaled, unit_ns};
use super::operand::{Attribute, Scope, begins_word, continues_word, is_reserved};
use super::operator::Operator;

/// A token, and its bytes in the query.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Token<'s> {
    pub(super) lexeme: Lexeme<'s>,
    pub(super) range: Range<usize>,
}

/// What a token is.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Lexeme<'s> {
    Open,
    Close,
    And,
    Or,
    Not,
    /// An operator of signs. `glob` is a word.
    Operator(Operator),
    Word(&'s str),
    /// An attribute whose key is in quotes.
    Key(Attribute),
    Literal(Literal),
}

impl Location for Token<'_> {
    fn previous_token_end(&self) -> usize {
        self.range.end
    }

    fn current_token_start(&self) -> usize {
        self.range.start
    }
}

type Input<'s> = LocatingSlice<&'s str>;

/// All tokens of a query.
pub(super) fn tokens(query: &str) -> Parsed<Vec<Token<'_>>> {
    let token = lexeme.with_span().map(|(lexeme, range)| Token { lexeme, range });
    preceded(space, repeat(0.., terminated(token, space))).parse_next(&mut LocatingSlice::new(query))
}

fn space(input: &mut Input<'_>) -> Parsed<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

fn lexeme<'s>(input: &mut Input<'s>) -> Parsed<Lexeme<'s>> {
    alt((sign, word, quantity, text, unknown)).parse_next(input)
}

fn sign<'s>(input: &mut Input<'s>) -> Parsed<Lexeme<'s>> {
    let comparison = alt((
        "==".value(Operator::Equal),
        "=~".value(Operator::Matches),
        "!=".value(Operator::NotEqual),
        "!~".value(Operator::MatchesNot),
        "<=".value(Operator::LessOrEqual),
        ">=".value(Operator::GreaterOrEqual),
        "<".value(Operator::Less),
        ">".value(Operator::Greater),
    ));
    alt((
        comparison.map(Lexeme::Operator),
        "(".value(Lexeme::Open),
        ")".value(Lexeme::Close),
        "&&".value(Lexeme::And),
        "||".value(Lexeme::Or),
        "!".value(Lexeme::Not),
    ))
    .parse_next(input)
}

/// A word, or a key in quotes, which may have a scope before it.
fn word<'s>(input: &mut Input<'s>) -> Parsed<Lexeme<'s>> {
    if input.starts_with('`') {
        return key(Scope::Any, input);
    }
    let word = (one_of(begins_word), take_while(0.., continues_word)).take().parse_next(input)?;
    Ok(match word {
        "span." if input.starts_with(is_quote) => return key(Scope::Span, input),
        "resource." if input.starts_with(is_quote) => return key(Scope::Resource, input),
        _ if word.eq_ignore_ascii_case("and") => Lexeme::And,
        _ if word.eq_ignore_ascii_case("or") => Lexeme::Or,
        _ if word.eq_ignore_ascii_case("not") => Lexeme::Not,
        _ => Lexeme::Word(word),
    })
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`')
}

fn key<'s>(scope: Scope, input: &mut Input<'s>) -> Parsed<Lexeme<'s>> {
    let (key, range) = quoted.with_span().parse_next(input)?;
    if key.is_empty() {
        return fail(range, Problem::EmptyKey);
    }
    Ok(Lexeme::Key(Attribute { scope, key }))
}

fn text<'s>(input: &mut Input<'s>) -> Parsed<Lexeme<'s>> {
    quoted.map(|text| Lexeme::Literal(Literal::Text(text))).parse_next(input)
}

/// A text in quotes of any kind, without the quotes.
fn quoted(input: &mut Input<'_>) -> Parsed<String> {
    let (quote, range) = one_of(is_quote).with_span().parse_next(input)?;
    let mut text = String::new();
    loop {
        match input.next_token() {
            None => return fail(range, Problem::Unclosed(quote)),
            Some(c) if c == quote => return Ok(text),
            Some('\\') => escaped(input, &mut text)?,
            Some(c) => text.push(c),
        }
    }
}

/// What follows a backslash. Regular expressions have many sequences of their own, so the backslash stays where the text
/// has no use for it.
fn escaped(input: &mut Input<'_>, text: &mut String) -> Parsed<()> {
    let start = input.current_token_start() - 1;
    if opt("u{").parse_next(input)?.is_some() {
        let digits = take_while(0..=6, |c: char| c.is_ascii_hexdigit()).parse_next(input)?;
        let character = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
        match (character, opt('}').parse_next(input)?) {
            (Some(c), Some(_)) => text.push(c),
            _ => return fail(start..input.current_token_start(), Problem::Escape),
        }
        return Ok(());
    }
    match input.next_token() {
        Some('n') => text.push('\n'),
        Some('r') => text.push('\r'),
        Some('t') => text.push('\t'),
        Some(c @ ('\\' | '"' | '\'' | '`')) => text.push(c),
        Some(c) => text.extend(['\\', c]),
        None => text.push('\\'), // the closing quote is missing, too
    }
    Ok(())
}

/// A number, or a duration of one or more parts: `1.5s`, `100 ms`, `3m 12s`.
fn quantity<'s>(input: &mut Input<'s>) -> Parsed<Lexeme<'s>> {
    let start = input.current_token_start();
    let first = number.parse_next(input)?;
    let end = input.current_token_start();
    let Some(unit_ns) = unit(input)? else {
        let number = Number::parse(first).filter(|number| number.is_finite());
        let Some(number) = number else { return fail(start..end, Problem::NumberTooLarge) };
        return Ok(Lexeme::Literal(Literal::Number(number)));
    };
    if first.starts_with('-') {
        return fail(start..end, Problem::NegativeDuration);
    }
    if first.contains(['e', 'E']) {
        return fail(start..end, Problem::Expected("a duration without an exponent", None));
    }
    let mut sum_ns = scaled(first, unit_ns);
    loop {
        let checkpoint = input.checkpoint();
        space(input)?;
        let Some((part, range)) = opt(number.with_span()).parse_next(input)? else {
            input.reset(&checkpoint);
            break;
        };
        let Some(unit_ns) = unit(input)? else {
            return fail(range, Problem::PartWithoutUnit(part.to_owned()));
        };
        let part_ns = scaled(part, unit_ns);
        sum_ns = sum_ns.and_then(|sum_ns| sum_ns.checked_add(part_ns?));
    }
    match sum_ns {
        Some(ns) => Ok(Lexeme::Literal(Literal::Duration(ns))),
        None => fail(start..input.current_token_start(), Problem::DurationTooLong),
    }
}

fn number<'s>(input: &mut Input<'s>) -> Parsed<&'s str> {
    let digits = || take_while(1.., '0'..='9');
    let decimal = alt(((digits(), opt(('.', digits()))).void(), ('.', digits()).void()));
    let exponent = opt((one_of(['e', 'E']), opt(one_of(['+', '-'])), digits()));
    (opt('-'), decimal, exponent).take().parse_next(input)
}

/// The nanoseconds of the unit that follows a number, perhaps after a space; `None` if no unit follows.
fn unit(input: &mut Input<'_>) -> Parsed<Option<u64>> {
    let checkpoint = input.checkpoint();
    let (_, (word, range)) = (space, take_while(0.., continues_word).with_span()).parse_next(input)?;
    if word.is_empty() || is_reserved(word) {
        input.reset(&checkpoint);
        return Ok(None);
    }
    match unit_ns(word) {
        Some(ns) => Ok(Some(ns)),
        None => split_units(word, range, input, &checkpoint),
    }
}

/// Several parts without a space between them, as in `1h30m`: only the first unit is taken.
fn split_units<'s>(
    word: &'s str,
    range: Range<usize>,
    input: &mut Input<'s>,
    checkpoint: &<Input<'s> as Stream>::Checkpoint,
) -> Parsed<Option<u64>> {
    let unit = word.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
    let Some(ns) = unit_ns(unit) else { return fail(range, Problem::UnknownUnit(word.to_owned())) };
    input.reset(checkpoint);
    let _ = (space, unit).parse_next(input)?;
    Ok(Some(ns))
}

fn unknown<'s>(input: &mut Input<'s>) -> Parsed<Lexeme<'s>> {
    let (c, range) = any.with_span().parse_next(input)?;
    fail(range, Problem::Character(c))
}
