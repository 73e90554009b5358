//! What a query asks: one span and its process.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::name::{Intrinsic, LEVELS};
use super::operand::{Attribute, Scope};
use crate::process::Process;
use crate::span::account::{Account, KEYS};
use crate::span::attributes::{TOLD_BUSY, count, find, find_text};
use crate::span::is_error;

/// A span with its process, about which a query decides.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    span: &'a Span,
    service: &'a str,
    resource: &'a [KeyValue],
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
        Self { span, service: &process.service, resource: &process.resource.attributes }
    }

    /// The value of a name; `None` if the span has none.
    pub(super) fn value_of(&self, what: Intrinsic) -> Option<Actual<'a>> {
        let Self { span, service, .. } = *self;
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
            Intrinsic::Service => Some(Actual::Text(service)),
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
        let Self { span, resource, .. } = *self;
        let in_span = || find(&span.attributes, &attribute.key);
        let in_resource = || find(resource, &attribute.key);
        match attribute.scope {
            Scope::Any => in_span().or_else(in_resource),
            Scope::Span => in_span(),
            Scope::Resource => in_resource(),
        }
    }
}
