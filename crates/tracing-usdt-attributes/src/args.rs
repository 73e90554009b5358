//! The arguments of the attribute.
//!
//! What compiles with `tracing` compiles here: commas between the arguments may be missing, what is unknown is left out
//! with a warning, and of two arguments `parent`, `follows_from`, `err` or `ret` the last one counts.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Result, Token, braced, parenthesized, token};

const ARGUMENTS: &str =
    "`name`, `target`, `level`, `parent`, `follows_from`, `skip`, `skip_all`, `fields`, `err` or `ret`";

const KEYS: [&str; 10] =
    ["name", "target", "level", "parent", "follows_from", "skip", "skip_all", "fields", "err", "ret"];

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
    unknown: Vec<Error>,
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
        // `self` and other keywords are no names of arguments.
        let Ok(key) = input.fork().call(Ident::parse_any) else {
            return self.skip_unknown(input);
        };
        let error = |message: &str| Err(Error::new(key.span(), message));
        let name = key.to_string();
        if !KEYS.contains(&name.as_str()) {
            return self.skip_unknown(input);
        }
        input.call(Ident::parse_any)?;
        match name.as_str() {
            "name" => set(&mut self.name, &key, assigned(&key, input)?),
            "target" => set(&mut self.target, &key, assigned(&key, input)?),
            "level" => set(&mut self.level, &key, assigned(&key, input)?),
            "fields" => set(&mut self.fields, &key, listed(&key, input, Field::parse)?),
            "skip" if self.skip_all => error("`skip_all` already skips every parameter"),
            // `tracing` takes another one after `skip()`.
            "skip" if self.skip.as_ref().is_some_and(Vec::is_empty) => {
                self.skip = Some(skipped(&key, input)?);
                Ok(())
            }
            "skip" => set(&mut self.skip, &key, skipped(&key, input)?),
            "skip_all" if self.skip_all => Err(duplicate(&key)),
            "skip_all" if self.skip.as_ref().is_some_and(|names| !names.is_empty()) => {
                error("expected either `skip` or `skip_all`, not both")
            }
            "skip_all" => {
                self.skip_all = true;
                Ok(())
            }
            "parent" => {
                self.parent = Some(assigned(&key, input)?);
                Ok(())
            }
            "follows_from" => {
                self.follows_from = Some(assigned(&key, input)?);
                Ok(())
            }
            "err" => {
                self.err = Some(input.parse()?);
                Ok(())
            }
            _ => {
                self.ret = Some(input.parse()?);
                Ok(())
            }
        }
    }

    /// Leaves out one token, of which `warnings` tell.
    fn skip_unknown(&mut self, input: ParseStream<'_>) -> Result<()> {
        let token: TokenTree = input.parse()?;
        let message = format!("`#[instrument]` leaves out `{token}`, expected {ARGUMENTS}");
        self.unknown.push(Error::new(token.span(), message));
        Ok(())
    }

    /// Statements that make the compiler warn of what was left out. A macro can't do so directly, but by the use of a
    /// deprecated item.
    pub(crate) fn warnings(&self) -> TokenStream {
        let warnings = self.unknown.iter().map(|unknown| {
            let message = LitStr::new(&unknown.to_string(), unknown.span());
            quote_spanned! {unknown.span()=>
                #[warn(deprecated)]
                {
                    #[deprecated(note = #message)]
                    const UNKNOWN_ARGUMENT: () = ();
                    let () = UNKNOWN_ARGUMENT;
                }
            }
        });
        quote!(#(#warnings)*)
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
            ("level = \"loud\"", "\"loud\"", "unknown level, expected \"trace\", \"debug\""),
            ("level = \"1\"", "\"1\"", "unknown level"),
            ("level = 0", "0", "a number from 1 (trace) to 5 (error)"),
            ("level = 6", "6", "a number from 1 (trace) to 5 (error)"),
            ("level = 1.5", "1.5", "a number from 1 (trace) to 5 (error)"),
            ("level", "level", "expected a value: `level = …`"),
            ("skip, ret", "skip", "expected a list: `skip(…)`"),
            ("err(level)", "level", "expected a value: `level = …`"),
            ("err(Debg)", "Debg", "unknown argument `Debg`, expected `Debug`, `Display` or `level`"),
            ("err(level = 1), err(level)", "level", "expected a value: `level = …`"),
            ("ret(Debug, Display)", "Display", "`format` is given twice"),
            ("name = \"a\", \"b\"", "\"b\"", "`name` is given twice"),
            ("skip(a), skip_all", "skip_all", "either `skip` or `skip_all`"),
            ("skip_all, skip(a)", "skip", "`skip_all` already skips"),
            ("skip(a, b, a)", "a", "`a` is skipped twice"),
            ("fields(?\"a\")", "\"a\"", "expected a value"),
            ("fields(a), fields(b)", "fields", "`fields` is given twice"),
        ] {
            let (said, place) = error(args);
            assert!(said.contains(message), "{args}: {said}");
            assert_eq!(place, at, "{args}: {said}");
        }
    }

    #[test]
    fn warnings_point_at_what_is_left_out_and_say_what_is_allowed() {
        for (args, left_out) in [
            ("skip_all, levl = \"debug\"", "levl ="),
            ("= 1", "= 1"),
            ("self, err(Debug), (skip(a)) 2", "self (skip(a)) 2"),
        ] {
            let parsed = syn::parse_str::<Args>(args).expect(args);
            let places = parsed.unknown.iter().map(|error| {
                let (start, end) = (error.span().start().column, error.span().end().column);
                assert!(error.to_string().contains("expected `name`, `target`"), "{error}");
                &args[start..end]
            });
            assert_eq!(places.collect::<Vec<_>>().join(" "), left_out, "{args}");
        }
        let args = syn::parse_str::<Args>("levl = \"debug\"").expect("a warning");
        assert_eq!(args.name.map(|name| quote::quote!(#name).to_string()), Some("\"debug\"".to_owned()));
    }

    #[test]
    fn the_last_one_counts_of_arguments_that_may_be_repeated() {
        let args =
            "err, err(Debug), ret(Display), ret, parent = a, parent = b, follows_from = c, follows_from = d";
        let args = syn::parse_str::<Args>(args).expect(args);
        assert_eq!(args.err.expect("err").format, Some(super::Format::Debug));
        assert_eq!(args.ret.expect("ret").format, None);
        let [parent, causes] =
            [args.parent, args.follows_from].map(|value| quote::quote!(#value).to_string());
        assert_eq!((&*parent, &*causes), ("b", "d"));
    }

    #[test]
    fn commas_are_optional_and_may_trail() {
        for args in [
            "",
            ",",
            "level = Level::INFO skip_all fields(a = 1,) err(Debug,) ret()",
            "name = NAME target = TARGET parent = None, follows_from = [],",
            "skip(), skip_all",
            "skip() skip(a)",
        ] {
            assert!(syn::parse_str::<Args>(args).is_ok(), "{args}");
        }
    }
}
