//! What a query asks: one span and its process.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::name::{Intrinsic, LEVELS};
use super::operand::{Attribute, Scope};
use crate::process::Process;
use crate::span::account::{Account, KEYS};
use crate::span::attributes::{TOLD_BUSY, count, find};
use crate::span::numbers::{KIND, NAME, PARENT_ID, SPAN_ID, TRACE_ID};
use crate::span::{Summary, Undecoded, is_error};

/// A span with its process, about which a query decides.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    span: Source<'a>,
    service: &'a str,
    resource: &'a [KeyValue],
}

/// An encoded span is not decoded: only what a query asks for is read. Decoding the spans would take most of the time of a
/// search.
#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Decoded(&'a Span),
    Encoded(&'a Summary, Undecoded<'a>),
}

/// What a name stands for in one span.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Actual<'a> {
    /// In nanoseconds.
    Duration(u64),
    Text(Cow<'a, str>),
    Bool(bool),
    Id(&'a [u8]),
    /// The place among the name's words.
    Word(usize),
}

impl<'a> Subject<'a> {
    /// A span, and the process that sent it.
    pub fn new(span: &'a Span, process: &'a Process) -> Self {
        Self::of(Source::Decoded(span), process)
    }

    /// A span as the field `spans` of a `ScopeSpans`, its summary, and the process that sent it. Of a span that can't be
    /// decoded, what can be read counts.
    pub fn encoded(summary: &'a Summary, field: &'a [u8], process: &'a Process) -> Self {
        Self::of(Source::Encoded(summary, Undecoded::of_field(field)), process)
    }

    fn of(span: Source<'a>, process: &'a Process) -> Self {
        Self { span, service: &process.service, resource: &process.resource.attributes }
    }

    /// The value of a name; `None` if the span has none.
    pub(super) fn value_of(&self, what: Intrinsic) -> Option<Actual<'a>> {
        let place = |code: i32| Some(Actual::Word(usize::try_from(code).ok()?));
        match what {
            Intrinsic::Duration => Some(Actual::Duration(self.span.duration_ns())),
            Intrinsic::Busy => self.span.busy_ns().map(Actual::Duration),
            Intrinsic::Kernel(state) => {
                let own = self.span.count(KEYS.get(state)?);
                // A state without time has no attribute, but is in the account.
                own.or_else(|| Account::read(|key| self.span.count(key)).map(|_| 0)).map(Actual::Duration)
            }
            Intrinsic::Name => self.span.name().map(|name| Actual::Text(name.into())),
            Intrinsic::Service => Some(Actual::Text(self.service.into())),
            Intrinsic::Target => self.span.text("target").map(Actual::Text),
            Intrinsic::Kind => place(self.span.kind()?),
            Intrinsic::Status => place(self.span.status_code()?),
            Intrinsic::Level => {
                let level = self.span.text("level")?;
                LEVELS.iter().position(|word| word.eq_ignore_ascii_case(&level)).map(Actual::Word)
            }
            Intrinsic::Error => Some(Actual::Bool(self.span.is_error())),
            Intrinsic::Root => Some(Actual::Bool(self.span.is_root())),
            Intrinsic::TraceId => self.span.id(TRACE_ID).map(Actual::Id),
            Intrinsic::SpanId => self.span.id(SPAN_ID).map(Actual::Id),
            Intrinsic::ParentId => self.span.id(PARENT_ID).filter(|id| !is_zero(id)).map(Actual::Id),
        }
    }

    /// The value of an attribute; `None` if it is missing or has no value.
    pub(super) fn attribute(&self, attribute: &Attribute) -> Option<Cow<'a, Value>> {
        let in_span = || self.span.attribute(&attribute.key);
        let in_resource = || find(self.resource, &attribute.key).map(Cow::Borrowed);
        match attribute.scope {
            Scope::Any => in_span().or_else(in_resource),
            Scope::Span => in_span(),
            Scope::Resource => in_resource(),
        }
    }
}

/// Without a parent, its id may be empty or zeros.
fn is_zero(id: &[u8]) -> bool {
    id.iter().all(|byte| *byte == 0)
}

impl<'a> Source<'a> {
    fn duration_ns(self) -> u64 {
        match self {
            Self::Decoded(span) => span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano),
            Self::Encoded(summary, _) => summary.duration_ns(),
        }
    }

    fn busy_ns(self) -> Option<u64> {
        match self {
            // A summary has only a number, and Zipkin sends a text.
            Self::Encoded(Summary { busy_ns: busy_ns @ Some(_), .. }, _) => *busy_ns,
            _ => count(self.attribute(TOLD_BUSY).or_else(|| self.attribute("busy_ns"))?.as_ref()),
        }
    }

    fn is_error(self) -> bool {
        match self {
            Self::Decoded(span) => is_error(span),
            Self::Encoded(summary, _) => summary.is_error,
        }
    }

    fn is_root(self) -> bool {
        match self {
            Self::Decoded(span) => is_zero(&span.parent_span_id),
            Self::Encoded(summary, _) => summary.parent_id.is_none_or(|id| id == 0),
        }
    }

    /// One of the span's ids, by the number of its field.
    fn id(self, number: u32) -> Option<&'a [u8]> {
        match self {
            Self::Decoded(span) if number == TRACE_ID => Some(&span.trace_id),
            Self::Decoded(span) if number == SPAN_ID => Some(&span.span_id),
            Self::Decoded(span) => Some(&span.parent_span_id),
            Self::Encoded(_, span) => span.bytes(number),
        }
    }

    fn name(self) -> Option<&'a str> {
        match self {
            Self::Decoded(span) => Some(&span.name),
            Self::Encoded(_, span) => span.text(NAME),
        }
    }

    fn kind(self) -> Option<i32> {
        match self {
            Self::Decoded(span) => Some(span.kind),
            Self::Encoded(_, span) => span.code(KIND),
        }
    }

    fn status_code(self) -> Option<i32> {
        match self {
            Self::Decoded(span) => Some(span.status.as_ref().map_or(0, |status| status.code)),
            Self::Encoded(_, span) => span.status_code(),
        }
    }

    fn attribute(self, key: &str) -> Option<Cow<'a, Value>> {
        match self {
            Self::Decoded(span) => find(&span.attributes, key).map(Cow::Borrowed),
            Self::Encoded(_, span) => span.attribute(key).map(Cow::Owned),
        }
    }

    fn count(self, key: &str) -> Option<u64> {
        count(self.attribute(key)?.as_ref())
    }

    fn text(self, key: &str) -> Option<Cow<'a, str>> {
        match self.attribute(key)? {
            Cow::Borrowed(Value::StringValue(text)) => Some(text.into()),
            Cow::Owned(Value::StringValue(text)) => Some(text.into()),
            _ => None,
        }
    }
}
