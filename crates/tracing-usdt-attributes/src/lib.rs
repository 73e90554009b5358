//! The attribute macro [`instrument`](macro@instrument) of `tracing-usdt`.
//!
//! This crate is an implementation detail: use `tracing_usdt::tracing::instrument`. It exists because
//! `tracing::instrument` expands to `::tracing::span!`, which no import can replace. The attribute here takes the
//! same arguments and makes the same spans and events, through the macros of `::tracing_usdt::tracing`.
//!
//! | module | what it does |
//! |---|---|
//! | `args` | parses the arguments of the attribute |
//! | `function` | parses the function, but not its body |
//! | `future` | finds the future in the body of a function that returns one |
//! | `expand` | generates the instrumented function |

mod args;
mod expand;
mod function;
mod future;

use proc_macro::TokenStream;

/// Makes a `tracing` span for each call of a function, and enters it while the function runs.
///
/// The attribute takes the arguments of `tracing::instrument`. By default the span has the name of the function, the
/// target of its module, the level INFO, and a field for each parameter. Numbers, `bool`, `str`, `String` and
/// references to these are recorded as values, other types by `Debug`.
///
/// ```ignore
/// use tracing_usdt::tracing::{self, Level, instrument};
///
/// #[instrument(level = "debug", skip(body), fields(bytes = body.len(), status), err)]
/// async fn upload(path: &str, body: Vec<u8>) -> Result<(), std::io::Error> {
///     let status = send(path, body).await?;
///     tracing::Span::current().record("status", status);
///     Ok(())
/// }
/// ```
///
/// # Arguments
///
/// All are optional, in any order.
///
/// | argument | meaning |
/// |---|---|
/// | `name = "checkout"`, or only `"checkout"` | the name of the span: a literal or a constant |
/// | `target = "shop"` | the target of the span and of the events: a literal or a constant |
/// | `level = "debug"` | the level of the span: a name in any case, a number from 1 (trace) to 5 (error), or a constant such as `Level::DEBUG` |
/// | `parent = &self.span` | the parent: a span, an `Id` or an `Option` of one; `None` makes a root |
/// | `follows_from = causes` | spans that led to this one: anything that iterates over spans or ids |
/// | `skip(a, b)` | no fields for these parameters, which need no `Debug` then |
/// | `skip_all` | no fields for any parameter |
/// | `fields(…)` | more fields, see below |
/// | `err` | an event with the field `error` if the function returns `Err`: level ERROR, by `Display` |
/// | `ret` | an event with the field `return` for what the function returns: level of the span, by `Debug`. Together with `err` only for `Ok`, and then without the `Ok` |
/// | `err(Debug, level = "warn")` | the same with another format (`Debug` or `Display`) or level, or both; also for `ret` |
///
/// # Fields
///
/// The values are computed when the function begins and may use its parameters. A field with the name of a parameter
/// replaces the field of that parameter, unless its name is in braces.
///
/// | field | meaning |
/// |---|---|
/// | `user.id = user.id()` | a value of a type that implements `tracing::Value` |
/// | `user = %user`, `user = ?user` | a value by `Display`, by `Debug` |
/// | `%user`, `?user` | the same |
/// | `status` | empty until `Span::record` sets it |
/// | `"content-type" = kind` | a name that is no identifier |
/// | `{ NAME } = value` | the name is a constant |
///
/// # Functions
///
/// In an `async fn`, the span is entered while the future is polled. So it is for a function whose last expression
/// is `async { … }` or `Box::pin(async { … })`, such as those that `async-trait` generates. A `const fn` cannot be
/// instrumented.
///
/// # Differences from `tracing::instrument`
///
/// None in what compiles there; of an unknown argument, too, the compiler only warns. But more compiles:
///
/// * `ret` and `err` also work for functions that return a mutable borrow of a parameter, and `-> !` is accepted.
/// * `parent` and `follows_from` may also come after `target`; `name`, `target` and `level` may be any constant
///   expression; names of fields may be in quotes.
#[proc_macro_attribute]
pub fn instrument(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::instrument(args.into(), item.into()).into()
}
