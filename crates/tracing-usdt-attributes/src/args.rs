//! The arguments of the attribute.
//!
//! Commas between the arguments may be missing, because `tracing` does not ask for them.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Result, Token, braced, parenthesized, token};

const ARGUMENTS: &str =
    "`name`, `target`, `level`, `parent`, `follows_from`, `skip`, `skip_all`, `fields`, `err` or `ret`";

/// Everything between the parentheses of `#[instrument(…)]`.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) name: Option<Expr>,
    pub(crate) target: Option<Expr>,
    pub(crate) level: Option<Level>,
    pub(crate) parent: Option<Expr>,
    pub(crate) follows_from: Option<Expr>,
    pub(crate) skip: Option<Vec<Ident>>,
    pub(crate) skip_all: bool,
    pub(crate) fields: Option<Vec<Field>>,
    pub(crate) err: Option<EventArgs>,
    pub(crate) ret: Option<EventArgs>,
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut args = Self::default();
        while !input.is_empty() {
            if input.peek(Token![,]) {
                input.parse::<Token![,]>()?;
            } else if input.peek(LitStr) {
                let name: LitStr = input.parse()?;
                let literal = syn::parse_quote!(#name);
                set(&mut args.name, &Ident::new("name", name.span()), literal)?;
            } else {
                args.parse_one(input)?;
            }
        }
        Ok(args)
    }
}

impl Args {
    fn parse_one(&mut self, input: ParseStream<'_>) -> Result<()> {
        let expected = |error: Error| Error::new(error.span(), format!("expected {ARGUMENTS}"));
        let key = input.call(Ident::parse_any).map_err(expected)?;
        let error = |message: String| Err(Error::new(key.span(), message));
        match key.to_string().as_str() {
            "name" => set(&mut self.name, &key, assigned(&key, input)?),
            "target" => set(&mut self.target, &key, assigned(&key, input)?),
            "level" => set(&mut self.level, &key, assigned(&key, input)?),
            "parent" => set(&mut self.parent, &key, assigned(&key, input)?),
            "follows_from" => set(&mut self.follows_from, &key, assigned(&key, input)?),
            "err" => set(&mut self.err, &key, input.parse()?),
            "ret" => set(&mut self.ret, &key, input.parse()?),
            "fields" => set(&mut self.fields, &key, listed(&key, input, Field::parse)?),
            "skip" if self.skip_all => error("`skip_all` already skips every parameter".to_owned()),
            "skip" => set(&mut self.skip, &key, skipped(&key, input)?),
            "skip_all" if self.skip_all => Err(duplicate(&key)),
            "skip_all" if self.skip.as_ref().is_some_and(|names| !names.is_empty()) => {
                error("expected either `skip` or `skip_all`, not both".to_owned())
            }
            "skip_all" => {
                self.skip_all = true;
                Ok(())
            }
            _ => error(format!("unknown argument `{key}`, expected {ARGUMENTS}")),
        }
    }
}

/// Stores an argument, unless it is there already.
fn set<T>(place: &mut Option<T>, key: &Ident, value: T) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(duplicate(key)),
    }
}

fn duplicate(key: &Ident) -> Error {
    Error::new(key.span(), format!("`{key}` is given twice"))
}

/// What follows the name of an argument such as `level`: `= value`.
fn assigned<T: Parse>(key: &Ident, input: ParseStream<'_>) -> Result<T> {
    if !input.peek(Token![=]) {
        return Err(Error::new(key.span(), format!("expected a value: `{key} = …`")));
    }
    input.parse::<Token![=]>()?;
    input.parse()
}

/// What follows the name of an argument such as `fields`: `(item, item)`.
fn listed<T>(key: &Ident, input: ParseStream<'_>, item: fn(ParseStream<'_>) -> Result<T>) -> Result<Vec<T>> {
    if !input.peek(token::Paren) {
        return Err(Error::new(key.span(), format!("expected a list: `{key}(…)`")));
    }
    let content;
    parenthesized!(content in input);
    Ok(content.parse_terminated(item, Token![,])?.into_iter().collect())
}

