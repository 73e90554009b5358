//! What a query compares: a name that it knows, or an attribute.

use std::fmt;

use super::literal::write_quoted;
use super::name::{self, Name};

/// The left side of a comparison.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Name(&'static Name),
    Attribute(Attribute),
}

/// An attribute of the span or of its resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Attribute {
    pub(super) scope: Scope,
    pub(super) key: String,
}

/// Where to look for an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// In the span, and then in the resource.
    Any,
    Span,
    Resource,
}

impl Scope {
    /// The scope of a key that begins with its prefix, and the rest of the key.
    pub(super) fn split(word: &str) -> (Self, &str) {
        let of = |scope: Self| Some((scope, word.strip_prefix(scope.prefix())?));
        of(Self::Span).or_else(|| of(Self::Resource)).unwrap_or((Self::Any, word))
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Span => "span.",
            Self::Resource => "resource.",
        }
    }
}

/// Words that are not keys unless they are in backticks.
const RESERVED: [&str; 5] = ["and", "or", "not", "true", "false"];

/// Whether this is one of the words of the language, in any case.
pub(super) fn is_reserved(word: &str) -> bool {
    RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(word))
}

/// Whether a word can begin with this character.
pub(super) fn begins_word(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

/// Whether a word can go on with this character: labels of Kubernetes have slashes, HTTP headers hyphens.
pub(super) fn continues_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/')
}

impl Attribute {
    /// How many nanoseconds are meant by 1, as the end of the key says: `waited_ms`. Without a unit, it is one, as in
    /// most of OpenTelemetry's times.
    pub(super) fn unit_ns(&self) -> u64 {
        match self.key.rsplit(['_', '.']).next().filter(|end| end.len() < self.key.len()) {
            Some("us" | "micros") => 1_000,
            Some("ms" | "millis") => 1_000_000,
            Some("s" | "secs" | "seconds") => 1_000_000_000,
            _ => 1,
        }
    }

    /// Whether the key needs no quotes.
    fn is_plain(&self) -> bool {
        let is_word = self.key.chars().all(continues_word) && !self.key.is_empty();
        let is_free = || {
            self.key.starts_with(begins_word)
                && !is_reserved(&self.key)
                && Scope::split(&self.key).0 == Scope::Any
                && name::find(&self.key).is_none()
                && name::similar(&self.key).is_none()
        };
        is_word && (self.scope != Scope::Any || is_free())
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name.as_str()),
            Self::Attribute(attribute) => {
                f.write_str(attribute.scope.prefix())?;
                if attribute.is_plain() {
                    f.write_str(&attribute.key)
                } else {
                    write_quoted(&attribute.key, if attribute.scope == Scope::Any { '`' } else { '"' }, f)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_number_is_at_the_end_of_its_key() {
        let unit = |key: &str| Attribute { scope: Scope::Any, key: key.to_owned() }.unit_ns();
        let cases = [
            ("busy_ns", 1),
            ("kernel.tcp.round_trip_us", 1_000),
            ("waited_ms", 1_000_000),
            ("elapsed.ms", 1_000_000),
            ("timeout_seconds", 1_000_000_000),
            ("timeout", 1),
            ("s", 1),
            ("items", 1),
        ];
        for (key, ns) in cases {
            assert_eq!(unit(key), ns, "{key}");
        }
    }
}
