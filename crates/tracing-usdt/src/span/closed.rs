//! A closed span, as an encoder reads it.

use super::identity::Identity;
use super::link::Link;
use super::thread::Thread;
use super::timing::Elapsed;
use crate::bytes::take;
use crate::callsite::{self, Callsite};
use crate::fields::{DroppedFields, FieldsView};

/// A closed span: everything that an encoder needs.
#[derive(Clone, Copy)]
pub(crate) struct ClosedSpan<'a> {
    /// By reference, like `record`: the parts are then read where they are written, not copied before.
    pub(crate) identity: &'a Identity,
    pub(crate) callsite: &'static Callsite,
    /// Time of creation, in nanoseconds since 1970.
    pub(crate) start_ns: u64,
    pub(crate) elapsed: Elapsed,
    pub(crate) record: &'a RecordView<'a>,
}

/// What was recorded of a span. Fields, `events` and `links` are in the binary form of their modules.
#[derive(Clone, Copy, Default)]
pub(crate) struct RecordView<'a> {
    /// The thread, in the form of [`Thread::to_bytes`], and from `fields_at` on the fields.
    pub(crate) thread_and_fields: &'a [u8],
    pub(crate) fields_at: usize,
    pub(crate) events: &'a [u8],
    pub(crate) links: &'a [u8],
    /// An event marked the span as failed. The text is empty if the event gave no reason.
    pub(crate) error: Option<&'a str>,
    pub(crate) dropped: DroppedItems,
    /// An attribute with a reserved name was set by name, so the callsite does not list it.
    pub(crate) has_reserved_name: bool,
    /// The `tracestate` of the span or of the nearest span above that has one.
    pub(crate) trace_state: &'a str,
    /// The span was still open when the program ended.
    pub(crate) is_unfinished: bool,
    /// The span began before anyone listened: its start is not that of the span, and nothing else is known.
    pub(crate) began_before: bool,
}

impl<'a> RecordView<'a> {
    /// The thread that created the span.
    pub(crate) fn thread(&self) -> Thread<'a> {
        Thread::from_bytes(self.thread_and_fields.get(..self.fields_at).unwrap_or_default())
    }

    pub(crate) fn fields(&self) -> &'a [u8] {
        self.thread_and_fields.get(self.fields_at..).unwrap_or_default()
    }
}

/// Counts of items of a span that the limits dropped, and of values that they shortened.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct DroppedItems {
    pub(crate) fields: DroppedFields,
    pub(crate) events: u32,
    pub(crate) links: u32,
}

/// An event inside a span.
pub(crate) struct Event<'a> {
    /// Time of the event, in nanoseconds since 1970.
    pub(crate) at_ns: u64,
    pub(crate) fields: FieldsView<'a>,
}

impl<'a> ClosedSpan<'a> {
    pub(crate) fn fields(&self) -> FieldsView<'a> {
        FieldsView::new(self.callsite, self.record.fields())
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = Event<'a>> + use<'a> {
        let mut rest = self.record.events;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let at_ns = u64::from_le_bytes(take(&mut rest));
            let callsite = callsite::by_id(u32::from_le_bytes(take(&mut rest)))?;
            let length = u32::from_le_bytes(take(&mut rest)) as usize;
            let (fields, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            Some(Event { at_ns, fields: FieldsView::new(callsite, fields) })
        })
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = Link<'a>> + use<'a> {
        let mut rest = self.record.links;
        std::iter::from_fn(move || Link::read(&mut rest))
    }
}