fn skipped(key: &Ident, input: ParseStream<'_>) -> Result<Vec<Ident>> {
    let names = listed(key, input, Ident::parse_any)?;
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return Err(Error::new(name.span(), format!("`{name}` is skipped twice")));
        }
    }
    Ok(names)
}

/// An expression of type `Level`.
pub(crate) struct Level(TokenStream);

impl Level {
    const NAMES: [&str; 5] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"];

    /// The level with one of `NAMES`.
    pub(crate) fn named(name: &str) -> Self {
        let name = Ident::new(name, Span::call_site());
        Self(quote!(::tracing_usdt::tracing::Level::#name))
    }
}

impl Parse for Level {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut level: Expr = input.parse()?;
        // What `macro_rules!` passes on comes in groups without delimiters.
        while let Expr::Group(group) = level {
            level = *group.expr;
        }
        let Expr::Lit(ExprLit { lit, .. }) = &level else {
            return Ok(Self(level.into_token_stream()));
        };
        let index = match lit {
            Lit::Str(name) => Self::NAMES.iter().position(|known| known.eq_ignore_ascii_case(&name.value())),
            Lit::Int(number) => number.base10_parse().ok().and_then(|number: usize| number.checked_sub(1)),
            _ => None,
        };
        let name = index.and_then(|index| Self::NAMES.get(index)).ok_or_else(|| {
            Error::new_spanned(
                lit,
                "unknown level, expected \"trace\", \"debug\", \"info\", \"warn\", \"error\", \
                 a number from 1 (trace) to 5 (error), or a constant such as `Level::INFO`",
            )
        })?;
        Ok(Self::named(name))
    }
}

impl ToTokens for Level {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.0.to_tokens(tokens);
    }
}

/// How a value becomes a field: by its own type, or formatted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Value,
    Debug,
    Display,
}

impl Format {
    fn parse_sigil(input: ParseStream<'_>) -> Result<Self> {
        if input.peek(Token![?]) {
            input.parse::<Token![?]>()?;
            Ok(Self::Debug)
        } else if input.peek(Token![%]) {
            input.parse::<Token![%]>()?;
            Ok(Self::Display)
        } else {
            Ok(Self::Value)
        }
    }

    fn or(self, other: Self) -> Self {
        if self == Self::Value { other } else { self }
    }
}

impl ToTokens for Format {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Value => {}
            Self::Debug => tokens.extend(quote!(?)),
            Self::Display => tokens.extend(quote!(%)),
        }
    }
}

/// The arguments of `err(…)` and `ret(…)`.
pub(crate) struct EventArgs {
    pub(crate) level: Option<Level>,
    pub(crate) format: Option<Format>,
}

impl Parse for EventArgs {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut args = Self { level: None, format: None };
        if !input.peek(token::Paren) {
            return Ok(args);
        }
        let content;
        parenthesized!(content in input);
        while !content.is_empty() {
            let key = content.call(Ident::parse_any)?;
            let format = Ident::new("format", key.span());
            match key.to_string().as_str() {
                "level" => set(&mut args.level, &key, assigned(&key, &content)?)?,
                "Debug" => set(&mut args.format, &format, Format::Debug)?,
                "Display" => set(&mut args.format, &format, Format::Display)?,
                _ => {
                    let message = format!("unknown argument `{key}`, expected `Debug`, `Display` or `level`");
                    return Err(Error::new(key.span(), message));
                }
            }
            if !content.is_empty() {
                content.parse::<Token![,]>()?;
            }
        }
        Ok(args)
    }
}

/// An item of `fields(…)`.
pub(crate) struct Field {
    pub(crate) name: FieldName,
    pub(crate) format: Format,
    /// `None` declares the field, for `Span::record` to set.
    pub(crate) value: Option<Expr>,
}

pub(crate) enum FieldName {
    /// `a` or `a.b`.
    Dotted(Punctuated<Ident, Token![.]>),
    /// `"a"`.
    Quoted(LitStr),
    /// `{ A }`.
    Constant(Box<Expr>),
}

