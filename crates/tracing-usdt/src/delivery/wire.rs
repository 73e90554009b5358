//! A closed span on its way through a ring: a header of words, and the bytes behind it.
//!
//! Not yet JSON, because to write that takes the closing thread longer than to hand this over.

use crate::callsite;
use crate::context::{Ids, SpanId};
use crate::fields::{FieldsLeftOut, take};
use crate::identity::Identity;
use crate::span::{ClosedSpan, Elapsed, LeftOut, RecordView};

/// The words before the bytes. Most spans have the first part only.
const WORDS: usize = 11;
const MORE_WORDS: usize = 5;

/// Set in the first word where there is the second part.
const HAS_MORE: u64 = 1 << 32;
/// And for what is true of the span.
const RANDOM: u64 = 1 << 33;
const REMOTE: u64 = 1 << 34;
const TOLD: u64 = 1 << 35;

/// Calls `take` with the header and the bytes.
#[inline]
pub(super) fn write<T>(span: &ClosedSpan<'_>, take: impl FnOnce(&[u64], &[&[u8]]) -> T) -> T {
    let (context, record) = (span.identity.context, span.record);
    let left_out = record.left_out;
    let more = !record.events.is_empty()
        || !record.links.is_empty()
        || record.error.is_some()
        || !record.trace_state.is_empty()
        || left_out != LeftOut::default();
    let length = |bytes: &[u8]| bytes.len() as u64;
    let mut header = [0; WORDS + MORE_WORDS];
    header[..WORDS].copy_from_slice(&[
        u64::from(span.callsite.id)
            | flag(more, HAS_MORE)
            | flag(context.random, RANDOM)
            | flag(span.identity.remote, REMOTE)
            | flag(record.told, TOLD),
        context.trace_id.high(),
        context.trace_id.low(),
        context.span_id.get(),
        span.identity.parent_id.map_or(0, SpanId::get),
        span.start_ns,
        span.elapsed.duration_ns,
        span.elapsed.busy_ns,
        record.thread_id,
        length(record.thread_name.as_bytes()),
        length(record.fields),
    ]);
    if !more {
        return take(&header[..WORDS], &[record.thread_name.as_bytes(), record.fields]);
    }
    let error = record.error.unwrap_or_default().as_bytes();
    let two = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    header[WORDS..].copy_from_slice(&[
        length(record.events) | length(record.links) << 32,
        // One more, since there may be an error without a text.
        record.error.map_or(0, |error| error.len() as u64 + 1),
        two(left_out.fields.attributes, left_out.fields.shortened),
        two(left_out.events, left_out.links),
        length(record.trace_state.as_bytes()),
    ]);
    let trace_state = record.trace_state.as_bytes();
    let all = [record.thread_name.as_bytes(), record.fields, record.events, record.links, error, trace_state];
    take(&header, &all)
}

/// Calls `take` with what [`write()`] gave; each of the byte parts begins with a whole word. `None` if the
/// bytes are no span.
pub(super) fn read<T>(mut bytes: &[u8], take: impl FnOnce(&ClosedSpan<'_>) -> T) -> Option<T> {
    let rest = &mut bytes;
    let [first, high, low, span_id, parent_id, start_ns, duration_ns, busy_ns, thread_id, name, fields] =
        words(rest);
    let [sizes, error, of_fields, of_others, trace_state] =
        if first & HAS_MORE != 0 { words(rest) } else { [0; MORE_WORDS] };
    let thread_name = part(rest, name);
    let fields = part(rest, fields);
    let events = part(rest, sizes & u64::from(u32::MAX));
    let links = part(rest, sizes >> 32);
    let error = error.checked_sub(1).map(|length| text(part(rest, length)));
    let trace_state = text(part(rest, trace_state));
    let record = RecordView {
        thread_id,
        thread_name: text(thread_name),
        fields,
        events,
        links,
        error,
        left_out: LeftOut {
            fields: FieldsLeftOut { attributes: of_fields as u32, shortened: (of_fields >> 32) as u32 },
            events: of_others as u32,
            links: (of_others >> 32) as u32,
        },
        told: first & TOLD != 0,
        trace_state,
        // Those don't come this way.
        is_unfinished: false,
    };
    Some(take(&ClosedSpan {
        identity: Identity {
            context: Ids { random: first & RANDOM != 0, ..Ids::from_parts(high, low, span_id)? },
            parent_id: SpanId::new(parent_id),
            remote: first & REMOTE != 0,
        },
        callsite: callsite::by_id(first as u32)?,
        start_ns,
        elapsed: Elapsed { duration_ns, busy_ns },
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
