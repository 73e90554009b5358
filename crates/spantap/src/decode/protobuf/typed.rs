//! Decodes spans into OpenTelemetry's types, checks them, and corrects what can be corrected.
//!
//! A span in which a text is not UTF-8, or a field has another type, is refused: prost does not read it, and neither
//! would a backend.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use prost::Message;

use super::super::fault::{Fault, Found};
use super::super::faults::Faults;
use super::super::otlp::DEEPEST;
use super::super::place::Times;
use super::super::value::{add_note, check_length, rename_reserved};
use super::fields::{self, Fields, Value};
use super::size::{self, Kind};
use crate::span::attributes::{TOLD_BUSY, TOLD_ENTERED, attribute, value};
use crate::span::numbers::{BUSY, ENTERED, RESOURCE, SCHEMA_URL, SCOPE, SCOPE_SPANS, SPANS};

/// The number of `scope_spans` until 2022.
const LIBRARY_SPANS: u32 = 1000;

pub(super) fn resource_spans<'a>(
    bytes: &'a [u8],
    faults: &mut Faults,
) -> Result<(Cow<'a, [u8]>, Vec<ScopeSpans>), Found> {
    let mut resource: Cow<'a, [u8]> = Cow::default();
    let mut scopes = Vec::new();
    fields::each(bytes, |number, bytes| match number {
        RESOURCE if resource.is_empty() => resource = Cow::Borrowed(bytes),
        // The concatenation of two encoded messages is their merge.
        RESOURCE => resource.to_mut().extend_from_slice(bytes),
        SCOPE_SPANS | LIBRARY_SPANS => match scope_spans(bytes, faults) {
            Ok(scope) if scope.spans.is_empty() => {}
            Ok(scope) => scopes.push(scope),
            Err(found) => faults.add(found),
        },
        _ => {}
    })?;
    Ok((resource, scopes))
}

fn scope_spans(bytes: &[u8], faults: &mut Faults) -> Result<ScopeSpans, Found> {
    let mut read = ScopeSpans::default();
    fields::each(bytes, |number, bytes| match number {
        // A scope that can't be read does not affect its spans.
        SCOPE => match decoded::<InstrumentationScope>(Kind::Scope, bytes, faults) {
            Ok(mut scope) => {
                check_attributes(&mut scope.attributes, &mut scope.dropped_attributes_count, faults);
                read.scope = Some(scope);
            }
            Err(found) => faults.leave_out(found.of("scope")),
        },
        SPANS => match span(bytes, faults).and_then(|span| with_told_times(span, bytes)) {
            Ok(span) => read.spans.push(span),
            Err(found) => faults.add(found),
        },
        SCHEMA_URL => read.schema_url = String::from_utf8_lossy(bytes).into_owned(),
        _ => {}
    })?;
    Ok(read)
}

/// Decodes a message, unless those of the request take too much memory with it.
fn decoded<M: Message + Default>(kind: Kind, bytes: &[u8], faults: &mut Faults) -> Result<M, Found> {
    faults.grow(size::decoded(kind, bytes))?;
    Ok(M::decode(bytes)?)
}

/// Reads a span, checks it, and corrects it where that is possible.
pub(super) fn span(bytes: &[u8], faults: &mut Faults) -> Result<Span, Found> {
    let span = decoded(Kind::Span, bytes, faults)?;
    checked(span, faults)
}

/// Adds what a batch of the layer tells in fields of its own.
fn with_told_times(mut span: Span, bytes: &[u8]) -> Result<Span, Found> {
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        let (BUSY | ENTERED, Value::Integer(ns)) = (number, value) else { continue };
        let key = if number == BUSY { TOLD_BUSY } else { TOLD_ENTERED };
        let ns = any_value::Value::IntValue(i64::try_from(ns).unwrap_or(i64::MAX));
        span.attributes.push(attribute(key, ns));
    }
    Ok(span)
}

