//! Reads what all formats have: ids, parents, kinds and attributes.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::fault::{Fault, Found};
use super::faults::Faults;
use super::json::Json;
use crate::span::attributes::{ODD, attribute};
use crate::span::zipkin::{ZIPKIN_ID, ZIPKIN_PARENT_ID};

/// Reads an id of `N` bytes, in hex.
#[inline]
pub(super) fn id<const N: usize>(json: &mut Json<'_>) -> Result<[u8; N], Found> {
    let text = json.text()?;
    id_of(&text, &mut json.faults)
}

pub(super) fn id_of<const N: usize>(text: &str, faults: &mut Faults) -> Result<[u8; N], Found> {
    let mut bytes = [0; N];
    // const-hex accepts a leading `0x`; the length rules that out.
    if text.len() != 2 * N || const_hex::decode_to_slice(text, &mut bytes).is_err() {
        bytes = unusual_id(text).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            Found::new(Fault::BadId, format!("{shown:?} where up to {} hex digits belong", 2 * N))
        })?;
    } else if text.bytes().fold(false, |upper, byte| upper | byte.is_ascii_uppercase()) {
        faults.note(Fault::UpperCaseId, || text.to_owned());
    }
    match bytes == [0; N] {
        true => Err(Found::new(Fault::ZeroId, format!("{} zeros", text.len()))),
        false => Ok(bytes),
    }
}

/// Reads an id without its leading zeros, or in base64, as protobuf's JSON writes bytes.
#[cold]
fn unusual_id<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_hex = (1..2 * N).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex {
        let digits = 2 * N;
        const_hex::decode_to_slice(format!("{text:0>digits$}"), &mut bytes).ok()?;
        return Some(bytes);
    }
    bytes_of(text)?.try_into().ok()
}

/// Reads a parent's id. An empty id means no parent, and so does zero, which some senders write.
#[inline]
pub(super) fn parent_id(json: &mut Json<'_>) -> Result<Option<[u8; 8]>, Found> {
    let text = json.text()?;
    if text.len() <= 16 && text.bytes().all(|byte| byte == b'0') {
        return Ok(None);
    }
    id_of(&text, &mut json.faults).map(Some)
}

/// Sets the parent of `span`, if one was read. If its id can't be read, the span has no parent, and a note explains why.
pub(super) fn put_parent(
    span: &mut Span,
    parent: Option<Result<Option<[u8; 8]>, Found>>,
    faults: &mut Faults,
) {
    match parent {
        None | Some(Ok(None)) => {}
        Some(Ok(Some(parent))) => span.parent_span_id = parent.into(),
        Some(Err(found)) => {
            add_note(&mut span.attributes, format!("its parent is unknown: {}", found.detail));
            faults.note(Fault::BadReference, || found.of("the parent's id").detail);
        }
    }
}

/// The value of a required member; `detail` describes the fault if it is missing.
pub(super) fn required<T>(value: Option<Result<T, Found>>, detail: &str) -> Result<T, Found> {
    value.unwrap_or_else(|| Err(Found::new(Fault::WrongType, detail)))
}

/// The kind of a span by its name in OTLP, with or without the prefix `SPAN_KIND_`.
pub(super) fn kind_named(name: &str) -> Option<i32> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SPAN_KIND_").unwrap_or(&name);
    SpanKind::from_str_name(&format!("SPAN_KIND_{name}")).map(|kind| kind as i32)
}

/// Decodes base64 in either alphabet, with or without padding.
pub(super) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    const ANY: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, ANY).decode(text).ok()
}

/// Adds a note on what is odd about a span to its attributes, so that every backend shows it.
#[cold]
pub(super) fn add_note(attributes: &mut Vec<KeyValue>, note: impl Into<String>) {
    let note = note.into();
    let notes = attributes.iter_mut().find(|attribute| attribute.key == ODD);
    match notes.and_then(|notes| notes.value.as_mut()?.value.as_mut()) {
        Some(any_value::Value::StringValue(notes)) => *notes = format!("{notes}; {note}"),
        _ => attributes.push(attribute(ODD, any_value::Value::StringValue(note))),
    }
}

/// The initial capacity for the spans of a datagram and for the attributes of a span: the usual numbers from
/// tracing-usdt. A list that grows from nothing is copied at 4, 8 and 16 elements.
pub(super) const USUAL_SPANS: usize = 64;
pub(super) const USUAL_ATTRIBUTES: usize = 12;

/// Frees the unused capacity of a short list. Untrusted senders may send very many short lists.
pub(super) fn trim<T>(list: &mut Vec<T>) {
    if list.len() < list.capacity() / 2 {
        list.shrink_to_fit();
    }
}

/// Values longer than this are recorded as a fault.
pub(super) const LONG: usize = 64 * 1024;

#[inline]
pub(super) fn check_length(what: &str, text: &str, faults: &mut Faults) {
    if text.len() > LONG {
        faults.note(Fault::LongValue, || format!("{} bytes of {what}", text.len()));
    }
}

/// Renames a sender's attribute if its key is reserved for the ids of shared spans, which the sinks and the tree use.
/// `zipkin.id` becomes `sent.zipkin.id`.
#[inline]
pub(super) fn rename_reserved(key: &mut String, faults: &Faults) {
    if is_reserved(key) && !faults.keeps_reserved {
        key.insert_str(0, "sent.");
    }
}

#[inline]
pub(super) fn is_reserved(key: &str) -> bool {
    key.starts_with("zipkin.") && matches!(key, ZIPKIN_ID | ZIPKIN_PARENT_ID)
}
