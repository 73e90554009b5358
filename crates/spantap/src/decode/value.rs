//! What both formats are made of: ids, times and attributes.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::Faults;
use super::fault::{Fault, Found};
use super::json::Json;
use crate::attributes::{ODD, ZIPKIN_ID, ZIPKIN_PARENT_ID};

/// An id of `N` bytes, in hex.
#[inline]
pub(super) fn id<const N: usize>(json: &mut Json<'_>) -> Result<[u8; N], Found> {
    let text = json.text()?;
    id_of(&text, &mut json.faults)
}

pub(super) fn id_of<const N: usize>(text: &str, faults: &mut Faults) -> Result<[u8; N], Found> {
    let mut bytes = [0; N];
    // The decoder takes a leading `0x`, which is of no use here.
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

/// An id whose leading zeros were left out, or one in base64, which is how protobuf's JSON has bytes.
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

/// A parent's: none if it is empty or, as some senders say it, zero.
#[inline]
pub(super) fn parent_id(json: &mut Json<'_>) -> Result<Option<[u8; 8]>, Found> {
    let text = json.text()?;
    if text.len() <= 16 && text.bytes().all(|byte| byte == b'0') {
        return Ok(None);
    }
    id_of(&text, &mut json.faults).map(Some)
}

/// Gives `span` its parent, of which this was read, if anything. If it can't be read, the span goes without, and says so.
pub(super) fn put_parent(
    span: &mut Span,
    parent: Option<Result<Option<[u8; 8]>, Found>>,
    faults: &mut Faults,
) {
    match parent {
        None | Some(Ok(None)) => {}
        Some(Ok(Some(parent))) => span.parent_span_id = parent.into(),
        Some(Err(found)) => {
            say(&mut span.attributes, format!("its parent is unknown: {}", found.detail));
            faults.note(Fault::BadReference, || found.of("the parent's id").detail);
        }
    }
}

/// The value of a member that may not be missing; `lack` says what is wrong without it.
pub(super) fn required<T>(value: Option<Result<T, Found>>, lack: &str) -> Result<T, Found> {
    value.unwrap_or_else(|| Err(Found::new(Fault::WrongType, lack)))
}

/// The kind of a span, by its name in OTLP without the beginning that all have.
pub(super) fn kind_named(name: &str) -> Option<i32> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SPAN_KIND_").unwrap_or(&name);
    SpanKind::from_str_name(&format!("SPAN_KIND_{name}")).map(|kind| kind as i32)
}

/// Either alphabet of base64, with or without padding.
pub(super) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    const ANY: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, ANY).decode(text).ok()
}

/// Says in the attributes of a span or an event what was odd about it, for whoever looks at it anywhere.
#[cold]
pub(super) fn say(attributes: &mut Vec<KeyValue>, what: impl Into<String>) {
    let what = what.into();
    let said = attributes.iter_mut().find(|attribute| attribute.key == ODD);
    match said.and_then(|said| said.value.as_mut()?.value.as_mut()) {
        Some(any_value::Value::StringValue(said)) => *said = format!("{said}; {what}"),
        _ => attributes.push(attribute(ODD, any_value::Value::StringValue(what))),
    }
}

/// A usual datagram of ours has about so many spans, and a span so many attributes. A list that grows from
/// nothing is copied at 4, 8 and 16 of them.
pub(super) const USUAL_SPANS: usize = 64;
pub(super) const USUAL_ATTRIBUTES: usize = 12;

/// Gives back the room that an unusually short list doesn't need: a stranger's may be short, and many.
pub(super) fn trim<T>(list: &mut Vec<T>) {
    if list.len() < list.capacity() / 2 {
        list.shrink_to_fit();
    }
}

/// Longer values than this are worth a word.
pub(super) const LONG: usize = 64 * 1024;

#[inline]
pub(super) fn check_length(what: &str, text: &str, faults: &mut Faults) {
    if text.len() > LONG {
        faults.note(Fault::LongValue, || format!("{} bytes of {what}", text.len()));
    }
}

/// Renames a sender's attribute whose key is reserved for the ids of shared spans: the sinks and the tree take these as
/// the span's own. `zipkin.id` becomes `sent.zipkin.id`.
#[inline]
pub(super) fn rename_reserved(key: &mut String) {
    if key.starts_with("zipkin.") && matches!(key.as_str(), ZIPKIN_ID | ZIPKIN_PARENT_ID) {
        key.insert_str(0, "sent.");
    }
}

pub(super) fn attribute(key: impl Into<String>, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}