/// Reads a resource. Returns its attributes, and how many were dropped by the sender or here.
pub(in super::super) fn resource(bytes: &[u8], faults: &mut Faults) -> Result<(Vec<KeyValue>, u32), Found> {
    let Resource { mut attributes, mut dropped_attributes_count, .. }: Resource =
        decoded(Kind::Resource, bytes, faults)?;
    check_attributes(&mut attributes, &mut dropped_attributes_count, faults);
    Ok((attributes, dropped_attributes_count))
}

fn checked(mut span: Span, faults: &mut Faults) -> Result<Span, Found> {
    id::<16>(&span.trace_id, "traceId")?;
    id::<8>(&span.span_id, "spanId")?;
    check_attributes(&mut span.attributes, &mut span.dropped_attributes_count, faults);
    // Some senders write zeros where there is no parent.
    if span.parent_span_id.iter().all(|byte| *byte == 0) {
        span.parent_span_id.clear();
    } else if let Err(found) = id::<8>(&span.parent_span_id, "the parent's id") {
        span.parent_span_id.clear();
        add_note(&mut span.attributes, format!("its parent is unknown: {}", found.detail));
        faults.note(Fault::BadReference, || found.detail);
    }
    for event in &mut span.events {
        check_attributes(&mut event.attributes, &mut event.dropped_attributes_count, faults);
    }
    let links = span.links.len();
    span.links.retain_mut(|link| {
        check_attributes(&mut link.attributes, &mut link.dropped_attributes_count, faults);
        let ids = id::<16>(&link.trace_id, "traceId").and_then(|()| id::<8>(&link.span_id, "spanId"));
        ids.map_err(|found| faults.note(Fault::BadReference, || found.of("a link").detail)).is_ok()
    });
    if span.links.len() < links {
        // The memory of those that were left out.
        span.links.shrink_to_fit();
    }
    span.dropped_links_count = span.dropped_links_count.saturating_add((links - span.links.len()) as u32);
    let times = Times {
        start: Some(span.start_time_unix_nano).filter(|start| *start > 0),
        end: Some(span.end_time_unix_nano).filter(|end| *end > 0),
        duration: None,
    };
    times.put(&mut span, faults);
    Ok(span)
}

fn id<const N: usize>(bytes: &[u8], what: &str) -> Result<(), Found> {
    match bytes.len() {
        0 => Err(Found::new(Fault::WrongType, format!("{what} is missing"))),
        length if length != N => {
            Err(Found::new(Fault::BadId, format!("{what}: {length} bytes where {N} belong")))
        }
        _ if bytes.iter().all(|byte| *byte == 0) => {
            Err(Found::new(Fault::ZeroId, format!("{what}: {N} zeros")))
        }
        _ => Ok(()),
    }
}

/// Leaves out values that are nested too deeply, and counts them in `dropped`.
fn check_attributes(attributes: &mut Vec<KeyValue>, dropped: &mut u32, faults: &mut Faults) {
    attributes.retain_mut(|attribute| {
        rename_reserved(&mut attribute.key, faults);
        if let Some(any_value::Value::StringValue(text)) = value(attribute) {
            check_length(&attribute.key, text, faults);
        }
        let fits = attribute.value.as_ref().is_none_or(|value| is_within(value, DEEPEST));
        if !fits {
            *dropped = dropped.saturating_add(1);
            let detail = || format!("{}: more than {DEEPEST} values in values", attribute.key);
            faults.note(Fault::TooDeep, detail);
        }
        fits
    });
}

/// Whether at most `depth` values are in each other below the value.
fn is_within(value: &AnyValue, depth: usize) -> bool {
    let mut below: Box<dyn Iterator<Item = &AnyValue>> = match &value.value {
        Some(any_value::Value::ArrayValue(list)) => Box::new(list.values.iter()),
        Some(any_value::Value::KvlistValue(map)) => {
            Box::new(map.values.iter().filter_map(|pair| pair.value.as_ref()))
        }
        _ => return true,
    };
    below.all(|value| depth > 0 && is_within(value, depth - 1))
}
