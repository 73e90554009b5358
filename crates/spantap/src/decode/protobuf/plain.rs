//! Finds spans that can stay as they were sent.

use std::ops::Range;

use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use super::super::LOSSES;
use super::super::faults::{Faults, is_odd_time};
use super::super::otlp::DEEPEST;
use super::super::value::{LONG, is_reserved};
use super::fields::{Fields, Value};
use crate::span::numbers::{BUSY, ENTERED, RESOURCE, SCHEMA_URL, SCOPE, SCOPE_SPANS, SPANS};
use crate::span::{DecodedSize, EncodedScopes, KERNEL_SCOPE, Summary};

/// The resource and the spans of a `ResourceSpans`. `None` if there is anything in it that has to be corrected, left out
/// or reported, or that is not usual.
pub(super) fn resource_spans<'a>(message: &'a [u8], faults: &Faults) -> Option<(&'a [u8], EncodedScopes)> {
    let mut resource: Option<&[u8]> = None;
    let mut scopes = EncodedScopes::default();
    let mut fields = Fields(message);
    loop {
        let before = fields.0;
        let Some((number, value)) = fields.next().ok()? else { break };
        match (number, value) {
            (RESOURCE, Value::Bytes(bytes)) if resource.is_none() => resource = Some(bytes),
            (SCOPE_SPANS, Value::Bytes(bytes)) => {
                let field = before.get(..before.len() - fields.0.len())?;
                // Where the content of the field will be.
                let start = scopes.bytes.len() + field.len() - bytes.len();
                scopes.bytes.extend_from_slice(field);
                scope_spans(bytes, start, faults, &mut scopes.spans)?;
            }
            // The schema's address is not forwarded.
            (SCHEMA_URL, Value::Bytes(_)) => {}
            _ => return None,
        }
    }
    Some((resource.unwrap_or_default(), scopes))
}

/// Reads a `ScopeSpans` that begins at `start`.
fn scope_spans(
    message: &[u8],
    start: usize,
    faults: &Faults,
    spans: &mut Vec<(Summary, Range<usize>)>,
) -> Option<()> {
    let position = |fields: &Fields<'_>| start + message.len() - fields.0.len();
    let mut fields = Fields(message);
    let (mut has_scope, mut is_kernel) = (false, false);
    loop {
        let begin = position(&fields);
        let Some((number, value)) = fields.next().ok()? else { return Some(()) };
        match (number, value) {
            (SCOPE, Value::Bytes(bytes)) if !has_scope => {
                has_scope = true;
                is_kernel = scope(bytes)? == KERNEL_SCOPE;
            }
            (SPANS, Value::Bytes(bytes)) => {
                let summary = Summary { is_kernel, ..span(bytes, faults)? };
                spans.push((summary, begin..position(&fields)));
            }
            (SCHEMA_URL, Value::Bytes(bytes)) => _ = text(bytes)?,
            _ => return None,
        }
    }
}

/// Reads a scope, and returns its name.
fn scope(message: &[u8]) -> Option<&str> {
    let mut name = "";
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next().ok()? {
        match (number, value) {
            (1, Value::Bytes(bytes)) => name = text(bytes)?,
            (2, Value::Bytes(bytes)) => _ = text(bytes)?,
            (3, Value::Bytes(bytes)) => _ = attribute(bytes)?,
            (4, Value::Integer(_)) => {}
            _ => return None,
        }
    }
    Some(name)
}

fn span(message: &[u8], faults: &Faults) -> Option<Summary> {
    let (mut trace_id, mut span_id, mut parent_id) = (None, None, None);
    let (mut start, mut end) = (0, 0);
    let (mut is_error, mut began_before) = (None, false);
    let (mut busy_ns, mut told_busy_ns, mut entered_ns) = (None, None, None);
    let mut decoded = DecodedSize::default();
    let nested =
        |bytes: &[u8]| if faults.were_checked { Some(nested_bytes(bytes)) } else { attribute(bytes) };
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next().ok()? {
        match (number, value) {
            (1, Value::Bytes(bytes)) => trace_id = Some(u128::from_be_bytes(bytes.try_into().ok()?)),
            (2, Value::Bytes(bytes)) => span_id = Some(u64::from_be_bytes(bytes.try_into().ok()?)),
            (3, Value::Bytes(bytes)) => _ = text(bytes)?,
            (4, Value::Bytes([])) => parent_id = None,
            (4, Value::Bytes(bytes)) => parent_id = Some(u64::from_be_bytes(bytes.try_into().ok()?)),
            // A report of losses has to be counted.
            (5, Value::Bytes(bytes)) if text(bytes)? != LOSSES => {}
            (6, Value::Integer(_)) => {}
            (7, Value::Fixed64(time)) => start = time,
            (8, Value::Fixed64(time)) => end = time,
            (9, Value::Bytes(bytes)) => {
                decoded.add_attribute(nested(bytes)?);
                busy_ns = busy_ns.or_else(|| busy_ns_of(bytes));
                began_before |= bytes == BEGAN_BEFORE_TRUE;
            }
            (10 | 12 | 14, Value::Integer(_)) => {}
            (11, Value::Bytes(bytes)) => event(bytes, nested, &mut decoded)?,
            (13, Value::Bytes(bytes)) => link(bytes, nested, &mut decoded)?,
            (15, Value::Bytes(bytes)) if is_error.is_none() => is_error = Some(is_failed(bytes)?),
            (16, Value::Fixed32) => {}
            (BUSY, Value::Integer(ns)) => told_busy_ns = Some(ns),
            (ENTERED, Value::Integer(ns)) => entered_ns = Some(ns),
            _ => return None,
        }
    }
    let is_usual = trace_id? != 0
        && span_id? != 0
        && parent_id != Some(0)
        && start > 0
        && start <= end
        && !is_odd_time(start, end, faults.now_ns);
    is_usual.then_some(Summary {
        trace_id: trace_id?,
        span_id: span_id?,
        parent_id,
        times: (start, end),
        is_error: is_error.unwrap_or(false),
        busy_ns: told_busy_ns.or(busy_ns),
        entered_ns,
        began_before,
        is_kernel: false,
        decoded,
    })
}

