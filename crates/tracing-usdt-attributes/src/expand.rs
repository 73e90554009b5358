//! The code of the instrumented function.
//!
//! The variables of the generated code have the hygiene of `macro_rules!` (`Span::mixed_site`), so the user's code
//! neither sees nor shadows them.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{
    Block, Error, Expr, Ident, Item, ItemFn, Lifetime, Result, ReturnType, Signature, Stmt, Token, Type,
    TypePath,
};

use crate::args::{Args, EventArgs, Field, Format, Level};
use crate::function::{Function, Parameter, parameters, returns_never};
use crate::future::{self, Inner};

/// Expands the attribute. After an error the item stays as it is, so that no other errors follow from its absence.
pub(crate) fn instrument(args: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = syn::parse2(args).and_then(|args| function(&args, &syn::parse2(item.clone())?));
    expanded.unwrap_or_else(|error| {
        let mut tokens = error.into_compile_error();
        tokens.extend(item);
        tokens
    })
}

fn function(args: &Args, function: &Function) -> Result<TokenStream> {
    let signature = &function.signature;
    if let Some(constness) = &signature.constness {
        return Err(Error::new(
            constness.span,
            "a `const fn` cannot be instrumented: spans are made at run time",
        ));
    }
    let name = signature.ident.to_string();
    let warnings = args.warnings();
    let body = match body_with_future(args, &name, function)? {
        Some(body) => body,
        None => Instrumented::new(args, &name, signature, None)?.body(function),
    };
    Ok(function.with_body(&quote!(#warnings #body)))
}

/// The body of a function that returns a future without being `async`; `None` for other functions.
fn body_with_future(args: &Args, name: &str, function: &Function) -> Result<Option<TokenStream>> {
    let signature = &function.signature;
    // Parsing a body costs time, so this leaves out the functions that cannot return a future.
    if signature.asyncness.is_some() || matches!(signature.output, ReturnType::Default) {
        return Ok(None);
    }
    let Ok(mut statements) = syn::parse::Parser::parse2(Block::parse_within, function.body.clone()) else {
        return Ok(None);
    };
    match future::find(&mut statements) {
        None => return Ok(None),
        Some(Inner::Block(future)) => {
            let instrumented = Instrumented::new(args, name, signature, None)?;
            let block = future.block.to_token_stream();
            let body = instrumented.future(&block, generated_at(future.async_token.span));
            // The span records the parameters inside of the block, which thus must own them.
            future.capture = Some(Token![move](future.async_token.span));
            future.block.stmts = vec![Stmt::Expr(Expr::Verbatim(body), None)];
        }
        Some(Inner::Function(statement)) => {
            let Stmt::Item(Item::Fn(inner)) = &*statement else { return Ok(None) };
            let expanded = moved_function(args, name, inner)?;
            *statement = Stmt::Item(Item::Verbatim(expanded));
        }
    }
    Ok(Some(quote!(#(#statements)*)))
}

/// An `async fn` in the body of the function that has the attribute.
fn moved_function(args: &Args, name: &str, inner: &ItemFn) -> Result<TokenStream> {
    let instrumented = Instrumented::new(args, name, &inner.sig, future::type_of_moved_self(inner))?;
    let inner = Function::from(inner);
    Ok(inner.with_body(&instrumented.body(&inner)))
}

/// The parts of the generated code, for one function.
struct Instrumented<'a> {
    args: &'a Args,
    /// An expression, as are `target` and `level`.
    name: TokenStream,
    target: TokenStream,
    level: TokenStream,
    err: Option<&'a EventArgs>,
    ret: Option<&'a EventArgs>,
    parameters: Vec<Parameter>,
    moved_self: Option<TypePath>,
}

impl<'a> Instrumented<'a> {
    fn new(args: &'a Args, name: &str, signature: &Signature, moved_self: Option<TypePath>) -> Result<Self> {
        let returns = !returns_never(signature);
        let instrumented = Self {
            args,
            err: args.err.as_ref().filter(|_| returns),
            ret: args.ret.as_ref().filter(|_| returns),
            name: args.name.as_ref().map_or_else(|| quote!(#name), Expr::to_token_stream),
            target: args
                .target
                .as_ref()
                .map_or_else(|| quote!(::core::module_path!()), Expr::to_token_stream),
            level: args.level.as_ref().unwrap_or(&Level::named("INFO")).to_token_stream(),
            parameters: parameters(signature),
            moved_self,
        };
        let names: Vec<Ident> = instrumented
            .parameters
            .iter()
            .map(|parameter| instrumented.field_name(&parameter.ident))
            .collect();
        if let Some(skipped) = args.skip.iter().flatten().find(|skipped| !names.contains(skipped)) {
            let list = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let known = if list.is_empty() { "it has none".to_owned() } else { format!("expected {list}") };
            return Err(Error::new(skipped.span(), format!("no parameter is named `{skipped}`: {known}")));
        }
        Ok(instrumented)
    }

    /// The body of the instrumented function.
    fn body(&self, function: &Function) -> TokenStream {
        let block = function.block();
        let (output, place) = function.output();
        let place = generated_at(place);
        if function.signature.asyncness.is_none() {
            return self.call(&block, &output, place);
        }
        if returns_never(&function.signature) {
            return self.future(&block, place);
        }
        // An `async` block has no place for its type. This `return`, which never runs, tells the compiler before the
        // user's code asks for it.
        let result = as_result(&block);
        let typed = quote_spanned! {place=>
            {
                if let ::core::option::Option::Some(never) = ::core::option::Option::None::<#output> {
                    return never;
                }
                #result
            }
        };
        self.future(&typed, place)
    }

    /// Runs the block, which evaluates to the type `output`, in the span.
    fn call(&self, block: &TokenStream, output: &Type, place: Span) -> TokenStream {
        let (level, new_span, follow) = (&self.level, self.new_span(), self.follow());
        let (span, guard) = (local("span"), local("_guard"));
        // A closure keeps a `return` in the block from skipping the events. A function that takes `FnOnce` calls it,
        // because other closures may not return a borrow of what they capture, such as `&mut self.field`.
        let computation = quote!(::core::option::Option::None.unwrap_or_else(move || -> #output #block));
        let result = self.with_events(&computation, place).unwrap_or_else(|| as_result(block));
        // Both variables stay without a value where the level is disabled at compile time, and cost nothing then.
        quote! {
            let #span;
            let #guard;
            #[allow(clippy::used_underscore_binding)] // of parameters such as `_id`, which the span records
            if ::tracing_usdt::tracing::level_enabled!(#level)
                || ::tracing_usdt::tracing::if_log_enabled!(#level, { true } else { false })
            {
                #span = #new_span;
                #follow
                #guard = #span.enter();
            }
            #result
        }
    }

    /// Awaits the block in the span.
    fn future(&self, block: &TokenStream, place: Span) -> TokenStream {
        let (new_span, follow) = (self.new_span(), self.follow());
        let (span, future) = (local("span"), local("future"));
        let with_events = self.with_events(&quote!(async move #block.await), place);
        let block = with_events.map_or_else(|| block.clone(), |result| quote!({ #result }));
        // A disabled span is not attached, since it would log that it is entered, and cost time with each poll.
        quote! {
            #[allow(clippy::used_underscore_binding)]
            let #span = #new_span;
            let #future = async move #block;
            if #span.is_disabled() {
                #future.await
            } else {
                #follow
                ::tracing_usdt::tracing::Instrument::instrument(#future, #span).await
            }
        }
    }

    /// Evaluates `computation` and makes the events for its result; `None` if there are none to make.
    fn with_events(&self, computation: &TokenStream, place: Span) -> Option<TokenStream> {
        let [result, value, error] = ["result", "value", "error"].map(|name| Ident::new(name, place));
        let level_of_error = Level::named("ERROR").to_token_stream();
        let on_return = |value: &Ident| {
            self.ret.map(|event| self.event(event, &quote!(return), &self.level, Format::Debug, value))
        };
        let on_error =
            self.err.map(|event| self.event(event, &quote!(error), &level_of_error, Format::Display, &error));
        let events = match (on_error, on_return(&value)) {
            (None, None) => return None,
            (None, Some(_)) => on_return(&result)?,
            (Some(on_error), on_return) => {
                let value = if on_return.is_some() { quote!(#value) } else { quote!(_) };
                quote_spanned! {place=>
                    match &#result {
                        ::core::result::Result::Ok(#value) => { #on_return }
                        ::core::result::Result::Err(#error) => { #on_error }
                    }
                }
            }
        };
        Some(quote! {
            let #result = #computation;
            #events
            #result
        })
    }

    fn event(
        &self,
        event: &EventArgs,
        kind: &TokenStream,
        level: &TokenStream,
        format: Format,
        value: &Ident,
    ) -> TokenStream {
        let (target, name) = (&self.target, &self.name);
        let level = event.level.as_ref().map_or_else(|| level.clone(), Level::to_token_stream);
        let format = event.format.unwrap_or(format);
        quote!(::tracing_usdt::__event_of_instrument!(#kind of (#name), target: #target, #level, #kind = #format #value);)
    }

    fn follow(&self) -> Option<TokenStream> {
        let causes = self.args.follows_from.as_ref()?;
        let (span, cause) = (local("span"), local("cause"));
        Some(quote!(for #cause in #causes { #span.follows_from(#cause); }))
    }

    fn new_span(&self) -> TokenStream {
        let Self { args, name, target, level, .. } = self;
        let parent = args.parent.iter();
        let parameters = self.parameters.iter().filter_map(|parameter| self.field_of(parameter));
        let fields = args.fields.iter().flatten().map(|field| self.custom_field(field));
        quote! {
            ::tracing_usdt::tracing::span!(
                target: #target, #(parent: #parent,)* #level, #name #(, #parameters)* #(, #fields)*
            )
        }
    }

    /// The name under which users know a parameter: `self`, also in a function that was moved out of its `impl`.
    fn field_name(&self, parameter: &Ident) -> Ident {
        if self.moved_self.is_some() && parameter == "_self" {
            Ident::new("self", parameter.span())
        } else {
            parameter.clone()
        }
    }

    /// The field for a parameter, unless the user asked for none or for another.
    fn field_of(&self, parameter: &Parameter) -> Option<TokenStream> {
        let (ident, name) = (&parameter.ident, self.field_name(&parameter.ident));
        let skipped = self.args.skip_all || self.args.skip.iter().flatten().any(|skipped| *skipped == name);
        let replaced = self.args.fields.iter().flatten().any(|field| field.name.is(&name));
        if skipped || replaced {
            None
        } else if parameter.is_value {
            Some(quote!(#name = #ident))
        } else {
            // Here an error points if the type has no `Debug`.
            let place = generated_at(ident.span());
            Some(quote_spanned!(place=> #name = ::tracing_usdt::tracing::field::debug(&#ident)))
        }
    }

    fn custom_field(&self, field: &Field) -> TokenStream {
        let Field { name, format, value } = field;
        match (value, &self.moved_self) {
            (None, _) => quote!(#name = ::tracing_usdt::tracing::field::Empty),
            (Some(value), None) => quote!(#name = #format #value),
            (Some(value), Some(moved_self)) => {
                let value = with_moved_self(value.to_token_stream(), moved_self);
                quote!(#name = #format #value)
            }
        }
    }
}

/// A variable of the generated code.
fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// The user's block as the last expression of another. The label keeps the compiler from calling its braces
/// unnecessary. It begins the expression, so its span gives the edition.
fn as_result(block: &TokenStream) -> TokenStream {
    let label = Lifetime::new("'_body", block.span());
    quote!(#label: #block)
}

/// Generated code, which lints leave alone, but whose errors point at `place`.
fn generated_at(place: Span) -> Span {
    Span::mixed_site().located_at(place)
}

/// Replaces `self` and `Self` in the user's expression, since both mean nothing outside of an `impl`.
fn with_moved_self(tokens: TokenStream, self_type: &TypePath) -> TokenStream {
    let mut replaced = TokenStream::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) if ident == "self" => {
                replaced.extend(quote_spanned!(ident.span()=> _self))
            }
            TokenTree::Ident(ident) if ident == "Self" => {
                let is_prefix =
                    matches!(tokens.peek(), Some(TokenTree::Punct(colon)) if colon.as_char() == ':');
                replaced.extend(if is_prefix { quote!(<#self_type>) } else { quote!(#self_type) });
            }
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), with_moved_self(group.stream(), self_type));
                inner.set_span(group.span());
                replaced.extend([TokenTree::Group(inner)]);
            }
            other => replaced.extend([other]),
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::instrument;

    fn expanded(args: &str, item: &str) -> String {
        instrument(args.parse().expect(args), item.parse().expect(item)).to_string()
    }

    fn tokens(code: &str) -> String {
        code.parse::<proc_macro2::TokenStream>().expect(code).to_string()
    }

    #[test]
    fn generated_code_does_not_name_tracing_itself() {
        let args = "level = 2, follows_from = [], fields(a, b = ?b), err, ret";
        for item in [
            "fn f(b: u8, c: Vec<u8>) -> Result<u8, String> { Ok(b) }",
            "async fn f(b: u8, c: Vec<u8>) -> Result<u8, String> { Ok(b) }",
            "fn f(b: u8, c: Vec<u8>) -> Pin<Box<dyn Future<Output = Result<u8, String>>>> { Box::pin(async { Ok(b) }) }",
        ] {
            let code = expanded(args, item);
            assert!(code.contains(":: tracing_usdt :: tracing :: span !"), "{code}");
            assert!(
                code.contains(":: tracing_usdt :: __event_of_instrument ! (error of (\"f\") , target"),
                "{code}"
            );
            assert!(
                code.contains(":: tracing_usdt :: __event_of_instrument ! (return of (\"f\") , target"),
                "{code}"
            );
            let rest = code.replace(":: tracing_usdt :: tracing ::", "");
            assert!(!rest.contains("tracing ::"), "{code}");
        }
    }

    #[test]
    fn bodies_with_invalid_syntax_are_kept() {
        let code = expanded("", "fn f(x: u8) -> u8 { let y = x. ; y }");
        assert!(code.contains(&tokens("{ let y = x. ; y }")), "{code}");
    }

    #[test]
    fn items_are_kept_after_an_error() {
        for (args, item) in [
            ("level = 9", "fn f() {}"),
            ("skip(a)", "fn f(b: u8) {}"),
            ("", "const fn f() {}"),
            ("", "fn f(&self);"),
            ("", "struct S;"),
        ] {
            let code = expanded(args, item);
            assert!(code.contains("compile_error !"), "{code}");
            assert!(code.ends_with(&tokens(item)), "{code}");
        }
    }

    #[test]
    fn the_compiler_warns_of_unknown_arguments() {
        for item in
            ["fn f() {}", "async fn f() {}", "fn f() -> BoxFuture<'static, ()> { Box::pin(async {}) }"]
        {
            let code = expanded("levl, err", item);
            assert!(code.contains("# [warn (deprecated)]"), "{code}");
            assert!(code.contains("leaves out `levl`, expected `name`"), "{code}");
        }
    }

    #[test]
    fn attributes_and_comments_are_kept() {
        let code = expanded("", "/// Documented.\n#[inline]\npub(crate) fn f() { #![allow(unused)] }")
            .replace(' ', "");
        for kept in ["/// Documented.\n#[inline]pub(crate) fn f()", "#![allow(unused)]"] {
            assert!(code.contains(&tokens(kept).replace(' ', "")), "{kept} in {code}");
        }
    }
}