impl FieldName {
    /// Whether the field stands for this parameter. It is not known of constants, whose values the macro does not see.
    pub(crate) fn is(&self, parameter: &Ident) -> bool {
        match self {
            Self::Dotted(parts) => parts.len() == 1 && parts[0] == *parameter,
            Self::Quoted(name) => *parameter == name.value(),
            Self::Constant(_) => false,
        }
    }
}

impl ToTokens for FieldName {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Dotted(parts) => parts.to_tokens(tokens),
            Self::Quoted(name) => name.to_tokens(tokens),
            Self::Constant(name) => tokens.extend(quote!({ #name })),
        }
    }
}

impl Parse for Field {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let before_name = Format::parse_sigil(input)?;
        let name = if input.peek(token::Brace) {
            let content;
            braced!(content in input);
            FieldName::Constant(Box::new(content.parse()?))
        } else if input.peek(LitStr) {
            FieldName::Quoted(input.parse()?)
        } else {
            FieldName::Dotted(Punctuated::parse_separated_nonempty_with(input, Ident::parse_any)?)
        };
        if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            let format = Format::parse_sigil(input)?.or(before_name);
            return Ok(Self { name, format, value: Some(input.parse()?) });
        }
        match (before_name, &name) {
            (Format::Value, _) => Ok(Self { name, format: Format::Value, value: None }),
            // `?a.b` is short for `a.b = ?a.b`.
            (format, FieldName::Dotted(parts)) => {
                let value = syn::parse2(parts.to_token_stream())?;
                Ok(Self { name, format, value: Some(value) })
            }
            _ => Err(Error::new_spanned(
                &name,
                "expected a value: only the name of a variable can be its own value",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Args;

    /// The message of the error, and the part of the arguments that it points at.
    fn error(args: &str) -> (String, String) {
        let error = syn::parse_str::<Args>(args).err().expect(args);
        let (start, end) = (error.span().start().column, error.span().end().column);
        (error.to_string(), args[start..end].to_owned())
    }

    #[test]
    fn errors_point_at_the_argument_and_say_what_is_allowed() {
        for (args, at, message) in [
            (
                "skip_all, levl = \"debug\"",
                "levl",
                "unknown argument `levl`, expected `name`, `target`, `level`",
            ),
            ("level = \"loud\"", "\"loud\"", "unknown level, expected \"trace\", \"debug\""),
            ("level = \"1\"", "\"1\"", "unknown level"),
            ("level = 0", "0", "a number from 1 (trace) to 5 (error)"),
            ("level = 6", "6", "a number from 1 (trace) to 5 (error)"),
            ("level = 1.5", "1.5", "a number from 1 (trace) to 5 (error)"),
            ("level", "level", "expected a value: `level = …`"),
            ("skip, ret", "skip", "expected a list: `skip(…)`"),
            ("err(level)", "level", "expected a value: `level = …`"),
            ("err(Debg)", "Debg", "unknown argument `Debg`, expected `Debug`, `Display` or `level`"),
            ("ret(Debug, Display)", "Display", "`format` is given twice"),
            ("name = \"a\", \"b\"", "\"b\"", "`name` is given twice"),
            ("skip(a), skip_all", "skip_all", "either `skip` or `skip_all`"),
            ("skip_all, skip(a)", "skip", "`skip_all` already skips"),
            ("skip(a, b, a)", "a", "`a` is skipped twice"),
            ("fields(?\"a\")", "\"a\"", "expected a value"),
            ("fields(a), fields(b)", "fields", "`fields` is given twice"),
            ("= 1", "=", "expected `name`, `target`"),
        ] {
            let (said, place) = error(args);
            assert!(said.contains(message), "{args}: {said}");
            assert_eq!(place, at, "{args}: {said}");
        }
    }

    #[test]
    fn commas_are_optional_and_may_trail() {
        for args in [
            "",
            ",",
            "level = Level::INFO skip_all fields(a = 1,) err(Debug,) ret()",
            "name = NAME target = TARGET parent = None, follows_from = [],",
            "skip(), skip_all",
        ] {
            assert!(syn::parse_str::<Args>(args).is_ok(), "{args}");
        }
    }
}
