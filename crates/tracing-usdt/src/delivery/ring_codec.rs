//! The encoding of a closed span in a ring: a header of words, and parts of bytes, the first of which is
//! [`RecordView::thread_and_fields`].
//!
//! It is not JSON yet: encoding JSON would take the closing thread longer than writing this.

use super::ring::{Record, store_bytes, store_words, words_of};
use crate::bytes::take;
use crate::callsite;
use crate::fields::DroppedFields;
use crate::propagation::{Ids, SpanId};
use crate::span::{ClosedSpan, DroppedItems, Elapsed, Identity, RecordView};

/// The header has this many words; most spans need no more.
const WORDS: usize = 9;
/// It has these too if [`HAS_MORE`] is set: for events, links, an error, a trace state, dropped values, or a time entered
/// that is not the busy time.
const MORE_WORDS: usize = 6;

/// The upper half of the first word has flags; the lower half has the callsite's number.
const HAS_MORE: u64 = 1 << 32;
const RANDOM: u64 = 1 << 33;
const REMOTE: u64 = 1 << 34;
const HAS_RESERVED_NAME: u64 = 1 << 35;
const SAMPLED: u64 = 1 << 36;
const BEGAN_BEFORE: u64 = 1 << 37;
/// The span was entered for its busy time.
const ENTERED_IS_BUSY: u64 = 1 << 38;

/// The lower half of a word.
const LOW: u64 = u32::MAX as u64;

/// A closed span as a ring stores it.
pub(super) struct SpanRecord<'a> {
    span: &'a ClosedSpan<'a>,
    has_more: bool,
    size: usize,
}

impl<'a> SpanRecord<'a> {
    #[inline(always)]
    pub(super) fn new(span: &'a ClosedSpan<'a>) -> Self {
        let (record, elapsed) = (span.record, span.elapsed);
        let has_more = !record.events.is_empty()
            || !record.links.is_empty()
            || record.error.is_some()
            || !record.trace_state.is_empty()
            || record.dropped != DroppedItems::default()
            || (elapsed.entered_ns != 0 && elapsed.entered_ns != elapsed.busy_ns);
        let mut size = WORDS + words_of(record.thread_and_fields);
        if has_more {
            let parts = [record.events, record.links, error(span), record.trace_state.as_bytes()];
            size += MORE_WORDS + parts.map(words_of).iter().sum::<usize>();
        }
        Self { span, has_more, size }
    }

    /// The record in memory of its own.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 8 * self.size];
        self.store(&mut bytes);
        bytes
    }
}

fn error<'a>(span: &ClosedSpan<'a>) -> &'a [u8] {
    span.record.error.unwrap_or_default().as_bytes()
}

impl Record for SpanRecord<'_> {
    #[inline(always)]
    fn size(&self) -> usize {
        self.size
    }

    #[inline(always)]
    fn store(&self, bytes: &mut [u8]) {
        let Self { span, has_more, .. } = *self;
        let (ids, record, elapsed) = (&span.identity.ids, span.record, span.elapsed);
        let length = |bytes: &[u8]| bytes.len() as u64;
        let rest = &mut &mut *bytes;
        let first = u64::from(span.callsite.id)
            | flag(has_more, HAS_MORE)
            | flag(ids.random, RANDOM)
            | flag(ids.sampled, SAMPLED)
            | flag(span.identity.remote, REMOTE)
            | flag(record.has_reserved_name, HAS_RESERVED_NAME)
            | flag(record.began_before, BEGAN_BEFORE)
            | flag(elapsed.entered_ns != 0 && elapsed.entered_ns == elapsed.busy_ns, ENTERED_IS_BUSY);
        let header: [u64; WORDS] = [
            first,
            ids.trace_id.high(),
            ids.trace_id.low(),
            ids.span_id.get(),
            span.identity.parent_id.map_or(0, SpanId::get),
            span.start_ns,
            elapsed.duration_ns,
            elapsed.busy_ns,
            length(record.thread_and_fields) | (record.fields_at as u64) << 32,
        ];
        store_words(rest, header);
        if has_more {
            let two = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
            let dropped = record.dropped;
            let more: [u64; MORE_WORDS] = [
                length(record.events) | length(record.links) << 32,
                // 0 means no error. An error without a text has length 0, so the length is stored plus one.
                record.error.map_or(0, |error| error.len() as u64 + 1),
                two(dropped.fields.attributes, dropped.fields.shortened),
                two(dropped.events, dropped.links),
                length(record.trace_state.as_bytes()),
                elapsed.entered_ns,
            ];
            store_words(rest, more);
        }
        store_bytes(rest, record.thread_and_fields);
        if has_more {
            let parts = [record.events, record.links, error(span), record.trace_state.as_bytes()];
            parts.into_iter().for_each(|part| store_bytes(rest, part));
        }
        debug_assert!(rest.is_empty(), "the size is what is stored");
    }
}

/// Decodes a [`SpanRecord`], in which each part is padded to whole words, and calls `read` with the
/// span. `None` if the bytes are no span.
pub(super) fn read<T>(mut bytes: &[u8], read: impl FnOnce(&ClosedSpan<'_>) -> T) -> Option<T> {
    let rest = &mut bytes;
    let [first, high, low, span_id, parent_id, start_ns, duration_ns, busy_ns, fields] = words(rest);
    let [sizes, error, field_counts, other_counts, trace_state, entered_ns] =
        if first & HAS_MORE != 0 { words(rest) } else { [0; MORE_WORDS] };
    let entered_ns = if first & ENTERED_IS_BUSY != 0 { busy_ns } else { entered_ns };
    let thread_and_fields = part(rest, fields & LOW);
    let events = part(rest, sizes & LOW);
    let links = part(rest, sizes >> 32);
    let error = error.checked_sub(1).map(|length| text(part(rest, length)));
    let trace_state = text(part(rest, trace_state));
    let record = RecordView {
        thread_and_fields,
        fields_at: (fields >> 32) as usize,
        events,
        links,
        error,
        dropped: DroppedItems {
            fields: DroppedFields { attributes: field_counts as u32, shortened: (field_counts >> 32) as u32 },
            events: other_counts as u32,
            links: (other_counts >> 32) as u32,
        },
        has_reserved_name: first & HAS_RESERVED_NAME != 0,
        trace_state,
        // Unfinished spans do not go through a ring.
        is_unfinished: false,
        began_before: first & BEGAN_BEFORE != 0,
    };
    Some(read(&ClosedSpan {
        identity: &Identity {
            ids: Ids {
                random: first & RANDOM != 0,
                sampled: first & SAMPLED != 0,
                ..Ids::from_parts(high, low, span_id)?
            },
            parent_id: SpanId::new(parent_id),
            remote: first & REMOTE != 0,
        },
        callsite: callsite::by_id(first as u32)?,
        start_ns,
        elapsed: Elapsed { duration_ns, busy_ns, entered_ns },
        record: &record,
    }))
}

#[inline]
fn flag(is_set: bool, bit: u64) -> u64 {
    if is_set { bit } else { 0 }
}

fn words<const N: usize>(rest: &mut &[u8]) -> [u64; N] {
    [(); N].map(|()| u64::from_le_bytes(take(rest)))
}

fn part<'a>(rest: &mut &'a [u8], length: u64) -> &'a [u8] {
    let length = (length as usize).min(rest.len());
    let (part, after) = rest.split_at(length);
    *rest = after.get(length.next_multiple_of(8) - length..).unwrap_or_default();
    part
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
