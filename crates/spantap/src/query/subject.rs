//! What a query asks: one span and its process.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::name::{Intrinsic, LEVELS};
use super::operand::{Attribute, Scope};
use crate::process::Process;
use crate::span::account::Account;
use crate::span::attributes::{TOLD_BUSY, count, find, find_text};
use crate::span::is_error;

/// A span with its process: what a query chooses, or not.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    span: &'a Span,
    service: &'a str,
    resource: &'a [KeyValue],
}

/// What a name stands for in one span.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Told<'a> {
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

    /// `None` if the span does not tell.
    pub(super) fn tell(&self, what: Intrinsic) -> Option<Told<'a>> {
        let Self { span, service, .. } = *self;
        let is_root = || span.parent_span_id.iter().all(|byte| *byte == 0);
        let place = |code: i32| Some(Told::Word(usize::try_from(code).ok()?));
        match what {
            Intrinsic::Duration => {
                Some(Told::Duration(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano)))
            }
            Intrinsic::Busy => {
                let busy = find(&span.attributes, TOLD_BUSY).or_else(|| find(&span.attributes, "busy_ns"));
                busy.and_then(count).map(Told::Duration)
            }
            Intrinsic::Kernel(state) => {
                // A state without time has no attribute.
                Account::of(&span.attributes)?.0.get(state).copied().map(Told::Duration)
            }
            Intrinsic::Name => Some(Told::Text(&span.name)),
            Intrinsic::Service => Some(Told::Text(service)),
            Intrinsic::Target => find_text(&span.attributes, "target").map(Told::Text),
            Intrinsic::Kind => place(span.kind),
            Intrinsic::Status => place(span.status.as_ref().map_or(0, |status| status.code)),
            Intrinsic::Level => {
                let level = find_text(&span.attributes, "level")?;
                LEVELS.iter().position(|word| word.eq_ignore_ascii_case(level)).map(Told::Word)
            }
            Intrinsic::Error => Some(Told::Bool(is_error(span))),
            Intrinsic::Root => Some(Told::Bool(is_root())),
            Intrinsic::TraceId => Some(Told::Id(&span.trace_id)),
            Intrinsic::SpanId => Some(Told::Id(&span.span_id)),
            Intrinsic::ParentId if is_root() => None,
            Intrinsic::ParentId => Some(Told::Id(&span.parent_span_id)),
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
