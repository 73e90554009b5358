//! What a query asks: one span and its process.

use std::cell::OnceCell;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::name::{Intrinsic, LEVELS};
use super::operand::{Attribute, Scope};
use crate::process::Process;
use crate::span::account::{Account, KEYS};
use crate::span::attributes::{TOLD_BUSY, count, find, find_text};
use crate::span::{Summary, decode_field, is_error};

/// A span with its process, about which a query decides.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    span: Source<'a>,
    service: &'a str,
    resource: &'a [KeyValue],
}

#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Decoded(&'a Span),
    Encoded(&'a LazySpan<'a>),
}

/// An encoded span, which is only decoded if a query asks for more than its summary has. Most queries begin with a condition
/// that few spans meet, and decoding takes most of the time of a search.
#[derive(Debug)]
pub struct LazySpan<'a> {
    summary: &'a Summary,
    field: &'a [u8],
    decoded: OnceCell<Option<Span>>,
}

impl<'a> LazySpan<'a> {
    /// A span as the field `spans` of a `ScopeSpans`, and its summary.
    pub fn new(summary: &'a Summary, field: &'a [u8]) -> Self {
        Self { summary, field, decoded: OnceCell::new() }
    }
}

/// What a name stands for in one span.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Actual<'a> {
    /// In nanoseconds.
    Duration(u64),
    Text(&'a str),
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

    /// An encoded span, and the process that sent it.
    pub fn encoded(span: &'a LazySpan<'a>, process: &'a Process) -> Self {
        Self::of(Source::Encoded(span), process)
    }

    fn of(span: Source<'a>, process: &'a Process) -> Self {
        Self { span, service: &process.service, resource: &process.resource.attributes }
    }

    /// `None` if an encoded span can't be decoded. It then has no values.
    fn span(&self) -> Option<&'a Span> {
        match self.span {
            Source::Decoded(span) => Some(span),
            Source::Encoded(lazy) => lazy.decoded.get_or_init(|| decode_field(lazy.field)).as_ref(),
        }
    }

    /// The value of a name; `None` if the span has none.
    pub(super) fn value_of(&self, what: Intrinsic) -> Option<Actual<'a>> {
        if let Source::Encoded(LazySpan { summary, .. }) = self.span {
            match what {
                Intrinsic::Duration => return Some(Actual::Duration(summary.duration_ns())),
                // The summary has a number only, and Zipkin sends a text.
                Intrinsic::Busy if summary.busy_ns.is_some() => return summary.busy_ns.map(Actual::Duration),
                Intrinsic::Error => return Some(Actual::Bool(summary.is_error)),
                Intrinsic::Root => return Some(Actual::Bool(summary.parent_id.is_none_or(|id| id == 0))),
                Intrinsic::Service => return Some(Actual::Text(self.service)),
                _ => {}
            }
        }
        let span = self.span()?;
        let is_root = || span.parent_span_id.iter().all(|byte| *byte == 0);
        let place = |code: i32| Some(Actual::Word(usize::try_from(code).ok()?));
        match what {
            Intrinsic::Duration => {
                Some(Actual::Duration(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano)))
            }
            Intrinsic::Busy => {
                let busy = find(&span.attributes, TOLD_BUSY).or_else(|| find(&span.attributes, "busy_ns"));
                busy.and_then(count).map(Actual::Duration)
            }
            Intrinsic::Kernel(state) => {
                let own = find(&span.attributes, KEYS.get(state)?).and_then(count);
                // A state without time has no attribute, but is in the account.
                own.or_else(|| Account::of(&span.attributes).map(|_| 0)).map(Actual::Duration)
            }
            Intrinsic::Name => Some(Actual::Text(&span.name)),
            Intrinsic::Service => Some(Actual::Text(self.service)),
            Intrinsic::Target => find_text(&span.attributes, "target").map(Actual::Text),
            Intrinsic::Kind => place(span.kind),
            Intrinsic::Status => place(span.status.as_ref().map_or(0, |status| status.code)),
            Intrinsic::Level => {
                let level = find_text(&span.attributes, "level")?;
                LEVELS.iter().position(|word| word.eq_ignore_ascii_case(level)).map(Actual::Word)
            }
            Intrinsic::Error => Some(Actual::Bool(is_error(span))),
            Intrinsic::Root => Some(Actual::Bool(is_root())),
            Intrinsic::TraceId => Some(Actual::Id(&span.trace_id)),
            Intrinsic::SpanId => Some(Actual::Id(&span.span_id)),
            Intrinsic::ParentId if is_root() => None,
            Intrinsic::ParentId => Some(Actual::Id(&span.parent_span_id)),
        }
    }

    /// The value of an attribute; `None` if it is missing or has no value.
    pub(super) fn attribute(&self, attribute: &Attribute) -> Option<&'a Value> {
        let in_span = || find(&self.span()?.attributes, &attribute.key);
        let in_resource = || find(self.resource, &attribute.key);
        match attribute.scope {
            Scope::Any => in_span().or_else(in_resource),
            Scope::Span => in_span(),
            Scope::Resource => in_resource(),
        }
    }
}
