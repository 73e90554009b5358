//! Queries, which choose spans: `duration > 100ms and service == "shop" and kernel.disk > 5ms`.
//!
//! # Grammar
//!
//! ```text
//! query      = all { ("or" | "||") all }
//! all        = unary { ("and" | "&&") unary }
//! unary      = ("not" | "!") unary | "(" query ")" | condition
//! condition  = operand [ operator value ]
//! operator   = "==" | "!=" | "<" | "<=" | ">" | ">=" | "glob" | "=~" | "!~"
//!
//! operand    = name | word | scope ( word | quoted ) | "`" key "`"
//! name       = "duration" | "name" | ...                  the table that names() returns
//! word       = ( letter | "_" ) { letter | digit | "_" | "." | "-" | "/" }
//! scope      = "span." | "resource."
//!
//! value      = number | duration | quoted | "true" | "false" | a word of the name, such as "server"
//! number     = [ "-" ] decimal [ ("e" | "E") [ "+" | "-" ] digits ]
//! duration   = decimal unit { decimal unit }              1.5s, 100 ms, 1h30m
//! unit       = "ns" | "us" | "µs" | "ms" | "s" | "m" | "min" | "h" | "d"
//! quoted     = '"' text '"' | "'" text "'"                escapes: \" \' \` \\ \n \r \t \u{e9}
//! ```
//!
//! Space may be between all of these. `and`, `or`, `not` and `glob` may be in capitals. A backslash before another
//! character stays in the text, because regular expressions have many such sequences: `"\d+"`.
//!
//! # Meaning
//!
//! The signs are those of TraceQL and PromQL, except that equality is `==`. A regular expression may match anywhere in
//! the text, as in grep. `~` alone is a regular expression in some languages (awk, PostgreSQL) and something else in
//! others, so it is none here: a glob is written as in SQLite.
//!
//! A missing value makes every comparison false, also `!=` and `!~`, as in TraceQL and SQL. `not` turns any false condition
//! into a true one: there is no third value. `docs/query.md` has the other rules for values.
//!
//! # Files
//!
//! `name` has the table of names, `operand` the left side of a comparison, `literal` the right side, `operator` what is
//! between. `subject` reads these from a span. A `condition` is one comparison, an `expression` joins them. `token` splits
//! the text, `parse` has the grammar, and `check` finds whether the sides of a comparison fit. `error` says what is
//! wrong.

mod check;
mod condition;
mod error;
mod expression;
mod literal;
mod name;
mod operand;
mod operator;
mod parse;
mod subject;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::str::FromStr;

use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

pub use error::QueryError;
pub use name::{Name, names};
pub use subject::Subject;

use crate::process::{Process, Sender};
use expression::Expression;
use name::Intrinsic;

/// Chooses spans.
///
/// ```
/// use spantap::query::Query;
///
/// let query: Query = "duration > 100ms && !(http.response.status_code < 500)".parse()?;
/// assert_eq!(query.to_string(), "duration > 100ms and not http.response.status_code < 500");
///
/// let error = "duration > 100".parse::<Query>().unwrap_err();
/// assert_eq!(error.to_string(), "column 12: `duration` needs a unit: write 100ms or 100s");
/// # Ok::<(), spantap::query::QueryError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Query(Expression);

impl Query {
    /// Whether the query chooses this span.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.0.matches(subject)
    }

    /// Whether it asks for nothing but the service and the name of a span.
    pub(crate) fn asks_only_names(&self) -> bool {
        self.0.asks_only(&[Intrinsic::Service, Intrinsic::Name])
    }

    /// Whether it asks for what the kernel did during a span.
    pub(crate) fn asks_kernel(&self) -> bool {
        self.0.asks_any(&|name| matches!(name, Intrinsic::Kernel(_)))
    }

    /// Whether it is several conditions, joined by `or`.
    pub(crate) fn is_any_of(&self) -> bool {
        matches!(self.0, Expression::Or(_))
    }

    /// Whether it chooses spans of this service and name, if it [asks only for these](Self::asks_only_names).
    pub(crate) fn matches_name(&self, service: &str, name: &str) -> bool {
        let span = Span { name: name.to_owned(), ..Span::default() };
        let (sender, resource) = (Sender::UNKNOWN, Resource::default());
        let process = Process { sender, service: service.to_owned(), resource };
        self.matches(&Subject::new(&span, &process))
    }
}

impl FromStr for Query {
    type Err = QueryError;

    /// Reads a query of up to 8 KiB, with up to 64 parentheses inside each other.
    fn from_str(query: &str) -> Result<Self, QueryError> {
        parse::parse(query).map(Self)
    }
}

/// Writes the query so that it can be read again, with the words `and`, `or` and `not` and as few parentheses as possible.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
