//! What both formats are made of: ids, times and attributes.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};

use super::Faults;
use super::fault::{Fault, Found};

/// An id in hex, of `N` bytes.
pub(super) fn id<const N: usize>(text: &str, faults: &mut Faults) -> Result<[u8; N], Found> {
    let mut bytes = [0; N];
    // The decoder takes a leading `0x`, which is of no use here.
    if text.len() != 2 * N || const_hex::decode_to_slice(text, &mut bytes).is_err() {
        let shown: String = text.chars().take(40).collect();
        return Err(Found::new(Fault::BadId, format!("{shown:?} where {} hex digits belong", 2 * N)));
    }
    if bytes == [0; N] {
        return Err(Found::new(Fault::ZeroId, format!("{} zeros", 2 * N)));
    }
    if text.bytes().fold(false, |upper, byte| upper | byte.is_ascii_uppercase()) {
        faults.note(Fault::UpperCaseId, || text.to_owned());
    }
    Ok(bytes)
}

/// A parent's: none if it is empty or, as some senders say it, zero.
pub(super) fn parent_id(text: &str, faults: &mut Faults) -> Result<Option<[u8; 8]>, Found> {
    if matches!(text.len(), 0 | 16) && text.bytes().all(|byte| byte == b'0') {
        return Ok(None);
    }
    id(text, faults).map(Some)
}

/// Of a member that must be there.
pub(super) fn required<T>(value: Option<T>, name: &str) -> Result<T, Found> {
    value.ok_or_else(|| Found::new(Fault::WrongType, format!("a span without {name}")))
}

/// Whether nothing is wrong with a time.
pub(super) fn check_times(start_ns: u64, end_ns: u64, faults: &mut Faults) -> Result<(), Found> {
    if start_ns == 0 {
        return Err(Found::new(Fault::BadTime, "the start is 0"));
    }
    if end_ns < start_ns {
        return Err(Found::new(Fault::BadTime, format!("the end {end_ns} is before the start {start_ns}")));
    }
    faults.check_odd_time(start_ns, end_ns);
    Ok(())
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

pub(super) fn check_length(what: &str, text: &str, faults: &mut Faults) {
    if text.len() > LONG {
        faults.note(Fault::LongValue, || format!("{} bytes of {what}", text.len()));
    }
}

pub(super) fn attribute(key: impl Into<String>, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}