/// The attribute [`BEGAN_BEFORE`](crate::span::attributes::BEGAN_BEFORE) with the value true, as the layer encodes it.
const BEGAN_BEFORE_TRUE: &[u8] = b"\n\x19tracing_usdt.began_before\x12\x02\x10\x01";

/// The value of the layer's attribute `busy_ns`, as the layer encodes it.
fn busy_ns_of(attribute: &[u8]) -> Option<u64> {
    let (2, Value::Bytes(value)) = Fields(attribute.strip_prefix(b"\n\x07busy_ns")?).next().ok()?? else {
        return None;
    };
    match Fields(value).next().ok()?? {
        (3, Value::Integer(ns)) => i64::try_from(ns).is_ok().then_some(ns),
        _ => None,
    }
}

fn event(message: &[u8], nested: impl Fn(&[u8]) -> Option<usize>, decoded: &mut DecodedSize) -> Option<()> {
    let mut has_time = false;
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next().ok()? {
        match (number, value) {
            (1, Value::Fixed64(time)) => has_time = time > 0,
            (2, Value::Bytes(bytes)) => _ = text(bytes)?,
            (3, Value::Bytes(bytes)) => decoded.add_attribute(nested(bytes)?),
            (4, Value::Integer(_)) => {}
            _ => return None,
        }
    }
    decoded.add_event();
    has_time.then_some(())
}

fn link(message: &[u8], nested: impl Fn(&[u8]) -> Option<usize>, decoded: &mut DecodedSize) -> Option<()> {
    let (mut has_trace, mut has_span) = (false, false);
    let is_id = |bytes: &[u8], length| bytes.len() == length && bytes.iter().any(|byte| *byte != 0);
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next().ok()? {
        match (number, value) {
            (1, Value::Bytes(bytes)) => has_trace = is_id(bytes, 16),
            (2, Value::Bytes(bytes)) => has_span = is_id(bytes, 8),
            (3, Value::Bytes(bytes)) => _ = text(bytes)?,
            (4, Value::Bytes(bytes)) => decoded.add_attribute(nested(bytes)?),
            (5, Value::Integer(_)) | (6, Value::Fixed32) => {}
            _ => return None,
        }
    }
    decoded.add_link();
    (has_trace && has_span).then_some(())
}

/// Whether a `Status` is an error.
fn is_failed(message: &[u8]) -> Option<bool> {
    let mut is_error = false;
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next().ok()? {
        match (number, value) {
            (2, Value::Bytes(bytes)) => _ = text(bytes)?,
            (3, Value::Integer(code)) => is_error = code as i32 == StatusCode::Error as i32,
            _ => return None,
        }
    }
    Some(is_error)
}

/// At least the bytes of the values in the value of a `KeyValue` that was checked before. Looks only at the value's type,
/// which takes a tenth of the time.
fn nested_bytes(attribute: &[u8]) -> usize {
    let value_type = || {
        let key = usize::from(*attribute.strip_prefix(b"\x0a")?.first().filter(|length| **length < 0x80)?);
        let length = attribute.get(2 + key..)?.strip_prefix(b"\x12")?;
        let end = length.iter().position(|byte| *byte < 0x80)?;
        length.get(end + 1).copied()
    };
    match value_type() {
        // Field 5, a list, and field 6, a map; or a field that is not written in the usual way.
        Some(0x2a | 0x32) | None => attribute.len(),
        Some(_) => 0,
    }
}

/// Reads a `KeyValue`. Returns the bytes of the values in its value, or 0.
fn attribute(message: &[u8]) -> Option<usize> {
    pair(message, 0)
}

fn pair(message: &[u8], depth: usize) -> Option<usize> {
    let mut nested = None;
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next().ok()? {
        match (number, value) {
            (1, Value::Bytes(bytes)) => {
                let key = text(bytes)?;
                if depth == 0 && is_reserved(key) {
                    return None;
                }
            }
            // Of two values, a reader would make one.
            (2, Value::Bytes(bytes)) if nested.is_none() => nested = Some(any_value(bytes, depth)?),
            _ => return None,
        }
    }
    Some(nested.unwrap_or(0))
}

/// Reads an `AnyValue`. Returns the bytes of the values in it, or 0.
fn any_value(message: &[u8], depth: usize) -> Option<usize> {
    if depth > DEEPEST {
        return None;
    }
    let mut has_value = false;
    let mut nested = 0;
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next().ok()? {
        if std::mem::replace(&mut has_value, true) {
            return None;
        }
        match (number, value) {
            (1, Value::Bytes(bytes)) => _ = text(bytes).filter(|text| text.len() <= LONG)?,
            (2 | 3, Value::Integer(_)) | (4, Value::Fixed64(_)) | (7, Value::Bytes(_)) => {}
            (5 | 6, Value::Bytes(bytes)) => {
                nested = bytes.len();
                let mut items = Fields(bytes);
                while let Some((item, value)) = items.next().ok()? {
                    match (number, item, value) {
                        (5, 1, Value::Bytes(bytes)) => _ = any_value(bytes, depth + 1)?,
                        (6, 1, Value::Bytes(bytes)) => _ = pair(bytes, depth + 1)?,
                        _ => return None,
                    }
                }
            }
            _ => return None,
        }
    }
    Some(nested)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
