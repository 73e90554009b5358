//! The function under the attribute.
//!
//! Its body stays a stream of tokens: an editor expands the attribute while somebody types, when the body often has
//! no valid syntax, and the compiler's own messages about that are better than a macro's.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::visit_mut::{self, VisitMut};
use syn::{
    Attribute, Error, FnArg, Ident, ItemFn, Pat, Result, ReturnType, Signature, Token, Type, TypeInfer,
    Visibility, braced, token,
};

/// A function whose body is not parsed.
pub(crate) struct Function {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    pub(crate) signature: Signature,
    brace: token::Brace,
    inner_attributes: Vec<Attribute>,
    pub(crate) body: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let signature = input
            .parse()
            .map_err(|error| Error::new(error.span(), format!("`instrument` needs a function: {error}")))?;
        if input.peek(Token![;]) {
            return Err(input.error("`instrument` needs a function with a body"));
        }
        let content;
        let brace = braced!(content in input);
        let inner_attributes = content.call(Attribute::parse_inner)?;
        Ok(Self { attributes, visibility, signature, brace, inner_attributes, body: content.parse()? })
    }
}

impl From<&ItemFn> for Function {
    fn from(function: &ItemFn) -> Self {
        let (inner_attributes, attributes) = function
            .attrs
            .iter()
            .cloned()
            .partition(|attribute| matches!(attribute.style, syn::AttrStyle::Inner(_)));
        let statements = &function.block.stmts;
        Self {
            attributes,
            visibility: function.vis.clone(),
            signature: function.sig.clone(),
            brace: function.block.brace_token,
            inner_attributes,
            body: quote!(#(#statements)*),
        }
    }
}

impl Function {
    /// The body in its braces. These keep their place in the source, which errors name, and the user's edition, which
    /// decides when temporary values of the last expression are dropped.
    pub(crate) fn block(&self) -> TokenStream {
        self.in_braces(self.body.clone())
    }

    /// The function with another body.
    pub(crate) fn with_body(&self, body: &TokenStream) -> TokenStream {
        let Self { attributes, visibility, signature, inner_attributes, .. } = self;
        let block = self.in_braces(quote!(#(#inner_attributes)* #body));
        quote!(#(#attributes)* #visibility #signature #block)
    }

    fn in_braces(&self, tokens: TokenStream) -> TokenStream {
        let mut block = Group::new(Delimiter::Brace, tokens);
        block.set_span(self.brace.span.join());
        TokenTree::Group(block).into()
    }

    /// The return type as it can be written in the body, and where errors about it point.
    pub(crate) fn output(&self) -> (Type, Span) {
        match &self.signature.output {
            ReturnType::Default => (syn::parse_quote!(()), self.signature.ident.span()),
            ReturnType::Type(_, written) => {
                let mut output = (**written).clone();
                InferImplTrait.visit_type_mut(&mut output);
                (output, syn::spanned::Spanned::span(written))
            }
        }
    }
}

/// Whether the return type is `!`.
pub(crate) fn returns_never(signature: &Signature) -> bool {
    matches!(&signature.output, ReturnType::Type(_, output) if matches!(**output, Type::Never(_)))
}

/// Replaces `impl Trait` by `_`, since it may not be written in a body.
struct InferImplTrait;

impl VisitMut for InferImplTrait {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        match ty {
            Type::ImplTrait(_) => {
                *ty = Type::Infer(TypeInfer { underscore_token: Token![_](Span::call_site()) })
            }
            _ => visit_mut::visit_type_mut(self, ty),
        }
    }
}

/// A variable that a parameter binds.
pub(crate) struct Parameter {
    pub(crate) ident: Ident,
    /// Whether its type implements `tracing::Value`. Others are recorded by `Debug`.
    pub(crate) is_value: bool,
}

/// The variables that the parameters bind, in order.
pub(crate) fn parameters(signature: &Signature) -> Vec<Parameter> {
    let mut found = Vec::new();
    for argument in &signature.inputs {
        match argument {
            FnArg::Receiver(receiver) => {
                found
                    .push(Parameter { ident: Ident::new("self", receiver.self_token.span), is_value: false });
            }
            FnArg::Typed(typed) => bound_by(&typed.pat, is_value(&typed.ty), &mut found),
        }
    }
    found
}

/// Adds the variables of a pattern. Inside of a tuple or a struct their types are unknown to a macro.
fn bound_by(pattern: &Pat, is_value: bool, found: &mut Vec<Parameter>) {
    match pattern {
        Pat::Ident(variable) => found.push(Parameter { ident: variable.ident.clone(), is_value }),
        Pat::Reference(reference) => bound_by(&reference.pat, is_value, found),
        Pat::Struct(pattern) => pattern.fields.iter().for_each(|field| bound_by(&field.pat, false, found)),
        Pat::Tuple(tuple) => tuple.elems.iter().for_each(|part| bound_by(part, false, found)),
        Pat::TupleStruct(tuple) => tuple.elems.iter().for_each(|part| bound_by(part, false, found)),
        // `tracing` records no variable of other patterns, such as those of arrays.
        _ => {}
    }
}

/// Whether a type has the name of one that implements `tracing::Value`, or refers to such a type.
fn is_value(ty: &Type) -> bool {
    const INTEGERS: [&str; 12] =
        ["u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize"];
    match ty {
        Type::Reference(reference) => is_value(&reference.elem),
        Type::Path(path) => path.path.segments.last().is_some_and(|last| {
            let name = last.ident.to_string();
            match name.strip_prefix("NonZero") {
                Some(integer) => INTEGERS.contains(&integer.to_ascii_lowercase().as_str()),
                None => {
                    INTEGERS.contains(&name.as_str())
                        || ["bool", "str", "String", "f32", "f64", "Wrapping"].contains(&name.as_str())
                }
            }
        }),
        _ => false,
    }
}
